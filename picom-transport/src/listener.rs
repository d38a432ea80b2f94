//! Accepting connections: what a listener is, its limits, and how it all ends. The loop is in `accepting.rs`.

mod accepting;

use crate::classic::{ClassicHandle, HeaderBudget, Served};
use crate::conn::{Connection, StreamHandler};
use crate::connector::{Acceptor, BoxIo};
use crate::proto::{ConfigError, ConnectionConfig, ConnectionError, Identity};
use crate::unready::{Admission, Unready};
use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{self, Instant};

/// The loop gives a sign of life so often even if nobody connects: a few times within the shortest time to live, 1 s.
const TICK: Duration = Duration::from_millis(250);
/// One in so many connections that are closed to make room is worth a line of the log.
const SELDOM: u64 = 1000;
/// Some callers at once that each open as many as the kernel keeps for us (`BACKLOG` in tcp.rs): 60 MB if none of them says
/// anything, and fewer descriptors than services are usually given; where they are not, running out of them is what makes room.
const UNREADY: usize = 16_384;
/// What headers of classic calls may hold while they arrive: as much as one connection that has shaken hands.
const UNREADY_BYTES: u64 = 64 * 1024 * 1024;

/// The limits of a listener.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Of each connection.
    pub connection: ConnectionConfig,
    /// Connections that have not shaken hands, or not said what they call: at most so many. Each holds at most a frame for at
    /// most `hello_timeout`; one that is silent holds 3.6 KB (measured in tests/alloc). When more come they wait unaccepted until
    /// there is room; the one that has been silent the longest, and for over a second, is then closed for them. So it
    /// is when the process has no descriptors left.
    pub unready_limit: usize,
    /// What headers of classic calls that are still arriving may hold in all beyond a frame each, in bytes: of their
    /// buffers, which may be twice what has arrived. One for which there is no room is read on when others are complete, or
    /// cut off after the stall time-out. With room for four messages, as by default, one of them can always go on.
    pub unready_bytes: u64,
    /// Whether callers of the Node library 0.3.x are answered (PROTOCOL §12).
    pub classic: bool,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            connection: ConnectionConfig::for_server(),
            unready_limit: UNREADY,
            unready_bytes: UNREADY_BYTES,
            classic: true,
        }
    }
}

/// Counters of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenerStats {
    /// Connections that stand.
    pub connections: usize,
    /// Of them, those that speak classic: each is one call.
    pub classic: usize,
    /// Of them, those that have not shaken hands, or not said what they call.
    pub unready: usize,
    /// What headers of classic calls hold of `unready_bytes`.
    pub unready_bytes: u64,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Connections closed to make room (`unready_limit`), or for want of it (`unready_bytes`).
    pub turned_away: u64,
    /// Errors of accept.
    pub accept_errors: u64,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections whose streams all ended in time.
    pub finished: usize,
    /// Connections that were cut with streams open.
    pub cut: usize,
    /// Streams that were cut.
    pub streams_cut: usize,
}

/// Accepts connections and hands their calls to a handler, until it is told to stop. A cheap handle.
#[derive(Clone)]
pub struct Listener {
    inner: Arc<Inner>,
}

struct Inner {
    address: String,
    identity: Identity,
    config: ListenerConfig,
    handler: Arc<dyn StreamHandler>,
    open: Mutex<Open>,
    /// Told when one of the unready is ready or gone.
    room: Notify,
    headers: Arc<HeaderBudget>,
    accepted: AtomicU64,
    turned_away: AtomicU64,
    accept_errors: AtomicU64,
    born: Instant,
    /// Milliseconds after `born` at which the loop last went round.
    ticked: AtomicU64,
    stop: watch::Sender<Stop>,
    /// The loop has ended, and the address is free.
    over: watch::Sender<bool>,
    emptied: Notify,
}

/// Whether the loop is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Not,
    /// When it has let in who waits already.
    InOrder,
    AtOnce,
}

struct Open {
    unready: Unready,
    connections: HashMap<u64, Connection>,
    classic: HashMap<u64, ClassicHandle>,
    draining: bool,
    /// When what is left of classic calls is cut.
    cut_at: Option<Instant>,
    /// Classic calls under way at the beginning of the drain that were cut, and that were not.
    classic_cut: usize,
    classic_finished: usize,
}

impl Open {
    fn new(unready_limit: usize) -> Self {
        Open {
            unready: Unready::new(unready_limit),
            connections: HashMap::new(),
            classic: HashMap::new(),
            draining: false,
            cut_at: None,
            classic_cut: 0,
            classic_finished: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.classic.is_empty()
    }

    fn handles(&self) -> (Vec<Connection>, Vec<ClassicHandle>) {
        let native = self.connections.values().cloned().collect();
        (native, self.classic.values().cloned().collect())
    }
}

impl Listener {
    /// Starts the loop. Connections are of `identity`: a client that means another one is refused.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(
        acceptor: Arc<dyn Acceptor>,
        identity: Identity,
        config: ListenerConfig,
        handler: Arc<dyn StreamHandler>,
    ) -> Result<Listener, ConfigError> {
        config.connection.check()?;
        let open = Mutex::new(Open::new(config.unready_limit));
        // A buffer may be twice what has arrived.
        let most = config.connection.message_limit.saturating_mul(2);
        let inner = Arc::new(Inner {
            address: acceptor.local_addr(),
            identity,
            headers: HeaderBudget::new(config.unready_bytes, most),
            config,
            handler,
            open,
            room: Notify::new(),
            accepted: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
            born: Instant::now(),
            ticked: AtomicU64::new(0),
            stop: watch::Sender::new(Stop::Not),
            over: watch::Sender::new(false),
            emptied: Notify::new(),
        });
        tokio::spawn(accepting::accept(inner.clone(), acceptor));
        Ok(Listener { inner })
    }

    /// Where it accepts, as `host:port`.
    pub fn local_addr(&self) -> String {
        self.inner.address.clone()
    }

    /// Whether the loop has gone round within this time. It does so four times a second, and once a second while accepting
    /// fails; the quarter of a second is allowed on top.
    pub fn is_alive(&self, within: Duration) -> bool {
        let now = self.inner.born.elapsed();
        let ticked = Duration::from_millis(self.inner.ticked.load(Ordering::Relaxed));
        now.saturating_sub(ticked) <= within + TICK
    }

    /// Begins to end: every connection is told to open no more streams, and new ones learn it from hello. Goes on accepting.
    pub fn start_drain(&self, grace: Duration) {
        let (connections, classic) = {
            let mut open = self.inner.open();
            open.draining = true;
            open.cut_at = Some(Instant::now() + grace);
            open.handles()
        };
        for connection in connections {
            connection.drain(grace);
        }
        for handle in classic {
            handle.drain(grace);
        }
    }

    /// Accepts no more than what the kernel has connected already: that would be reset with the listening socket, and may have
    /// sent a call. What stands, stands.
    pub fn stop_accepting(&self) {
        self.stop(Stop::InOrder);
    }

    fn stop(&self, how: Stop) {
        self.inner.stop.send_if_modified(|stop| {
            let more = *stop == Stop::Not || how == Stop::AtOnce;
            *stop = if more { how } else { *stop };
            more
        });
    }

    /// Waits until every connection has ended, and says how. Begin with [`start_drain`](Self::start_drain), whose grace bounds
    /// this. Cancel safe.
    pub async fn drained(&self) -> DrainReport {
        let mut report = DrainReport::default();
        let mut connections = self.inner.open().connections.clone();
        let stops = *self.inner.stop.borrow() != Stop::Not;
        if stops {
            // Until then more are let in.
            let _ = self.inner.over.subscribe().wait_for(|over| *over).await;
            let open = self.inner.open();
            connections.extend(
                open.connections
                    .iter()
                    .map(|(number, new)| (*number, new.clone())),
            );
        }
        for connection in connections.into_values() {
            let error = connection.closed().await;
            // Of those that turned out to be classic calls more is known below.
            if matches!(*error, ConnectionError::NotPicom(_)) {
                continue;
            }
            let cut = connection.stats().cut as usize;
            report.streams_cut += cut;
            report.cut += usize::from(cut > 0);
            report.finished += usize::from(cut == 0);
        }
        loop {
            let emptied = self.inner.emptied.notified();
            {
                let open = self.inner.open();
                if open.is_empty() {
                    report.cut += open.classic_cut;
                    report.streams_cut += open.classic_cut;
                    report.finished += open.classic_finished;
                    return report;
                }
            }
            emptied.await;
        }
    }

    /// Ends everything at once.
    pub fn close(&self) {
        self.stop(Stop::AtOnce);
        let (connections, classic) = self.inner.open().handles();
        for connection in connections {
            connection.close("the listener was closed");
        }
        for handle in classic {
            handle.close();
        }
    }

    /// Counters.
    pub fn stats(&self) -> ListenerStats {
        let inner = &self.inner;
        let (native, classic, unready) = {
            let open = inner.open();
            (open.connections.len(), open.classic.len(), open.unready.len())
        };
        ListenerStats {
            connections: native + classic,
            classic,
            unready,
            unready_bytes: inner.headers.used(),
            accepted: inner.accepted.load(Ordering::Relaxed),
            turned_away: inner.turned_away.load(Ordering::Relaxed) + inner.headers.refused(),
            accept_errors: inner.accept_errors.load(Ordering::Relaxed),
        }
    }
}

/// When bytes of a connection came last: of one that speaks classic, since a hello comes in one piece.
fn last_heard(classic: &HashMap<u64, ClassicHandle>) -> impl Fn(u64) -> Option<std::time::Instant> {
    |number| classic.get(&number).map(ClassicHandle::heard)
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ticked.store(now, Ordering::Relaxed);
    }

    /// Waits until one more may be let in. False: never.
    async fn make_room(&self) -> bool {
        loop {
            // Enlisted before looking: room that is made between the two is not missed.
            let mut made = pin!(self.room.notified());
            made.as_mut().enable();
            let admission = {
                let mut open = self.open();
                let Open { unready, classic, .. } = &mut *open;
                unready.admission(Instant::now().into_std(), last_heard(classic))
            };
            match admission {
                Admission::Room => return true,
                Admission::Never => return false,
                Admission::Wait(until) => {
                    self.tick();
                    tokio::select! {
                        () = made => {}
                        () = time::sleep_until(until.into()) => {}
                    }
                }
                Admission::Evict(number) => self.evict(number),
            }
        }
    }

    /// Closes the connection that has been silent the longest, if it has been so for too long. Whether there was one.
    fn evict_silent(&self) -> bool {
        let silent = {
            let mut open = self.open();
            let Open { unready, classic, .. } = &mut *open;
            unready.silent(Instant::now().into_std(), last_heard(classic))
        };
        if let Some(number) = silent {
            self.evict(number);
        }
        silent.is_some()
    }

    fn evict(&self, number: u64) {
        self.ready(number);
        let evicted = self.turned_away.fetch_add(1, Ordering::Relaxed);
        // Said when it begins and then seldom: under attack there are thousands a second.
        if evicted.is_multiple_of(SELDOM) {
            tracing::warn!(
                limit = self.config.unready_limit,
                closed = evicted + 1,
                "connections that say nothing are closed to make room for others"
            );
        }
        let (native, classic) = {
            let open = self.open();
            let classic = open.classic.get(&number).cloned();
            (open.connections.get(&number).cloned(), classic)
        };
        // Outside the lock of the table, which their ends take.
        if let Some(connection) = native {
            connection.close("it said nothing, and others wait");
        }
        if let Some(handle) = classic {
            handle.close();
        }
    }

    /// It has said what it is, or is gone: its place is free.
    fn ready(&self, number: u64) {
        if self.open().unready.remove(number) {
            self.room.notify_one();
        }
    }

    /// A byte stream has come.
    fn welcome(self: &Arc<Self>, io: BoxIo, address: String) {
        let number = self.accepted.fetch_add(1, Ordering::Relaxed);
        let connection = {
            let mut open = self.open();
            if *self.stop.borrow() == Stop::AtOnce {
                return;
            }
            let (identity, config) = (self.identity.clone(), self.config.connection.clone());
            let started = Connection::server(
                io,
                address.clone(),
                identity,
                open.draining,
                config,
                self.handler.clone(),
            );
            let connection = match started {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::error!(%error, "a connection could not be started");
                    return;
                }
            };
            if self.config.classic {
                connection.want_classic();
            }
            open.connections.insert(number, connection.clone());
            open.unready.insert(number, Instant::now().into_std());
            connection
        };
        tracing::debug!(%address, "accepted");
        let begun = Instant::now();
        let inner = self.clone();
        tokio::spawn(async move {
            let established = connection.established().await;
            if established.is_err()
                && let Some(handle) = inner.take_over(number, &connection, &address, begun)
            {
                // Boxed: it is the exception, and this future is kept for each connection.
                return Box::pin(inner.attend_classic(number, handle, address)).await;
            }
            inner.ready(number);
            let error = connection.closed().await;
            match established {
                Ok(()) => tracing::debug!(%address, %error, "closed"),
                Err(_) => tracing::debug!(%address, %error, "closed before the handshake was complete"),
            }
            let last = {
                let mut open = inner.open();
                open.connections.remove(&number);
                open.is_empty()
            };
            if last {
                inner.emptied.notify_waiters();
            }
        });
    }

    /// Waits for the end of a classic connection, and before for its call.
    async fn attend_classic(self: Arc<Self>, number: u64, handle: ClassicHandle, address: String) {
        handle.called().await;
        self.ready(number);
        handle.closed().await;
        self.classic_closed(number, &handle);
        tracing::debug!(%address, "closed");
    }

    /// The client speaks classic: its byte stream gets a driver of that dialect. `None` if it does not.
    fn take_over(
        &self,
        number: u64,
        connection: &Connection,
        address: &str,
        begun: Instant,
    ) -> Option<ClassicHandle> {
        let (io, read) = connection.take_classic()?;
        tracing::debug!(%address, "a classic call");
        let served = Served {
            io,
            read,
            peer: address.to_owned(),
            service: self.identity.service.clone().unwrap_or_else(|| "".into()),
            config: self.config.connection.clone(),
            handler: self.handler.clone(),
            begun: begun.into_std(),
            headers: self.headers.clone(),
        };
        // One after the other under one lock: the drain finds it in one of the two tables.
        let mut open = self.open();
        let handle = served.start();
        open.connections.remove(&number);
        open.classic.insert(number, handle.clone());
        if let Some(until) = open.cut_at {
            handle.drain(until.saturating_duration_since(Instant::now()));
        }
        Some(handle)
    }

    fn classic_closed(&self, number: u64, handle: &ClassicHandle) {
        let last = {
            let mut open = self.open();
            open.classic.remove(&number);
            if open.draining {
                let cut = usize::from(handle.was_cut());
                open.classic_cut += cut;
                open.classic_finished += 1 - cut;
            }
            open.is_empty()
        };
        if last {
            self.emptied.notify_waiters();
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local_addr", &self.local_addr())
            .finish_non_exhaustive()
    }
}
