//! The agent between its pure state and those who ask it: it keeps the time, wakes those who wait, and makes the state
//! obey the fault board. Requests are answered in `respond`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::config::{Compat, DevAgentConfig, Observer};
use super::faults::{Board, Faults};
use super::state::State;

/// Changes under way at once, those whose clients have gone included (a paused agent does them later). More wait.
const MOST_CHANGES: usize = 256;

/// Reads remembered as cached. Beyond it all are forgotten, and the next of each is a miss again.
const MOST_CACHED: usize = 1024;

/// What the agent counts; the numbers of a moment, or totals since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Connections open now.
    pub connections: usize,
    /// Reads that wait for a change now.
    pub blocked: usize,
    /// Requests that came in, in all.
    pub requests: usize,
}

/// See the module's documentation.
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    pub(crate) faults: Faults,
    pub(crate) body_limit: usize,
    pub(crate) head_timeout: Duration,
    pub(crate) connection_cap: usize,
    pub(crate) compat: Compat,
    pub(crate) datacenter: String,
    pub(crate) observer: Option<Observer>,
    /// Moves on when the catalog changes.
    pub(crate) version: watch::Sender<u64>,
    /// Whether the port is open; for agents that have one.
    pub(crate) listening: watch::Sender<bool>,
    /// The next timer may be another one.
    timers_changed: Notify,
    pub(crate) changes: Arc<Semaphore>,
    pub(crate) connections: AtomicUsize,
    pub(crate) blocked: AtomicUsize,
    pub(crate) requests: AtomicUsize,
}

struct Inner {
    state: State,
    /// Which orders of the board the state has already obeyed.
    restarts: u64,
    renumberings: u64,
    leaderless_since: Option<Instant>,
    cached: HashSet<u64>,
}

impl Hub {
    pub(crate) fn new(config: &DevAgentConfig) -> Arc<Hub> {
        let seed = config.seed.unwrap_or_else(|| fastrand::u64(..));
        let state = State::new(config, seed, Instant::now().into_std());
        Arc::new(Hub {
            inner: Mutex::new(Inner {
                state,
                restarts: 0,
                renumberings: 0,
                leaderless_since: None,
                cached: HashSet::new(),
            }),
            faults: Faults::new(),
            body_limit: config.body_limit,
            head_timeout: config
                .head_timeout
                .clamp(Duration::from_millis(1), Duration::from_secs(24 * 3600)),
            connection_cap: config.connection_cap,
            compat: config.compat,
            datacenter: config.datacenter.clone(),
            observer: config.observer.clone(),
            version: watch::Sender::new(0),
            listening: watch::Sender::new(true),
            timers_changed: Notify::new(),
            changes: Arc::new(Semaphore::new(MOST_CHANGES)),
            connections: AtomicUsize::new(0),
            blocked: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
        })
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            connections: self.connections.load(Ordering::Relaxed),
            blocked: self.blocked.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }

    /// Lets TTLs run out and orders of the board take effect when it is time, until it is dropped.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        let mut board = self.faults.watch();
        loop {
            self.not_paused().await;
            let next = self.with_state(|state| state.next_timeout());
            tokio::select! {
                () = until(next) => {}
                () = self.timers_changed.notified() => {}
                changed = board.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Returns when no connection is open. It asks every few milliseconds: only a stop waits for it, and not for long.
    pub(crate) async fn all_closed(&self) {
        while self.connections.load(Ordering::Relaxed) > 0 {
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the agent is not stopped.
    pub(crate) async fn not_paused(&self) {
        self.wait_for(|board| !board.paused).await;
    }

    /// Waits until the board is so.
    pub(crate) async fn wait_for(&self, until: impl FnMut(&Board) -> bool) {
        // It fails only without a sender, and `self` holds one.
        drop(self.faults.watch().wait_for(until).await);
    }

    /// The faults in force.
    pub(crate) fn board(&self) -> Board {
        self.faults.watch().borrow().clone()
    }

    /// Since when there is no leader.
    pub(crate) fn leaderless_since(&self) -> Option<Instant> {
        self.lock().leaderless_since
    }

    /// Whether a read with this hash was cached; from now on it is.
    pub(crate) fn was_cached(&self, key: u64) -> bool {
        let mut inner = self.lock();
        if inner.cached.len() >= MOST_CACHED {
            inner.cached.clear();
        }
        !inner.cached.insert(key)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs with the state as of now, and tells those who wait if that changed anything.
    pub(crate) fn with_state<T>(&self, run: impl FnOnce(&mut State) -> T) -> T {
        let now = Instant::now();
        let board = self.board();
        let mut inner = self.lock();
        let timer = inner.state.next_timeout();
        let before = inner.state.revision();
        inner.obey(&board, now);
        inner.state.advance(now.into_std());
        let result = run(&mut inner.state);
        let changed = inner.state.revision() != before;
        let timer_changed = inner.state.next_timeout() != timer;
        drop(inner);
        if changed {
            self.version
                .send_modify(|version| *version = version.wrapping_add(1));
        }
        if timer_changed {
            self.timers_changed.notify_one();
        }
        result
    }
}

impl Inner {
    fn obey(&mut self, board: &Board, now: Instant) {
        if self.restarts != board.restarts {
            self.restarts = board.restarts;
            self.state.forget(now.into_std());
            self.cached.clear();
        }
        if self.renumberings != board.renumberings.0 {
            self.renumberings = board.renumberings.0;
            self.state.renumber(board.renumberings.1);
        }
        if self.leaderless_since.is_some() != board.leaderless.is_some() {
            self.leaderless_since = board.leaderless.map(|_| now);
            self.state.set_leader(board.leaderless.is_none());
        }
    }
}

async fn until(moment: Option<std::time::Instant>) {
    match moment {
        Some(moment) => sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
