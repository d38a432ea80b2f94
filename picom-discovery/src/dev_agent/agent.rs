//! Dev agents to hold: one with a port and a thread of its own, one without either for tests under virtual time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::config::DevAgentConfig;
use super::error::DevAgentError;
use super::faults::{Faults, Restart};
use super::hub::{Counters, Hub};
use super::server;

/// How long a stop waits for answers that are on their way.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// How much an in-memory connection holds in each direction: as much as a socket would take.
const PIPE: usize = 64 * 1024;

/// An agent that speaks Consul's HTTP API on a loopback port, on a thread with a runtime of its own: a caller whose
/// runtime is blocked does not stop it.
///
/// Dropping it ends it without waiting; [`stop`](Self::stop) waits.
#[derive(Debug)]
pub struct DevAgent {
    addr: SocketAddr,
    hub: HubHandle,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

impl DevAgent {
    /// Starts an agent; when this returns, it listens. The caller need not be in a runtime of any particular kind.
    ///
    /// Cancel safe: the agent ends if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`DevAgentError::NotLoopback`], [`DevAgentError::Bind`] or [`DevAgentError::Thread`].
    pub async fn start(config: DevAgentConfig) -> Result<DevAgent, DevAgentError> {
        let addr = config.bind;
        if !addr.ip().is_loopback() {
            return Err(DevAgentError::NotLoopback { addr });
        }
        let bind = |source| DevAgentError::Bind {
            addr,
            source: Arc::new(source),
        };
        let listener = server::bind(addr).map_err(bind)?;
        let addr = listener.local_addr().map_err(bind)?;
        let (stop, stopped) = watch::channel(false);
        let (ending, ended) = watch::channel(false);
        let (ready, started) = oneshot::channel();
        std::thread::Builder::new()
            .name("picom-dev-agent".to_owned())
            .spawn(move || {
                run(config, listener, addr, stopped, ready);
                drop(ending);
            })
            .map_err(|error| DevAgentError::Thread(Arc::new(error)))?;
        let hub = started
            .await
            .map_err(|_| DevAgentError::Ended)?
            .map_err(|error| DevAgentError::Thread(Arc::new(error)))?;
        tracing::debug!(%addr, "dev agent listens");
        Ok(DevAgent {
            addr,
            hub,
            stop,
            ended,
        })
    }

    /// An agent without a port, a thread or a clock of its own: it lives on the caller's runtime, so that time may be
    /// paused.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn in_memory(config: DevAgentConfig) -> InMemoryAgent {
        let hub = Hub::new(&config);
        let time = tokio::spawn(hub.clone().keep_time());
        InMemoryAgent {
            hub: HubHandle(hub),
            time,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What can be made to go wrong.
    pub fn faults(&self) -> Faults {
        self.hub.0.faults.clone()
    }

    /// Waits until it listens, or until it does not: [`Faults::go_away`] and [`Faults::come_back`] are carried out by
    /// its own thread. Cancel safe.
    pub async fn until_listening(&self, listening: bool) {
        // It fails only without a sender, and `self` holds one.
        drop(
            self.hub
                .0
                .listening
                .subscribe()
                .wait_for(|now| *now == listening)
                .await,
        );
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        self.hub.0.counters()
    }

    /// Ends it as SIGTERM ends Consul: blocked reads are answered with what they saw, then all connections close. Takes
    /// 250 ms at most and returns when the port is free.
    ///
    /// Cancel safe: it ends all the same.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.ended().await;
    }

    /// Returns when its thread has ended.
    pub(crate) async fn ended(&self) {
        // Fails when the thread drops its end, which is what is waited for.
        drop(self.ended.clone().wait_for(|ended| *ended).await);
    }
}

/// An agent on the caller's runtime; see [`DevAgent::in_memory`]. Dropping it stops its clock and drops the
/// connections made by [`connect`](Self::connect).
#[derive(Debug)]
pub struct InMemoryAgent {
    hub: HubHandle,
    time: JoinHandle<()>,
}

impl InMemoryAgent {
    /// Opens a connection: HTTP/1.1 is served at the other end of the returned pipe, on a task of the current runtime.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` while the agent is [away](Faults::go_away).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        let board = self.hub.0.faults.watch();
        if board.borrow().down {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = tokio::io::duplex(PIPE);
        tokio::spawn(server::serve(self.hub.0.clone(), far));
        Ok(near)
    }

    /// Serves HTTP/1.1 on a connection of the caller's making until it ends.
    ///
    /// Cancel safe: dropping the future closes the connection.
    pub async fn serve_connection<I>(&self, io: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        server::serve(self.hub.0.clone(), io).await;
    }

    /// What can be made to go wrong.
    pub fn faults(&self) -> Faults {
        self.hub.0.faults.clone()
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        self.hub.0.counters()
    }
}

impl Drop for InMemoryAgent {
    fn drop(&mut self) {
        self.time.abort();
        self.hub.0.faults.drop_connections();
    }
}

struct HubHandle(Arc<Hub>);

impl std::fmt::Debug for HubHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.counters().fmt(f)
    }
}

/// The thread of an agent.
fn run(
    config: DevAgentConfig,
    listener: std::net::TcpListener,
    addr: SocketAddr,
    mut stopped: watch::Receiver<bool>,
    ready: oneshot::Sender<io::Result<HubHandle>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let hub = Hub::new(&config);
        let time = tokio::spawn(hub.clone().keep_time());
        let accept = tokio::spawn(server::accept(hub.clone(), listener, addr));
        if ready.send(Ok(HubHandle(hub.clone()))).is_ok() {
            // An error means that the agent was dropped.
            drop(stopped.wait_for(|stop| *stop).await);
        }
        accept.abort();
        drop(accept.await);
        hub.faults.resume();
        hub.faults.restart(Restart::Terminated);
        drop(tokio::time::timeout(LAST_WORDS, hub.all_closed()).await);
        time.abort();
    });
    // Whatever is left is dropped with the runtime, its connections included.
    runtime.shutdown_background();
}
