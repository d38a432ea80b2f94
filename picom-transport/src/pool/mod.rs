//! Connections per address, dialed once for all who wait. Which slot a call gets is decided in `slots.rs`, when to dial
//! again in `backoff.rs`, and a dial itself is `dial.rs`: this file holds the table.

mod backoff;
mod classic;
mod dial;
mod slots;

use crate::conn::{Connection, HeldSlot, Place, Vacancy};
use crate::connector::Connector;
use crate::proto::{ConfigError, ConnectionConfig, Identity};
use backoff::Backoff;
use classic::ClassicCalls;
pub use dial::DialError;
use dial::{Dial, DialContext};
use slots::{Decision, SlotView};
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time;

/// Where to dial and whom to expect there: connections are kept per target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`, IPv6 in brackets.
    pub authority: Arc<str>,
    /// The service that must answer; `None`: any.
    pub service: Option<Arc<str>>,
    /// The instance that must answer; `None`: any.
    pub instance: Option<Arc<str>>,
}

/// The address alone: it is looked up for every call, and targets of one address are few.
impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.authority.hash(state);
    }
}

impl Target {
    /// Whoever answers at `authority`.
    pub fn anyone(authority: impl Into<Arc<str>>) -> Self {
        Self {
            authority: authority.into(),
            service: None,
            instance: None,
        }
    }

    fn meant(&self) -> Identity {
        Identity {
            service: self.service.clone(),
            instance: self.instance.clone(),
        }
    }
}

/// How a pool dials.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// How long a byte stream may take to stand: within a data centre a peer that is there answers in milliseconds.
    pub connect_timeout: Duration,
    /// Connections to one target: another is dialed when all slots of the others are taken.
    pub connections_per_target: usize,
    /// The first pause after a failed dial; each further one is 1.6 times as long, give or take 20 %.
    pub first_backoff: Duration,
    /// The longest pause.
    pub most_backoff: Duration,
    /// Where the jitter begins: a fixed number makes a simulation repeatable.
    pub seed: u64,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            connections_per_target: 4,
            first_backoff: Duration::from_millis(50),
            most_backoff: Duration::from_secs(5),
            seed: backoff::random_seed(),
        }
    }
}

/// What there is towards a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotStatus {
    /// A connection stands, with so many free slots in all.
    Connected {
        /// 0: all are taken, and another connection may be dialed.
        free_slots: u32,
    },
    /// A dial is under way.
    Connecting,
    /// The last dial failed; the next may be made at this moment.
    Backoff {
        /// See above.
        until: Instant,
    },
    /// Nothing.
    Idle,
}

/// Where a call could be opened.
#[derive(Debug)]
pub enum Room {
    /// On this connection, at once.
    Free(Connection),
    /// All connections that there may be are full: it can wait for its turn on this one.
    Queue(Connection),
    /// Nowhere at present: a connection must be made or waited for.
    None(SlotStatus),
}

/// Counters of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Targets in the table.
    pub targets: usize,
    /// Connections that stand.
    pub connections: usize,
    /// Dials made so far.
    pub dials: u64,
    /// Dials that failed.
    pub failed_dials: u64,
}

/// See the module. A cheap handle.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Arc<dyn Connector>,
    config: PoolConfig,
    connection: ConnectionConfig,
    table: Mutex<Table>,
    classic: Arc<ClassicCalls>,
}

#[derive(Default)]
struct Table {
    slots: HashMap<Target, Slot>,
    closed: bool,
    dials: u64,
    failed_dials: u64,
    jitter: u64,
}

#[derive(Default)]
struct Slot {
    connections: Vec<Connection>,
    dial: Option<Dial>,
    backoff: Backoff,
    last: Option<DialError>,
    vacancy: Arc<Vacancy<HeldSlot>>,
}

impl Slot {
    /// How it stands. Forgets connections that take no more streams; those that still carry some live on in their halves.
    fn look(&mut self) -> SlotView {
        let mut free_slots = 0u32;
        self.connections.retain(|connection| {
            let room = connection.room();
            free_slots = free_slots.saturating_add(room.unwrap_or_default());
            room.is_some()
        });
        SlotView {
            connections: self.connections.len(),
            free_slots,
            promised: u32::try_from(self.vacancy.promised()).unwrap_or(u32::MAX),
            dialing: self.dial.is_some(),
            backoff_until: self.backoff.until(),
        }
    }

    fn is_connected(&self) -> bool {
        !self.connections.is_empty()
    }

    /// The one in whose line a call gets its turn soonest.
    fn liveliest(&self) -> Option<&Connection> {
        let lines = self.connections.iter().map(|connection| connection.stats());
        let place = slots::shortest(lines.map(|stats| (stats.backlog, stats.turnover)))?;
        self.connections.get(place)
    }

    fn roomiest(&self) -> Option<&Connection> {
        match &self.connections[..] {
            [only] => Some(only).filter(|connection| connection.free_slots() > 0),
            several => several
                .iter()
                .map(|connection| (connection.free_slots(), connection))
                .filter(|(free, _)| *free > 0)
                .max_by_key(|(free, _)| *free)
                .map(|(_, connection)| connection),
        }
    }
}

impl Pool {
    /// A pool that dials through `connector`.
    ///
    /// # Errors
    ///
    /// When the configuration of its connections does not fit.
    pub fn new(
        connector: Arc<dyn Connector>,
        config: PoolConfig,
        connection: ConnectionConfig,
    ) -> Result<Pool, ConfigError> {
        connection.check()?;
        if config.connections_per_target == 0 {
            let rule = "at least 1".to_owned();
            return Err(ConfigError {
                name: "connections_per_target",
                value: 0,
                rule,
            });
        }
        let table = Mutex::new(Table {
            jitter: config.seed,
            ..Table::default()
        });
        let streams = connection.stream_limit as usize;
        let classic = ClassicCalls::new(config.connections_per_target.saturating_mul(streams));
        Ok(Pool {
            inner: Arc::new(Inner {
                connector,
                config,
                connection,
                table,
                classic,
            }),
        })
    }

    /// What there is towards `target`. Dials nothing.
    pub fn status(&self, target: &Target) -> SlotStatus {
        let now = time::Instant::now().into_std();
        let mut table = self.table();
        let Some(slot) = table.slots.get_mut(target) else {
            return SlotStatus::Idle;
        };
        slot.look().status(now)
    }

    /// Where a call could be opened now. Dials nothing.
    pub fn room(&self, target: &Target) -> Room {
        let now = time::Instant::now().into_std();
        let limit = self.inner.config.connections_per_target;
        let mut table = self.table();
        let Some(slot) = table.slots.get_mut(target) else {
            return Room::None(SlotStatus::Idle);
        };
        let view = slot.look();
        let chosen = match view.decide(limit, now) {
            Decision::Use => slot.roomiest().cloned().map(Room::Free),
            Decision::Full => slot.liveliest().cloned().map(Room::Queue),
            _ => None,
        };
        chosen.unwrap_or_else(|| Room::None(view.status(now)))
    }

    /// Begins a dial in the background if there is no connection and the last failure is long enough ago.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn warm(&self, target: &Target) {
        let now = time::Instant::now().into_std();
        let mut table = self.table();
        if !table.closed && matches!(self.decide(&mut table, target, false, now), Decision::Dial) {
            self.dial(&mut table, target);
        }
    }

    /// A connection with a free slot: one that stands, or the one that is being dialed, by whomever. When all connections
    /// that there may be are full, waits until a slot is free, as long as the caller likes; calls get their turn in the order in
    /// which they came. The slot that was waited for is held for the first stream that is opened on this very handle, not on a
    /// clone, and goes to the next when that is dropped unused. Cancel safe: the dial goes on for the others, and a place in line
    /// passes on.
    ///
    /// # Errors
    ///
    /// When the dial fails, or failed so recently that none is made.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn connection(&self, target: &Target) -> Result<Connection, DialError> {
        let mut dialed = false;
        // Its turn has come, and it looks what there is.
        let mut looking: Option<Place<HeldSlot>> = None;
        loop {
            let now = time::Instant::now().into_std();
            let (vacancy, mut dial) = {
                let mut table = self.table();
                if table.closed {
                    return Err(DialError::Closed);
                }
                let decision = self.decide(&mut table, target, looking.is_some(), now);
                match decision {
                    Decision::Use => match self.find(&mut table, target) {
                        Some(connection) => match looking.take() {
                            None => return Ok(connection),
                            // It has waited: others who look as well do not get the same.
                            Some(place) => match connection.hold_slot() {
                                Some(slot) => {
                                    place.answer();
                                    return Ok(connection.with_slot(slot));
                                }
                                None => {
                                    looking = Some(place);
                                    continue;
                                }
                            },
                        },
                        None => continue,
                    },
                    // The connection that was waited for is gone again before it could be used.
                    Decision::Dial if dialed && !table.slots.get(target).is_some_and(Slot::is_connected) => {
                        return Err(DialError::Draining {
                            authority: target.authority.clone(),
                        });
                    }
                    Decision::Dial | Decision::Wait | Decision::Full => {
                        if decision == Decision::Dial {
                            self.dial(&mut table, target);
                        }
                        let Some(slot) = table.slots.get(target) else {
                            continue;
                        };
                        // If one is dialed beside others, theirs may have a slot before, and its failure is none of the call.
                        let first = slot.dial.as_ref().filter(|_| !slot.is_connected());
                        (slot.vacancy.clone(), first.map(Dial::subscribe))
                    }
                    Decision::Refuse { until } => {
                        let last = table.slots.get(target).and_then(|slot| slot.last.clone());
                        let wait = until.saturating_duration_since(now);
                        let authority = target.authority.clone();
                        return Err(DialError::Backoff {
                            authority,
                            wait,
                            last: last.map(Box::new),
                        });
                    }
                }
            };
            let mut place = match looking.take() {
                Some(mut place) if place.is_in(&vacancy) => {
                    place.stand_again();
                    place
                }
                _ => vacancy.stand(),
            };
            if self.has_changed(target, &vacancy, dial.is_some(), now) {
                vacancy.call_first();
            }
            let slot = match &mut dial {
                None => place.called().await,
                Some(dial) => tokio::select! {
                    biased;
                    slot = place.called() => slot,
                    Some(Err(error)) = dial.outcome() => return Err(error),
                },
            };
            dialed |= dial.is_some_and(|dial| dial.has_succeeded());
            if let Some(slot) = slot {
                if let Some(connection) = self.holder(target, &slot) {
                    return Ok(connection.with_slot(slot));
                }
                // That connection takes no calls any more.
                place.look_instead();
            }
            looking = Some(place);
        }
    }

    /// The target is of no use any more: a connection without streams is closed, one with streams goes on.
    pub fn forget(&self, target: &Target) {
        let slot = {
            let mut table = self.table();
            let busy = table.slots.get_mut(target).is_some_and(|slot| {
                slot.look();
                slot.connections
                    .iter()
                    .any(|connection| connection.stats().opened_now > 0)
            });
            if busy { None } else { table.slots.remove(target) }
        };
        // Behind the lock: the handles of its connections lock in turn.
        if let Some(slot) = slot {
            slot.vacancy.changed();
        }
    }

    /// Drains all connections and waits until they have ended, at most `grace` and a moment. Later calls fail with `Closed`.
    pub async fn close(&self, grace: Duration) {
        let slots = {
            let mut table = self.table();
            table.closed = true;
            std::mem::take(&mut table.slots)
        };
        for slot in slots.values() {
            slot.vacancy.changed();
        }
        let connections: Vec<Connection> = slots.into_values().flat_map(|slot| slot.connections).collect();
        let classic = self.inner.classic.close(grace);
        for connection in &connections {
            connection.drain(grace);
        }
        for connection in connections {
            connection.closed().await;
        }
        for handle in classic {
            handle.closed().await;
        }
    }

    /// Counters.
    pub fn stats(&self) -> PoolStats {
        let mut table = self.table();
        let connections = table.slots.values_mut().map(|slot| slot.look().connections);
        let connections = connections.sum();
        let Table {
            slots,
            dials,
            failed_dials,
            ..
        } = &*table;
        PoolStats {
            targets: slots.len(),
            connections,
            dials: *dials,
            failed_dials: *failed_dials,
        }
    }

    /// What a call should do; with `called`, one that slots are promised to.
    fn decide(&self, table: &mut Table, target: &Target, called: bool, now: Instant) -> Decision {
        let Some(slot) = table.slots.get_mut(target) else {
            return Decision::Dial;
        };
        let mut view = slot.look();
        if called {
            view.promised = 0;
        }
        view.decide(self.inner.config.connections_per_target, now)
    }

    /// Who stands in line now should look once more: what there is has changed while it went there.
    fn has_changed(
        &self,
        target: &Target,
        vacancy: &Arc<Vacancy<HeldSlot>>,
        dials: bool,
        now: Instant,
    ) -> bool {
        let mut table = self.table();
        let decision = self.decide(&mut table, target, false, now);
        let slot = table.slots.get(target);
        let Some(slot) = slot.filter(|slot| Arc::ptr_eq(&slot.vacancy, vacancy)) else {
            return true;
        };
        match decision {
            Decision::Use | Decision::Dial | Decision::Refuse { .. } => true,
            Decision::Wait | Decision::Full => !dials && !slot.is_connected(),
        }
    }

    /// The connection of which this is a slot, if it still takes calls.
    fn holder(&self, target: &Target, held: &HeldSlot) -> Option<Connection> {
        let mut table = self.table();
        let slot = table.slots.get_mut(target)?;
        slot.look();
        slot.connections
            .iter()
            .find(|connection| connection.is_holder_of(held))
            .cloned()
    }

    fn find(&self, table: &mut Table, target: &Target) -> Option<Connection> {
        table.slots.get(target)?.roomiest().cloned()
    }

    /// Starts the one dial that everybody waits for. It has a task of its own, so that it does not end with the caller who
    /// happened to begin it.
    fn dial(&self, table: &mut Table, target: &Target) {
        table.dials += 1;
        let (dial, report) = Dial::begin();
        table.slots.entry(target.clone()).or_default().dial = Some(dial.subscribe());
        let context = DialContext {
            connector: self.inner.connector.clone(),
            connect_timeout: self.inner.config.connect_timeout,
            connection: self.inner.connection.clone(),
        };
        let (pool, target) = (Arc::downgrade(&self.inner), target.clone());
        tokio::spawn(async move {
            let outcome = context.dial(&target.authority, target.meant()).await;
            if let Some(inner) = pool.upgrade() {
                Pool { inner }.dialed(&target, &dial, &outcome);
            }
            report.send(outcome.map(drop));
        });
    }

    fn dialed(&self, target: &Target, dial: &Dial, outcome: &Result<Connection, DialError>) {
        let now = time::Instant::now().into_std();
        let mut guard = self.table();
        let table = &mut *guard;
        if table.closed {
            if let Ok(connection) = outcome {
                connection.drain(Duration::ZERO);
            }
            return;
        }
        // Forgotten meanwhile, and perhaps dialed anew: the connection closes with its last handle.
        let slot = table.slots.get_mut(target);
        let Some(slot) = slot.filter(|slot| slot.dial.as_ref().is_some_and(|known| known.is_same(dial)))
        else {
            return;
        };
        slot.dial = None;
        match outcome {
            Ok(connection) => {
                slot.backoff.succeeded();
                slot.last = None;
                let vacancy = slot.vacancy.clone();
                connection.tell_of_slots(vacancy.clone());
                slot.connections.push(connection.clone());
                tracing::debug!(authority = %target.authority, "connected");
                // Wakers are woken behind the lock.
                drop(guard);
                connection.offer_slots(vacancy.waiting());
                // Whether one connection more is needed, the first who got nothing sees.
                vacancy.call_first();
            }
            Err(error) => {
                table.failed_dials += 1;
                let random = backoff::next_random(&mut table.jitter);
                let config = &self.inner.config;
                slot.backoff
                    .failed(now, config.first_backoff, config.most_backoff, random);
                slot.last = Some(error.clone());
                tracing::debug!(authority = %target.authority, %error, "the dial failed");
                // Those who wait for a slot of another connection do not see it: one of them looks when it is time.
                if slot.is_connected() && slot.vacancy.waiting() > 0 {
                    let vacancy = slot.vacancy.clone();
                    let until = slot.backoff.until();
                    tokio::spawn(async move {
                        if let Some(until) = until {
                            time::sleep_until(until.into()).await;
                        }
                        vacancy.call_first();
                    });
                }
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.inner.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("connector", &self.inner.connector)
            .finish_non_exhaustive()
    }
}
