//! One instance as the balancer sees it: where it is and how loaded it is. Which endpoints there are, and which may be
//! called, is `endpoints.rs`.

use super::load::Load;
use picom_discovery::Instance;
use picom_transport::{Connection, Pool, Room, SlotStatus, Target};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Names an endpoint of one set for as long as the client lives; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EndpointId(pub(crate) u64);

/// An instance that calls may be sent to.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) target: Target,
    pub(crate) instance: Arc<Instance>,
    /// It speaks the dialect of the Node library: a connection for each call.
    pub(crate) classic: bool,
    shared: Arc<Record>,
}

/// What is known of it, whatever it is announced with.
#[derive(Debug, Default)]
struct Record {
    load: Load,
    /// A call to it failed since one was answered.
    suspect: AtomicBool,
    /// Where the last call went, so that the next need not look through the pool.
    known: Mutex<Known>,
    /// It is [`Known::Open`]: changed under the lock, read without.
    connected: AtomicBool,
}

/// A connection that was of use to the last call, and may be of none by now.
#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    /// It took the call at once.
    Open(Connection),
    /// All are full. In its line the call got its turn soonest; so many more may stand there before it is looked anew.
    Line(Connection, u32),
}

/// So many calls go to a line before lines are compared again: much less than there are slots, so that lines stay alike, and
/// enough for the comparison to cost little. Each look asks all connections twice.
const IN_A_ROW: u32 = 32;

/// How many calls may follow another into the line of this connection: few where few slots become free, and none where none
/// does, so that nobody stands behind streams that live for hours while another connection has room.
fn more_in_a_row(connection: &Connection) -> u32 {
    let turnover = u32::try_from(connection.stats().turnover).unwrap_or(u32::MAX);
    (turnover / 8).min(IN_A_ROW - 1)
}

/// How an endpoint can be reached.
#[derive(Debug)]
pub(crate) enum Reach {
    /// There is a connection to [call on](Endpoint::with_connection).
    Connected {
        /// The pool was asked: there is a slot that is promised to nobody.
        looked: bool,
    },
    /// All slots of all connections that there may be are taken; on this one a call can wait for its turn.
    Queue(Connection),
    /// All slots are taken, and another connection may be made.
    Full,
    /// There is no connection.
    Gone,
}

impl Endpoint {
    pub(crate) fn new(id: EndpointId, instance: Arc<Instance>) -> Self {
        let target = Target {
            authority: instance.authority().into(),
            service: Some(instance.service.as_str().into()),
            instance: instance.uuid().map(Into::into),
        };
        Endpoint {
            id,
            target,
            classic: instance.native_version().is_none(),
            instance,
            shared: Arc::default(),
        }
    }

    /// The same endpoint, announced with other tags or another weight.
    pub(crate) fn renewed(&self, instance: Arc<Instance>) -> Self {
        Endpoint {
            id: self.id,
            target: self.target.clone(),
            classic: self.classic,
            instance,
            shared: self.shared.clone(),
        }
    }

    /// What one more call is expected to cost here.
    pub(crate) fn cost(&self, now: Instant) -> f64 {
        self.shared.load.cost(self.instance.weight, now)
    }

    /// Calls under way.
    pub(crate) fn in_flight(&self) -> u32 {
        self.shared.load.in_flight()
    }

    /// Counts a call as under way until the guard is dropped.
    pub(crate) fn begin(self: Arc<Self>) -> InFlight {
        self.shared.load.begin();
        InFlight { endpoint: self }
    }

    /// A call failed in a way that speaks against the endpoint.
    pub(crate) fn suspect(&self) {
        self.shared.suspect.store(true, Ordering::Release);
    }

    /// Whether one did, since the last answer.
    pub(crate) fn is_suspect(&self) -> bool {
        self.shared.suspect.load(Ordering::Acquire)
    }

    /// A call was answered. Whether that is news.
    pub(crate) fn clear_suspicion(&self) -> bool {
        self.is_suspect() && self.shared.suspect.swap(false, Ordering::AcqRel)
    }

    /// A call was answered after so long.
    pub(crate) fn observe(&self, latency: Duration, now: Instant) {
        self.shared.load.observe(latency, now);
    }

    /// Looks for a connection: one that had room when it was last used, or a line that is still one, else what the pool has.
    /// Finding out that calls wait in line for the former is for who uses it.
    pub(crate) fn reach(&self, pool: &Pool) -> Reach {
        if self.shared.connected.load(Ordering::Acquire) {
            return Reach::Connected { looked: false };
        }
        if let Known::Line(connection, left @ 1..) = &mut *self.known()
            && connection.free_slots() == 0
        {
            *left -= 1;
            return Reach::Queue(connection.clone());
        }
        let (found, reach) = match pool.room(&self.target) {
            Room::Free(connection) => (Known::Open(connection), Reach::Connected { looked: true }),
            Room::Queue(connection) => (
                Known::Line(connection.clone(), more_in_a_row(&connection)),
                Reach::Queue(connection),
            ),
            Room::None(SlotStatus::Connected { .. }) => (Known::Nothing, Reach::Full),
            Room::None(_) => (Known::Nothing, Reach::Gone),
        };
        self.learn(found);
        reach
    }

    /// Does something with the connection that was found, if it was not found wanting since.
    pub(crate) fn with_connection<R>(&self, work: impl FnOnce(&Connection) -> R) -> Option<R> {
        match &*self.known() {
            Known::Open(connection) => Some(work(connection)),
            Known::Line(..) | Known::Nothing => None,
        }
    }

    /// The connection took no call: the next looks into the pool again.
    pub(crate) fn forget_connection(&self) {
        self.learn(Known::Nothing);
    }

    fn learn(&self, found: Known) {
        let connected = matches!(found, Known::Open(_));
        let replaced = {
            let mut known = self.known();
            self.shared.connected.store(connected, Ordering::Release);
            std::mem::replace(&mut *known, found)
        };
        // Outside the lock: the last handle of a connection ends it.
        drop(replaced);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way at an endpoint.
#[derive(Debug)]
pub(crate) struct InFlight {
    endpoint: Arc<Endpoint>,
}

impl InFlight {
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.shared.load.end();
    }
}
