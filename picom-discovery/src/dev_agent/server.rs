//! Connections: accepting them, serving HTTP/1.1 on them, and ending them when the fault board or a stop says so.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until};

use super::hub::Hub;

/// Room for a request's head: Consul's Go server takes 1 MiB, nothing sent here needs more than a note of 4 KiB.
const HEAD_LIMIT: usize = 64 * 1024;

/// Headers in one request.
const MOST_HEADERS: usize = 100;

/// How long a connection may go on after a termination, for answers that are on their way.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Rests between attempts to accept after an error such as too many open files, and to take a port back.
const FIRST_REST: Duration = Duration::from_millis(10);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Serves HTTP on one connection until it ends or the board ends it.
///
/// Cancel safe: dropping it closes the connection.
pub(crate) async fn serve<I>(hub: Arc<Hub>, io: I)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    hub.connections.fetch_add(1, Ordering::Relaxed);
    let _open = Open(&hub);
    let mut board = hub.faults.watch();
    let (down, drops, terminations) = {
        let board = board.borrow_and_update();
        (board.down, board.drops, board.terminations)
    };
    if down {
        // It was accepted just before the agent went away.
        return;
    }
    let service = service_fn(|request| hub.clone().respond(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(hub.head_timeout)
        .max_buf_size(HEAD_LIMIT)
        .max_headers(MOST_HEADERS)
        // Consul's own spelling, X-Consul-Knownleader: a client must not depend on it, and this shows if it does.
        .title_case_headers(true)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let mut deadline = None;
    loop {
        tokio::select! {
            biased;
            changed = board.changed() => {
                let now = board.borrow_and_update();
                if changed.is_err() || now.drops != drops {
                    return;
                }
                if now.terminations != terminations && deadline.is_none() {
                    drop(now);
                    connection.as_mut().graceful_shutdown();
                    deadline = Some(Instant::now() + LAST_WORDS);
                }
            }
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = at(deadline) => return,
        }
    }
}

struct Open<'a>(&'a Hub);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Accepts on a listener until it is dropped. While the board says that the agent is away there is no listener.
pub(crate) async fn accept(hub: Arc<Hub>, listener: TcpListener, addr: SocketAddr) {
    let mut board = hub.faults.watch();
    let counts = Arc::new(Counts::default());
    let mut listener = Some(listener);
    let mut rest = FIRST_REST;
    loop {
        let down = board.borrow_and_update().down;
        let Some(open) = listener.as_ref().filter(|_| !down) else {
            if down {
                listener = None;
                hub.listening.send_replace(false);
                if board.changed().await.is_err() {
                    return;
                }
            } else {
                match TcpListener::bind(addr).await {
                    Ok(bound) => {
                        listener = Some(bound);
                        hub.listening.send_replace(true);
                    }
                    Err(error) => {
                        tracing::debug!(%addr, %error, "could not listen again yet");
                        rest = pause(rest).await;
                    }
                }
            }
            continue;
        };
        let accepted = tokio::select! {
            accepted = open.accept() => accepted,
            changed = board.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                rest = FIRST_REST;
                admit(&hub, &counts, stream, peer.ip());
            }
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                rest = pause(rest).await;
            }
        }
    }
}

async fn pause(rest: Duration) -> Duration {
    sleep(rest).await;
    (rest * 2).min(LONGEST_REST)
}

fn admit(hub: &Arc<Hub>, counts: &Arc<Counts>, stream: TcpStream, peer: IpAddr) {
    let board = hub.faults.watch();
    let cap = board.borrow().connection_cap.unwrap_or(hub.connection_cap);
    let Some(place) = Counts::take(counts, peer, cap) else {
        tracing::debug!(%peer, cap, "connection reset: over the limit");
        // Consul 1.8 resets the connection without an answer.
        drop(stream.set_zero_linger());
        return;
    };
    drop(stream.set_nodelay(true));
    let hub = hub.clone();
    tokio::spawn(async move {
        let _place = place;
        serve(hub, stream).await;
    });
}

/// Connections of each client address.
#[derive(Default)]
struct Counts(Mutex<HashMap<IpAddr, usize>>);

impl Counts {
    fn take(counts: &Arc<Counts>, peer: IpAddr, cap: usize) -> Option<Place> {
        let mut open = counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.get(&peer).copied().unwrap_or_default();
        if count >= cap {
            return None;
        }
        open.insert(peer, count + 1);
        Some(Place {
            counts: counts.clone(),
            peer,
        })
    }
}

struct Place {
    counts: Arc<Counts>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

/// Binds a loopback address without a runtime.
pub(crate) fn bind(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    // The standard library sets SO_REUSEADDR where that only means "in spite of old connections in TIME_WAIT".
    let listener = std::net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
