//! Connections that have been accepted and have not said yet what they are: how many there may be, and who makes room when
//! more come. Pure: time is an argument; closing and waiting are the listener's.
//!
//! Whoever has something to say is read within milliseconds, so in a burst newcomers only have to wait for the readers. What
//! has been silent for longer than that is what stands in the way, and the oldest of it goes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So long a connection keeps its place when others need it: some round trips within a data centre, and some hundred
/// times what reading a thousand first frames takes. Without need of its place it has the whole hello time-out.
const PATIENCE: Duration = Duration::from_millis(100);

/// See the module. Connections are named by their number, which counts up.
#[derive(Debug)]
pub(crate) struct Unready {
    since: BTreeMap<u64, Instant>,
    limit: usize,
}

/// What becomes of one that has just been accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is room.
    Room,
    /// There may be at this moment; if somebody makes room before, earlier.
    Wait(Instant),
    /// This one has to go for it.
    Evict(u64),
    /// There is never room.
    Never,
}

impl Unready {
    pub(crate) fn new(limit: usize) -> Self {
        Unready {
            since: BTreeMap::new(),
            limit,
        }
    }

    /// Whether one more may come now. Asking changes nothing.
    pub(crate) fn admission(&self, now: Instant) -> Admission {
        if self.since.len() < self.limit {
            return Admission::Room;
        }
        match self.since.first_key_value() {
            None => Admission::Never,
            Some((number, since)) => match *since + PATIENCE {
                until if until > now => Admission::Wait(until),
                _ => Admission::Evict(*number),
            },
        }
    }

    pub(crate) fn insert(&mut self, number: u64, now: Instant) {
        self.since.insert(number, now);
    }

    /// It has said what it is, or is gone. Whether it was still counted.
    pub(crate) fn remove(&mut self, number: u64) -> bool {
        self.since.remove(&number).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.since.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_burst_newcomers_wait_and_silence_makes_room() {
        let start = tokio::time::Instant::now().into_std();
        let at = |ms| start + Duration::from_millis(ms);
        let mut unready = Unready::new(2);
        assert_eq!(unready.admission(at(0)), Admission::Room);
        unready.insert(7, at(0));
        unready.insert(8, at(30));
        assert_eq!(unready.admission(at(40)), Admission::Wait(at(100)));
        assert_eq!(unready.admission(at(99)), Admission::Wait(at(100)));
        assert_eq!(unready.admission(at(100)), Admission::Evict(7));
        assert!(unready.remove(7));
        assert!(!unready.remove(7), "it is counted once");
        assert_eq!(unready.admission(at(100)), Admission::Room);
        unready.insert(9, at(100));
        assert_eq!(unready.admission(at(101)), Admission::Wait(at(130)));
        assert!(unready.remove(9));
        assert_eq!((unready.admission(at(101)), unready.len()), (Admission::Room, 1));
    }

    #[test]
    fn a_limit_of_none_lets_nobody_in() {
        let now = tokio::time::Instant::now().into_std();
        assert_eq!(Unready::new(0).admission(now), Admission::Never);
    }
}
