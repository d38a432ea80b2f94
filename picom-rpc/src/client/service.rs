//! One target service as a client keeps it: its endpoints, the budget of its retries, and the task that follows discovery
//! and dials ahead. One per name and client, so that a call asks nobody: it looks here.

use super::config::ClientConfig;
use super::endpoint::{Endpoint, EndpointId, Reach};
use super::endpoints::{EndpointState, Endpoints, Pick, Standing};
use super::random::Random;
use super::retry::{Failure, Progress, RetryBudget, Verdict, judge};
use picom_discovery::{Discovery, ServiceName, Watch};
use picom_transport::{ClassicConnection, Connection, DialError, Pool, SlotStatus};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time;

/// Connections are kept up for so long after the last call; an idle client dials nobody.
const KEEP_WARM: Duration = Duration::from_secs(60);

/// How long an endpoint is left alone after a dial that failed without the pool saying when to dial again: whatever the
/// reason, one fruitless dial must not follow on another.
const REST: Duration = Duration::from_millis(20);

/// The same for one that speaks classic, where no pool keeps a longer and longer pause: five such dials in a row have it
/// left alone for longer.
const CLASSIC_REST: Duration = Duration::from_secs(1);

/// A name that was not called for so long is not watched any more: a watch is an open connection to Consul.
pub(super) const UNUSED: Duration = Duration::from_secs(600);

/// See the module.
#[derive(Debug)]
pub(crate) struct Service {
    /// The name as errors show it.
    pub(crate) name: Arc<str>,
    pool: Pool,
    state: Mutex<State>,
    /// Told when a waiting call may find something else than before.
    pub(super) changed: Notify,
    /// Told when the keeper should look.
    kick: Arc<Notify>,
    started: AtomicBool,
    closed: AtomicBool,
    keeper: Mutex<Option<AbortHandle>>,
    pub(super) counters: Counters,
}

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) calls: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) failures: AtomicU64,
}

#[derive(Debug)]
struct State {
    endpoints: Endpoints,
    random: Random,
    budget: RetryBudget,
    /// When it was last called, to the second.
    last_used: Instant,
    /// From when on a call counts as a use of its own.
    used_until: Instant,
}

impl State {
    /// A call is made. Whether it is the first for long, so that connections may have to be made.
    fn used(&mut self, now: Instant) -> bool {
        if now < self.used_until {
            return false;
        }
        let idle = now.saturating_duration_since(self.last_used) > KEEP_WARM / 2;
        self.last_used = self.last_used.max(now);
        self.used_until = now + Duration::from_secs(1);
        idle
    }
}

/// Where a call goes next.
#[derive(Debug)]
pub(crate) enum Step {
    /// It is connected, and was not found full. If that was not looked up just now (`looked`), calls may wait in line.
    Open { endpoint: Arc<Endpoint>, looked: bool },
    /// All that are connected are full; on this connection of this one the call can wait for its turn.
    Queue(Arc<Endpoint>, Connection),
    /// A connection must be made.
    Dial(Arc<Endpoint>),
    /// A connection must be made, for this call alone.
    Classic(Arc<Endpoint>),
    /// Discovery has not answered.
    Pending,
    /// There is no endpoint.
    Empty,
    /// All that is left is ending.
    Draining,
    /// All were tried.
    Exhausted,
}

/// How one service stands, for `status()`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Discovery has answered.
    pub known: bool,
    /// Why discovery cannot be asked at present; the endpoints are then the last known.
    pub discovery_error: Option<String>,
    /// Instances registered under that name, whatever their health.
    pub registered: usize,
    /// The endpoints.
    pub endpoints: Vec<EndpointStatus>,
    /// Calls made.
    pub calls: u64,
    /// Attempts made beyond the first.
    pub retries: u64,
    /// Calls that failed, faults of handlers not counted.
    pub failures: u64,
}

/// How one endpoint stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Host and port.
    pub host: Arc<str>,
    /// The id of its registration.
    pub instance: Arc<str>,
    /// Whether calls go there.
    pub state: EndpointState,
    /// Calls under way.
    pub in_flight: u32,
}

impl Service {
    pub(super) fn new(name: &ServiceName, pool: Pool, config: &ClientConfig, now: Instant) -> Self {
        Service {
            name: name.as_str().into(),
            pool,
            state: Mutex::new(State {
                endpoints: Endpoints::new(config.balance, config.strict).with_classic(config.classic),
                random: Random::new(config.seed.unwrap_or_else(Random::seed)),
                budget: RetryBudget::new(now),
                last_used: now,
                used_until: now,
            }),
            changed: Notify::new(),
            kick: Arc::new(Notify::new()),
            started: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            keeper: Mutex::new(None),
            counters: Counters::default(),
        }
    }

    /// Begins to follow discovery, the first time it is called. `retire` is asked when the service was not used for
    /// long; if it agrees, the keeper ends.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub(super) fn follow(
        self: &Arc<Self>,
        discovery: &Arc<dyn Discovery>,
        name: impl FnOnce() -> Option<ServiceName>,
        retire: impl Fn(&Arc<Service>) -> bool + Send + 'static,
    ) {
        if self.started.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(name) = name() else { return };
        let watch = discovery.watch(&name);
        self.apply(&watch, now());
        let keeper = tokio::spawn(keep(Arc::downgrade(self), watch, self.kick.clone(), retire));
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper.abort_handle());
    }

    pub(super) fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// The client makes no more calls: those that wait learn it.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_waiters();
        self.kick.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Chooses an endpoint and looks whether its connection is there. What turns out not to be connected is corrected
    /// and another is chosen.
    ///
    /// `first` says that a call begins with it.
    pub(super) fn step(&self, now: Instant, tried: &[EndpointId], key: Option<u64>, first: bool) -> Step {
        if first {
            self.counters.calls.fetch_add(1, Ordering::Relaxed);
        }
        let mut first = first;
        // Of those found full, the one to fall back on: the first that another connection may be made to, else the first.
        let mut full: Option<(Arc<Endpoint>, Option<Connection>)> = None;
        // They are not chosen again. Most services have one instance at hand, for which nothing is allocated.
        let mut first_full: Option<EndpointId> = None;
        let mut excluded: Option<Vec<EndpointId>> = None;
        loop {
            let pick = {
                let mut state = self.state();
                let state = &mut *state;
                let idle = state.used(now);
                if std::mem::take(&mut first) {
                    state.budget.deposit(now);
                }
                if idle {
                    self.kick.notify_one();
                }
                if matches!(state.endpoints.standing(), Standing::Pending { .. })
                    && state.endpoints.is_empty()
                {
                    return Step::Pending;
                }
                let excluded = match (&excluded, &first_full) {
                    (Some(all), _) => all,
                    (None, Some(id)) => std::slice::from_ref(id),
                    (None, None) => tried,
                };
                state.endpoints.pick(now, &mut state.random, excluded, key)
            };
            return match pick {
                Pick::Ready(endpoint) | Pick::Dial(endpoint) if endpoint.classic => Step::Classic(endpoint),
                Pick::Ready(endpoint) => {
                    let line = match endpoint.reach(&self.pool) {
                        Reach::Connected { looked } => return Step::Open { endpoint, looked },
                        Reach::Gone => {
                            self.disconnected(&endpoint);
                            continue;
                        }
                        Reach::Queue(connection) => Some(connection),
                        Reach::Full => None,
                    };
                    if tried.is_empty() && first_full.is_none() {
                        first_full = Some(endpoint.id);
                    } else {
                        let all = || tried.iter().chain(&first_full).copied().collect();
                        excluded.get_or_insert_with(all).push(endpoint.id);
                    }
                    if full
                        .as_ref()
                        .is_none_or(|(_, kept)| kept.is_some() && line.is_none())
                    {
                        full = Some((endpoint, line));
                    }
                    continue;
                }
                Pick::Empty => Step::Empty,
                // Another connection to one that is connected and full is nearer than a new peer that may not answer.
                otherwise => match (full, otherwise) {
                    (Some((endpoint, None)), _) => Step::Dial(endpoint),
                    (Some((endpoint, Some(connection))), _) => Step::Queue(endpoint, connection),
                    (None, Pick::Dial(endpoint)) => Step::Dial(endpoint),
                    (None, Pick::Draining) => Step::Draining,
                    (None, _) => Step::Exhausted,
                },
            };
        }
    }

    /// Waits for a connection to the endpoint. Cancel safe.
    pub(super) async fn dial(&self, endpoint: &Endpoint) -> Result<Connection, DialError> {
        let dialed = self.pool.connection(&endpoint.target).await;
        match &dialed {
            Ok(_) => self.connected(endpoint.id),
            Err(_) => self.unreachable(endpoint, Some(now() + REST)),
        }
        dialed
    }

    /// Makes a connection for one call to an endpoint that speaks classic. Cancel safe.
    pub(super) async fn dial_classic(&self, endpoint: &Endpoint) -> Result<ClassicConnection, DialError> {
        let dialed = self.pool.classic(&endpoint.target).await;
        match &dialed {
            Ok(_) => self.connected(endpoint.id),
            Err(DialError::Closed) => {}
            Err(_) => {
                self.failed(endpoint);
                let rest = now() + CLASSIC_REST;
                self.state().endpoints.disconnected(endpoint.id, Some(rest));
                self.kick.notify_one();
            }
        }
        dialed
    }

    pub(super) fn connected(&self, id: EndpointId) {
        let news = self.state().endpoints.connected(id);
        if news {
            self.changed.notify_waiters();
        }
    }

    /// No connection of the endpoint takes calls any more.
    pub(super) fn disconnected(&self, endpoint: &Endpoint) {
        // A classic connection is lost with its call alone.
        if endpoint.classic {
            return;
        }
        self.unreachable(endpoint, None);
    }

    /// The same, and none is made before `otherwise`, or when the pool says.
    fn unreachable(&self, endpoint: &Endpoint, otherwise: Option<Instant>) {
        let not_before = match self.pool.status(&endpoint.target) {
            SlotStatus::Connected { .. } => return,
            SlotStatus::Backoff { until } => Some(until),
            SlotStatus::Connecting | SlotStatus::Idle => otherwise,
        };
        self.state().endpoints.disconnected(endpoint.id, not_before);
        self.kick.notify_one();
    }

    /// How long the pool does not dial the endpoint again.
    pub(super) fn backoff(&self, endpoint: &Endpoint, now: Instant) -> Option<Duration> {
        match self.pool.status(&endpoint.target) {
            SlotStatus::Backoff { until } => Some(until.saturating_duration_since(now)),
            _ => None,
        }
    }

    /// The endpoint said that it is ending.
    pub(super) fn draining(&self, id: EndpointId) {
        self.state().endpoints.draining(id, now());
        self.kick.notify_one();
    }

    pub(super) fn answered(&self, endpoint: &Endpoint) {
        // Nearly every answer comes from an endpoint that never failed: no lock for those.
        if endpoint.clear_suspicion() {
            self.state().endpoints.answered(endpoint.id);
        }
    }

    pub(super) fn failed(&self, endpoint: &Endpoint) {
        endpoint.suspect();
        if self.state().endpoints.failed(endpoint.id, now()) {
            tracing::warn!(
                service = %self.name, host = %endpoint.target.authority,
                "an instance failed five times in a row and is left alone for a while"
            );
        }
    }

    pub(super) fn undecided(&self, endpoint: &Endpoint) {
        if endpoint.is_suspect() {
            self.state().endpoints.undecided(endpoint.id);
        }
    }

    pub(super) fn has_other(&self, tried: &[EndpointId]) -> bool {
        self.state().endpoints.has_other(now(), tried)
    }

    pub(super) fn judge(&self, failure: Failure, progress: Progress, now: Instant) -> Verdict {
        let mut state = self.state();
        let state = &mut *state;
        judge(failure, progress, &mut state.budget, &mut state.random, now)
    }

    pub(super) fn standing(&self) -> Standing {
        self.state().endpoints.standing().clone()
    }

    pub(super) fn last_used(&self) -> Instant {
        self.state().last_used
    }

    pub(super) fn status(&self) -> ServiceStatus {
        let state = self.state();
        let (known, registered, error) = match state.endpoints.standing() {
            Standing::Pending { error } => (false, 0, error.as_ref()),
            Standing::Known {
                registered, stale, ..
            } => (true, *registered, stale.as_ref()),
        };
        let endpoints = state
            .endpoints
            .states(now())
            .map(|(endpoint, state)| EndpointStatus {
                host: endpoint.target.authority.clone(),
                instance: endpoint.instance.id.clone(),
                state,
                in_flight: endpoint.in_flight(),
            });
        ServiceStatus {
            name: self.name.clone(),
            known,
            discovery_error: error.map(|error| error.to_string()),
            registered,
            endpoints: endpoints.collect(),
            calls: self.counters.calls.load(Ordering::Relaxed),
            retries: self.counters.retries.load(Ordering::Relaxed),
            failures: self.counters.failures.load(Ordering::Relaxed),
        }
    }

    fn apply(&self, watch: &Watch, now: Instant) {
        let snapshot = watch.latest();
        let gone = self.state().endpoints.apply(&snapshot, now);
        for target in &gone {
            self.pool.forget(target);
        }
        self.changed.notify_waiters();
    }

    /// What the keeper does each time it wakes: what is over goes, what is wanted is dialed. Gives back when to come again.
    fn tend(self: &Arc<Self>, now: Instant) -> Option<Instant> {
        let (gone, dials, next) = {
            let mut state = self.state();
            let state = &mut *state;
            let gone = state.endpoints.expire(now);
            let warm = now.saturating_duration_since(state.last_used) < KEEP_WARM;
            let dials = if warm {
                state.endpoints.take_due(now, &mut state.random)
            } else {
                Vec::new()
            };
            let next = state.endpoints.next_event(now, warm);
            (gone, dials, next)
        };
        if !gone.is_empty() {
            self.changed.notify_waiters();
        }
        for target in &gone {
            self.pool.forget(target);
        }
        for endpoint in dials {
            if endpoint.classic {
                self.connected(endpoint.id);
                continue;
            }
            let service = self.clone();
            tokio::spawn(async move {
                if let Err(error) = service.dial(&endpoint).await {
                    tracing::debug!(service = %service.name, host = %endpoint.target.authority, %error, "not connected");
                }
            });
        }
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keeper.take() {
            keeper.abort();
        }
    }
}

async fn keep(
    service: Weak<Service>,
    mut watch: Watch,
    kick: Arc<Notify>,
    retire: impl Fn(&Arc<Service>) -> bool + Send + 'static,
) {
    loop {
        let next = {
            let Some(service) = service.upgrade() else { return };
            if service.closed.load(Ordering::Acquire) {
                return;
            }
            let now = now();
            let unused = service.last_used() + UNUSED;
            if unused <= now && retire(&service) {
                tracing::debug!(service = %service.name, "not called for long: not watched any more");
                return;
            }
            let next = service.tend(now);
            // Not exactly then if calls are under way: a second is soon enough to ask again.
            next.into_iter()
                .chain([unused.max(now + Duration::from_secs(1))])
                .min()
        };
        tokio::select! {
            _ = watch.changed() => {
                let Some(service) = service.upgrade() else { return };
                service.apply(&watch, now());
            }
            () = kick.notified() => {}
            () = until(next) => {}
        }
    }
}

pub(super) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

pub(super) fn now() -> Instant {
    time::Instant::now().into_std()
}
