//! The endpoints of one service: what discovery reports, corrected at once by what connections and calls learn. The
//! truth of a connection beats the truth of the registry: a refused dial, a drain or a lost connection changes what is
//! picked before any watch reports. Pure: time and random numbers are arguments; dialing and waiting are in `service.rs`.

mod pick;

pub(crate) use pick::Pick;

use super::accrual::Accrual;
use super::balance::Balance;
use super::endpoint::{Endpoint, EndpointId};
use super::random::Random;
use super::ring::Ring;
use picom_discovery::{DiscoveryError, Freshness, InstanceKey, Snapshot};
use picom_transport::Target;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long connections of instances that vanished all at once are still used: a registry that lost its state gets its
/// registrations back within a heartbeat of 10 s.
const AFTERGLOW: Duration = Duration::from_secs(10);

/// How long an endpoint that said it drains is left alone. It will not come back; but an address that is known without
/// an instance id may be taken by a successor.
pub(crate) const DRAIN_PAUSE: Duration = Duration::from_secs(5);

/// Connected endpoints a client keeps to one service. Two choices balance as well over 64 as over 1,000, and the
/// instances do not each hold a connection of every client.
pub(crate) const CONNECTED: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Endpoints {
    slots: Vec<Option<Entry>>,
    vacant: Vec<u32>,
    by_instance: HashMap<InstanceKey, u32>,
    by_id: HashMap<EndpointId, u32>,
    /// Connected, and may be called.
    ready: Vec<u32>,
    /// Not connected.
    idle: Vec<u32>,
    /// Left alone but for probes.
    ejected: Vec<u32>,
    /// When the first of these may be probed.
    next_probe: Option<Instant>,
    standing: Standing,
    /// Since the whole set vanished: until when its connections are used.
    afterglow: Option<Instant>,
    strict: bool,
    /// Instances without the native mark are called in classic.
    classic: bool,
    balance: Balance,
    turn: usize,
    /// Built when a key is first asked for.
    ring: Option<Ring>,
    next_id: u64,
}

#[derive(Debug)]
struct Entry {
    endpoint: Arc<Endpoint>,
    accrual: Accrual,
    connected: bool,
    dialing: bool,
    /// It said that it is ending. Believed until `not_before`.
    draining: bool,
    /// Not dialed before then.
    not_before: Option<Instant>,
    place: Place,
    /// Where it stands in the list of its place.
    position: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ready,
    Idle,
    Ejected,
}

/// What discovery says about the service as a whole.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// Nothing is known yet.
    Pending { error: Option<Arc<DiscoveryError>> },
    /// It is known what is registered.
    Known {
        /// Instances of that name, whatever their health.
        registered: usize,
        /// Those that pass their checks but do not speak our protocol.
        foreign: usize,
        /// The registry cannot be asked at present: the set is the last known.
        stale: Option<Arc<DiscoveryError>>,
    },
}

/// How an endpoint looks from outside, for `status()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointState {
    /// Connected: calls go there.
    Ready,
    /// Not connected, will be dialed when needed.
    Idle,
    /// Left alone after failures in a row.
    Ejected,
    /// It said that it is ending.
    Draining,
}

impl Endpoints {
    pub(crate) fn new(balance: Balance, strict: bool) -> Self {
        Endpoints {
            slots: Vec::new(),
            vacant: Vec::new(),
            by_instance: HashMap::new(),
            by_id: HashMap::new(),
            ready: Vec::new(),
            idle: Vec::new(),
            ejected: Vec::new(),
            next_probe: None,
            standing: Standing::Pending { error: None },
            afterglow: None,
            strict,
            classic: false,
            balance,
            turn: 0,
            ring: None,
            next_id: 0,
        }
    }

    /// The same, with or without the instances that speak classic.
    pub(crate) fn with_classic(mut self, classic: bool) -> Self {
        self.classic = classic;
        self
    }

    /// Takes over what discovery reports. Gives back the targets that are not wanted any more.
    ///
    /// Instances that fail their check go at once. When everything vanished in one answer, connections that are open
    /// are used for [`AFTERGLOW`], unless one of them had announced its end or the client is strict.
    pub(crate) fn apply(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<Target> {
        let stale = match &snapshot.freshness {
            Freshness::Pending { error } => {
                self.standing = Standing::Pending { error: error.clone() };
                return Vec::new();
            }
            Freshness::Live => None,
            Freshness::Stale { error, .. } => Some(error.clone()),
        };
        let registered = snapshot.instances.len();
        let (ours, foreign): (Vec<_>, Vec<_>) = snapshot
            .usable()
            .partition(|instance| self.classic || instance.native_version().is_some());
        self.standing = Standing::Known {
            registered,
            foreign: foreign.len(),
            stale,
        };

        let vanished = registered == 0 && !self.by_id.is_empty();
        if vanished && self.afterglow.is_some() {
            return self.expire(now);
        }
        if vanished && !self.strict && !self.entries().any(|entry| entry.draining) {
            self.afterglow = Some(now + AFTERGLOW);
            return self.remove_where(|entry| !entry.connected);
        }
        self.afterglow = None;
        let wanted: HashMap<InstanceKey, _> = ours
            .into_iter()
            .map(|instance| (instance.key(), instance))
            .collect();
        // An instance whose address or identity changed is another endpoint.
        let mut gone = self.remove_where(|entry| {
            let known = &entry.endpoint.instance;
            wanted.get(&known.key()).is_none_or(|now| {
                now.host != known.host
                    || now.port != known.port
                    || now.uuid() != known.uuid()
                    || now.native_version().is_none() != entry.endpoint.classic
            })
        });
        for (key, instance) in wanted {
            match self.by_instance.get(&key) {
                Some(&slot) => self.renew(slot, instance),
                None => self.add(key, instance.clone()),
            }
        }
        // The same process under another node or id.
        gone.retain(|target| !self.entries().any(|entry| entry.endpoint.target == *target));
        gone
    }

    /// Drops what was only kept for the afterglow, once that is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Target> {
        match self.afterglow {
            Some(until) if until <= now => {
                self.afterglow = None;
                self.remove_where(|_| true)
            }
            _ => Vec::new(),
        }
    }

    /// Whether there is an endpoint the call has not tried and that is not ending.
    pub(crate) fn has_other(&self, now: Instant, tried: &[EndpointId]) -> bool {
        self.entries()
            .any(|entry| !entry.is_draining(now) && !tried.contains(&entry.endpoint.id))
    }

    /// A connection to the endpoint is there.
    ///
    /// Says whether that is news: of one that was connected already nobody needs to be told.
    pub(crate) fn connected(&mut self, id: EndpointId) -> bool {
        let mut news = false;
        self.update(id, |entry| {
            news = !entry.connected || entry.draining;
            entry.connected = true;
            entry.dialing = false;
            entry.draining = false;
            entry.not_before = None;
        });
        news
    }

    /// There is no connection that takes calls, and none before `not_before`.
    pub(crate) fn disconnected(&mut self, id: EndpointId, not_before: Option<Instant>) {
        self.update(id, |entry| {
            entry.connected = false;
            entry.dialing = false;
            entry.not_before = not_before;
        });
    }

    /// The endpoint said that it is ending.
    pub(crate) fn draining(&mut self, id: EndpointId, now: Instant) {
        self.update(id, |entry| {
            entry.connected = false;
            entry.dialing = false;
            entry.draining = true;
            entry.not_before = Some(now + DRAIN_PAUSE);
        });
    }

    /// A call was answered.
    pub(crate) fn answered(&mut self, id: EndpointId) {
        self.update(id, |entry| {
            entry.accrual.success();
        });
    }

    /// A call failed in a way that speaks against the endpoint. True if it is ejected for it.
    pub(crate) fn failed(&mut self, id: EndpointId, now: Instant) -> bool {
        let mut ejected = false;
        self.update(id, |entry| ejected = entry.accrual.failure(now));
        ejected
    }

    /// A call ended without saying anything about the endpoint.
    pub(crate) fn undecided(&mut self, id: EndpointId) {
        self.update(id, |entry| entry.accrual.undecided());
    }

    /// The endpoints to be dialed ahead of need, marked as being dialed.
    pub(crate) fn take_due(&mut self, now: Instant, random: &mut Random) -> Vec<Arc<Endpoint>> {
        if self.afterglow.is_some() {
            return Vec::new();
        }
        let under_way = self
            .idle
            .iter()
            .filter(|slot| self.entry(**slot).is_some_and(|e| e.dialing))
            .count();
        let connected = self
            .entries()
            .filter(|entry| entry.connected && !entry.endpoint.classic)
            .count();
        let room = CONNECTED.saturating_sub(connected + under_way);
        let mut due: Vec<u32> = self
            .idle
            .iter()
            .copied()
            .filter(|slot| self.entry(*slot).is_some_and(|e| e.is_due(now)))
            .collect();
        let mut chosen = Vec::new();
        while chosen.len() < room && !due.is_empty() {
            let slot = due.swap_remove(random.below(due.len()));
            if let Some(entry) = self.entry_mut(slot) {
                entry.dialing = true;
                chosen.push(entry.endpoint.clone());
            }
        }
        chosen
    }

    /// When something is to be done without anybody asking: the afterglow ends or, with `dialing`, an endpoint may be
    /// dialed again. Always after `now`: an endpoint that is due and was not dialed waits for something else, as for the end
    /// of the afterglow or for room, and must not be asked about again and again.
    pub(crate) fn next_event(&self, now: Instant, dialing: bool) -> Option<Instant> {
        let dial = self
            .idle
            .iter()
            .filter(|_| dialing)
            .filter_map(|slot| {
                self.entry(*slot)
                    .filter(|e| !e.dialing)
                    .and_then(|e| e.not_before)
            })
            .filter(|at| *at > now)
            .min();
        dial.into_iter().chain(self.afterglow).min()
    }

    /// What discovery says about the service.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Whether a call could be sent somewhere.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Every endpoint and how it stands, in no order.
    pub(crate) fn states(&self, now: Instant) -> impl Iterator<Item = (&Arc<Endpoint>, EndpointState)> {
        self.entries().map(move |entry| {
            let state = match entry.place {
                _ if entry.is_draining(now) => EndpointState::Draining,
                Place::Ready => EndpointState::Ready,
                Place::Idle => EndpointState::Idle,
                Place::Ejected => EndpointState::Ejected,
            };
            (&entry.endpoint, state)
        })
    }

    // ---- the lists

    fn add(&mut self, key: InstanceKey, instance: Arc<picom_discovery::Instance>) {
        let id = EndpointId(self.next_id);
        self.next_id += 1;
        let endpoint = Arc::new(Endpoint::new(id, instance));
        let classic = endpoint.classic;
        let entry = Entry {
            endpoint,
            accrual: Accrual::default(),
            connected: false,
            dialing: false,
            draining: false,
            not_before: None,
            place: Place::Idle,
            position: self.idle.len() as u32,
        };
        let slot = match self.vacant.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
        };
        self.idle.push(slot);
        self.by_instance.insert(key, slot);
        self.by_id.insert(id, slot);
        if let Some(room) = self.slots.get_mut(slot as usize) {
            *room = Some(entry);
        }
        self.ring = None;
        if classic {
            // There is no connection to wait for: each call makes its own.
            self.connected(id);
        }
    }

    fn renew(&mut self, slot: u32, instance: &Arc<picom_discovery::Instance>) {
        let Some(entry) = self.entry_mut(slot) else { return };
        let known = &entry.endpoint.instance;
        if Arc::ptr_eq(known, instance) || known == instance {
            return;
        }
        entry.endpoint = Arc::new(entry.endpoint.renewed(instance.clone()));
        self.ring = None;
    }

    fn remove_where(&mut self, gone: impl Fn(&Entry) -> bool) -> Vec<Target> {
        let slots: Vec<u32> = (0u32..)
            .zip(&self.slots)
            .filter(|(_, entry)| entry.as_ref().is_some_and(&gone))
            .map(|(slot, _)| slot)
            .collect();
        let mut targets = Vec::with_capacity(slots.len());
        for slot in slots {
            self.unlist(slot);
            if let Some(entry) = self.slots.get_mut(slot as usize).and_then(Option::take) {
                self.by_instance.remove(&entry.endpoint.instance.key());
                self.by_id.remove(&entry.endpoint.id);
                targets.push(entry.endpoint.target.clone());
                self.vacant.push(slot);
            }
            self.ring = None;
        }
        targets
    }

    /// Changes an entry and moves it to the list it then belongs to.
    fn update(&mut self, id: EndpointId, change: impl FnOnce(&mut Entry)) {
        let Some(&slot) = self.by_id.get(&id) else { return };
        let Some(entry) = self.entry_mut(slot) else { return };
        change(entry);
        let place = match entry.accrual.is_ejected() {
            true => Place::Ejected,
            false if entry.connected => Place::Ready,
            false => Place::Idle,
        };
        let before = entry.place;
        if place != before {
            self.unlist(slot);
            let list = self.list(place);
            let position = list.len() as u32;
            list.push(slot);
            if let Some(entry) = self.entry_mut(slot) {
                entry.place = place;
                entry.position = position;
            }
        }
        if place == Place::Ejected || before == Place::Ejected {
            self.note_probes();
        }
    }

    fn note_probes(&mut self) {
        self.next_probe = self
            .ejected
            .iter()
            .filter_map(|slot| self.entry(*slot)?.accrual.probe_at())
            .min();
    }

    fn unlist(&mut self, slot: u32) {
        let Some((place, position)) = self.entry(slot).map(|entry| (entry.place, entry.position)) else {
            return;
        };
        let list = self.list(place);
        list.swap_remove(position as usize);
        let moved = list.get(position as usize).copied();
        if let Some(entry) = moved.and_then(|slot| self.entry_mut(slot)) {
            entry.position = position;
        }
    }

    fn list(&mut self, place: Place) -> &mut Vec<u32> {
        match place {
            Place::Ready => &mut self.ready,
            Place::Idle => &mut self.idle,
            Place::Ejected => &mut self.ejected,
        }
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten()
    }
}

impl Entry {
    fn is_due(&self, now: Instant) -> bool {
        !self.dialing && self.not_before.is_none_or(|at| at <= now)
    }

    fn is_draining(&self, now: Instant) -> bool {
        self.draining && self.not_before.is_some_and(|at| at > now)
    }
}

#[cfg(test)]
mod tests;
