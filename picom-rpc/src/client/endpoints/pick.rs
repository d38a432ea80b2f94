//! In which order endpoints are considered for a call. Pure.

use super::{Endpoints, Entry, Place};
use crate::client::balance::{Balance, first_from, round_robin, two_choices};
use crate::client::endpoint::{Endpoint, EndpointId};
use crate::client::random::Random;
use crate::client::ring::Ring;
use std::sync::Arc;
use std::time::Instant;

/// Whom a call goes to.
#[derive(Clone, Debug)]
pub(crate) enum Pick {
    /// It was connected when last heard of.
    Ready(Arc<Endpoint>),
    /// It must be dialed first.
    Dial(Arc<Endpoint>),
    /// All that is left is ending: the set is about to change.
    Draining,
    /// There are endpoints, and the call has tried them all.
    Exhausted,
    /// There is no endpoint.
    Empty,
}

impl Endpoints {
    /// Chooses. `tried` are the endpoints not to be chosen; `key` ties calls with the same key to the same endpoint.
    pub(crate) fn pick(
        &mut self,
        now: Instant,
        random: &mut Random,
        tried: &[EndpointId],
        key: Option<u64>,
    ) -> Pick {
        if self.afterglow.is_some_and(|until| until <= now) || self.by_id.is_empty() {
            return Pick::Empty;
        }
        if self.afterglow.is_some() {
            // Nobody vouches for these any more: what is connected serves, nothing is dialed.
            return match self
                .balanced(now, random, tried)
                .or_else(|| self.least_ejected(tried))
            {
                Some(slot) if self.entry(slot).is_some_and(|entry| entry.connected) => self.taken(slot, now),
                _ => Pick::Empty,
            };
        }
        let chosen = key
            .and_then(|key| self.owner(key, now, tried))
            .or_else(|| self.due_probe(now, tried))
            .or_else(|| self.balanced(now, random, tried))
            .or_else(|| self.dialable(now, random, tried))
            .or_else(|| self.least_ejected(tried))
            .or_else(|| self.backing_off(now, tried));
        match chosen {
            Some(slot) => self.taken(slot, now),
            None if self
                .entries()
                .any(|e| e.is_draining(now) && !tried.contains(&e.endpoint.id)) =>
            {
                Pick::Draining
            }
            None => Pick::Exhausted,
        }
    }

    fn owner(&mut self, key: u64, now: Instant, tried: &[EndpointId]) -> Option<u32> {
        let ring = self.ring.take().unwrap_or_else(|| self.build_ring());
        let owner = ring.owners(key).find(|&slot| {
            self.entry(slot).is_some_and(|entry| {
                let resting = match entry.place {
                    Place::Ready => false,
                    Place::Idle => entry.not_before.is_some_and(|at| at > now),
                    Place::Ejected => entry.accrual.probe_at().is_none_or(|at| at > now),
                };
                !resting && !tried.contains(&entry.endpoint.id)
            })
        });
        self.ring = Some(ring);
        owner
    }

    fn build_ring(&self) -> Ring {
        // By instance id: the same for all clients.
        Ring::new(self.slots.iter().zip(0u32..).filter_map(|(entry, slot)| {
            let instance = &entry.as_ref()?.endpoint.instance;
            Some((slot, &*instance.id, instance.weight))
        }))
    }

    fn due_probe(&self, now: Instant, tried: &[EndpointId]) -> Option<u32> {
        if self.next_probe.is_none_or(|at| at > now) {
            return None;
        }
        self.ejected.iter().copied().find(|slot| {
            self.entry(*slot).is_some_and(|entry| {
                entry.accrual.probe_at().is_some_and(|at| at <= now) && !tried.contains(&entry.endpoint.id)
            })
        })
    }

    fn balanced(&mut self, now: Instant, random: &mut Random, tried: &[EndpointId]) -> Option<u32> {
        let mut turn = self.turn;
        let excluded = |position: usize| {
            self.at(position)
                .is_none_or(|entry| tried.contains(&entry.endpoint.id))
        };
        let cost = |position: usize| {
            self.at(position)
                .map_or(f64::MAX, |entry| entry.endpoint.cost(now))
        };
        let position = match self.balance {
            Balance::TwoChoices => two_choices(self.ready.len(), random, tried.len(), excluded, cost),
            Balance::RoundRobin => round_robin(self.ready.len(), &mut turn, tried.len(), excluded),
        };
        self.turn = turn;
        self.ready.get(position?).copied()
    }

    fn dialable(&self, now: Instant, random: &mut Random, tried: &[EndpointId]) -> Option<u32> {
        let len = self.idle.len();
        let start = random.below(len);
        let position = first_from(start, len, len, |position| {
            self.idle
                .get(position)
                .and_then(|slot| self.entry(*slot))
                .is_none_or(|entry| {
                    entry.not_before.is_some_and(|at| at > now) || tried.contains(&entry.endpoint.id)
                })
        })?;
        self.idle.get(position).copied()
    }

    /// Ejecting everything helps nobody: with no other endpoint left, the one nearest to its probe is used.
    fn least_ejected(&self, tried: &[EndpointId]) -> Option<u32> {
        self.ejected
            .iter()
            .copied()
            .filter(|slot| {
                self.entry(*slot)
                    .is_some_and(|entry| !tried.contains(&entry.endpoint.id))
            })
            .min_by_key(|slot| self.entry(*slot).and_then(|entry| entry.accrual.probe_at()))
    }

    /// The pool answers for it at once with what the last dial said.
    fn backing_off(&self, now: Instant, tried: &[EndpointId]) -> Option<u32> {
        self.idle
            .iter()
            .copied()
            .filter(|slot| {
                self.entry(*slot)
                    .is_some_and(|entry| !entry.is_draining(now) && !tried.contains(&entry.endpoint.id))
            })
            .min_by_key(|slot| self.entry(*slot).and_then(|entry| entry.not_before))
    }

    fn taken(&mut self, slot: u32, now: Instant) -> Pick {
        let Some(entry) = self.entry_mut(slot) else {
            return Pick::Empty;
        };
        if entry.accrual.probe_at().is_some_and(|at| at <= now) {
            entry.accrual.probe();
            self.note_probes();
        }
        let Some(entry) = self.entry(slot) else {
            return Pick::Empty;
        };
        let endpoint = entry.endpoint.clone();
        if entry.connected {
            Pick::Ready(endpoint)
        } else {
            Pick::Dial(endpoint)
        }
    }

    fn at(&self, position: usize) -> Option<&Entry> {
        self.ready.get(position).and_then(|slot| self.entry(*slot))
    }
}
