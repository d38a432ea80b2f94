//! What is due when: a set of named moments, earliest first. It holds no clock; `state` asks with a `now`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What happens at a moment. The text is the id of a check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A check has gone without a heartbeat for its whole TTL.
    Ttl(String),
    /// An output that was not worth a change of its own reaches the catalog.
    Output(String),
    /// The reaper looks at a check that has been critical for long enough.
    Reap(String),
}

/// The moments; each timer is armed at most once.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_moment: BTreeSet<(Instant, Timer)>,
    by_timer: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Sets the moment of a timer, in place of the one it had.
    pub(crate) fn arm(&mut self, timer: Timer, at: Instant) {
        self.disarm(&timer);
        self.by_moment.insert((at, timer.clone()));
        self.by_timer.insert(timer, at);
    }

    /// Sets the moment only if there was none.
    pub(crate) fn arm_once(&mut self, timer: Timer, at: Instant) {
        if !self.is_armed(&timer) {
            self.arm(timer, at);
        }
    }

    /// Whether the timer has a moment.
    pub(crate) fn is_armed(&self, timer: &Timer) -> bool {
        self.by_timer.contains_key(timer)
    }

    /// Forgets a timer.
    pub(crate) fn disarm(&mut self, timer: &Timer) {
        if let Some(at) = self.by_timer.remove(timer) {
            self.by_moment.remove(&(at, timer.clone()));
        }
    }

    /// The earliest moment.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_moment.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due, with its moment.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(Instant, Timer)> {
        if self.next()? > now {
            return None;
        }
        let (at, timer) = self.by_moment.pop_first()?;
        self.by_timer.remove(&timer);
        Some((at, timer))
    }
}
