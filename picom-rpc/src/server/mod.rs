//! The answering side: methods offered at a listener, announced in discovery, and ended in order.

mod dispatch;
mod drain;
mod handler;
mod limit;
mod methods;
mod pace;
mod router;

pub use drain::EndReport;
pub use handler::{Answer, Exchange, Handler};
pub use methods::{Methods, MethodsError, MethodsWith};

use dispatch::{Counters, Dispatch};
use drain::Ending;
use limit::Limit;
use picom_codec::Limits;
use picom_discovery::{AliveProbe, Discovery, Lease, LeaseState, OnUnavailable, RegisterError, Registration};
use picom_transport::{Acceptor, ConfigError, Identity, Listener, ListenerConfig, ListenerStats};
use router::Router;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a server answers and ends, each default with its reason.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// The listener and its connections.
    pub listener: ListenerConfig,
    /// Depth and number of values that arguments and input may have.
    pub limits: Limits,
    /// Handlers that may run at a time, in all: 128 connections with all their streams. More calls are refused, and run
    /// elsewhere.
    pub handlers: usize,
    /// How long calls are still taken after the registration was taken back: callers learn of it by their watch within
    /// milliseconds, a second covers a busy registry.
    pub keep_accepting: Duration,
    /// How long calls under way may take to finish at the end. 30 s: as long as a `fetch` may take.
    pub drain_timeout: Duration,
    /// How long the registry may take to confirm that the registration is gone. It is bounded apart, so that a dead
    /// registry does not cost the calls their time.
    pub leave_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            listener: ListenerConfig::default(),
            limits: Limits::default(),
            handlers: limit::HANDLERS,
            keep_accepting: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(30),
            leave_timeout: Duration::from_secs(5),
        }
    }
}

/// Why methods cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A mistake in the methods.
    #[error("the methods cannot be exposed")]
    Methods(#[from] MethodsError),
    /// The configuration does not fit.
    #[error("the configuration of the listener does not fit")]
    Config(#[from] ConfigError),
}

/// A running server. A cheap handle: dropping it changes nothing, only [`end`](Self::end) ends the server. (What runs
/// holds what it needs, the registration included.)
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    listener: Mutex<Option<Listener>>,
    address: String,
    lease: Mutex<Announced>,
    limit: Arc<Limit>,
    counters: Arc<Counters>,
    config: ServerConfig,
    ending: Ending,
}

/// Whether the server is announced.
enum Announced {
    Not,
    By(Lease),
    /// The server ends or has ended: it is not announced any more.
    Ended,
}

/// How a server stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Where it listens.
    pub address: String,
    /// How its registration stands; `None` if it was not announced, or the registration was taken back.
    pub lease: Option<LeaseState>,
    /// Its connections; `None` once it has ended.
    pub listener: Option<ListenerStats>,
    /// Handlers at work.
    pub handlers_running: usize,
    /// Handlers started so far.
    pub handlers_started: u64,
    /// Handlers that panicked.
    pub handlers_panicked: u64,
    /// Handlers dropped because their call had ended.
    pub handlers_cancelled: u64,
    /// Calls refused because [`ServerConfig::handlers`] were at work.
    pub calls_refused: u64,
    /// Calls whose time had passed before they began.
    pub calls_overdue: u64,
    /// Calls of methods that do not exist.
    pub calls_unknown: u64,
}

impl Server {
    /// Starts to answer what `acceptor` accepts, as `identity`. Nobody is told yet: see [`announce`](Self::announce).
    ///
    /// # Errors
    ///
    /// A mistake in the methods or in the configuration.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(
        acceptor: Arc<dyn Acceptor>,
        identity: Identity,
        methods: impl Into<Methods>,
        config: ServerConfig,
    ) -> Result<Server, ServeError> {
        let service = identity.service.clone().unwrap_or_else(|| "".into());
        let router = Router::new(service, methods.into())?;
        let (limit, counters) = (Limit::new(config.handlers), Arc::<Counters>::default());
        let dispatch = Dispatch::new(router, limit.clone(), config.limits, counters.clone());
        let listener = Listener::start(acceptor, identity, config.listener.clone(), Arc::new(dispatch))?;
        let inner = Arc::new(Inner {
            address: listener.local_addr(),
            listener: Mutex::new(Some(listener)),
            lease: Mutex::new(Announced::Not),
            limit,
            counters,
            config,
            ending: Ending::new(),
        });
        // What keeps the server alive when every handle is dropped.
        tokio::spawn(Ending::guard(inner.clone()));
        Ok(Server { inner })
    }

    /// Announces the server in discovery, and keeps it announced until it ends. Its check passes while the accept loop
    /// goes round at least once a time to live.
    ///
    /// Cancel safe: dropped before it is ready, the registration is taken back. So it is if the server ends meanwhile.
    ///
    /// # Errors
    ///
    /// What discovery says.
    pub async fn announce(
        &self,
        discovery: &dyn Discovery,
        registration: Registration,
        on_unavailable: OnUnavailable,
    ) -> Result<(), RegisterError> {
        // Weak: who keeps the registration must not keep the listening socket.
        let (inner, within) = (Arc::downgrade(&self.inner), registration.ttl());
        let goes_round = move || {
            let inner = inner.upgrade();
            inner.is_some_and(|inner| {
                inner
                    .listener()
                    .as_ref()
                    .is_some_and(|listener| listener.is_alive(within))
            })
        };
        let registration = registration.with_alive(AliveProbe::new(goes_round));
        let lease = discovery.register(registration, on_unavailable).await?;
        let late = {
            let mut slot = self.inner.lease();
            match &*slot {
                Announced::Ended => Some(lease),
                _ => {
                    *slot = Announced::By(lease);
                    None
                }
            }
        };
        if let Some(lease) = late {
            // Ended meanwhile: nothing must stay behind.
            let _ = lease.end(self.inner.config.leave_timeout).await;
        }
        Ok(())
    }

    /// Where it listens, as `host:port`.
    pub fn local_addr(&self) -> &str {
        &self.inner.address
    }

    /// How it stands.
    pub fn status(&self) -> ServerStatus {
        let inner = &self.inner;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        ServerStatus {
            address: inner.address.clone(),
            lease: match &*inner.lease() {
                Announced::By(lease) => Some(lease.state()),
                Announced::Not | Announced::Ended => None,
            },
            listener: inner.listener().as_ref().map(Listener::stats),
            handlers_running: inner.limit.running(),
            handlers_started: read(&inner.counters.started),
            handlers_panicked: read(&inner.counters.panicked),
            handlers_cancelled: read(&inner.counters.cancelled),
            calls_refused: read(&inner.counters.refused),
            calls_overdue: read(&inner.counters.overdue),
            calls_unknown: read(&inner.counters.unknown),
        }
    }

    /// Ends the server in order: takes the registration back, takes calls for a moment longer, tells every connection to
    /// open no more, accepts no more, and waits for the calls under way until
    /// [`drain_timeout`](ServerConfig::drain_timeout) has passed; what is left then is cut.
    ///
    /// Called again, before or after it is done, it gives the same report. Dropped, the ending goes on.
    pub async fn end(&self) -> EndReport {
        Ending::run(&self.inner).await
    }

    /// Shortens an [`end`](Self::end), under way or to come: calls that are not finished are cut, with a goaway, and nobody
    /// is waited for but the registry.
    pub fn hurry(&self) {
        self.inner.ending.hurry();
    }
}

impl Inner {
    fn listener(&self) -> MutexGuard<'_, Option<Listener>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self) -> MutexGuard<'_, Announced> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.inner.address)
            .finish_non_exhaustive()
    }
}
