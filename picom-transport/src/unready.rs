//! Connections that have been accepted and have not said yet what they are: how many there may be, and who makes room when
//! more come. Pure: time is an argument; closing and waiting are the listener's.
//!
//! Whoever is about to say something has a while for it, and whoever is saying it keeps his place. What has been silent
//! for longer is what stands in the way, and what has been so the longest goes.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// So long a silent connection keeps its place when others need it. A program that opens thousands of connections at once writes
/// to the first when it has opened the last: some hundred milliseconds for ten thousand. Without need of its place a
/// connection has the whole hello time-out.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the module. Connections are named by their number, which counts up.
#[derive(Debug)]
pub(crate) struct Unready {
    /// When something of each was last heard, as far as is known here.
    heard: HashMap<u64, Instant>,
    /// The same, the longest silent first.
    order: BTreeSet<(Instant, u64)>,
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
            heard: HashMap::new(),
            order: BTreeSet::new(),
            limit,
        }
    }

    /// Whether one more may come now. `last_heard` says when bytes of a connection came last, where that is known; it is asked
    /// about the longest silent alone, so that bytes cost nothing while there is room.
    pub(crate) fn admission(
        &mut self,
        now: Instant,
        last_heard: impl Fn(u64) -> Option<Instant>,
    ) -> Admission {
        if self.heard.len() < self.limit {
            return Admission::Room;
        }
        match self.longest_silent(last_heard) {
            None => Admission::Never,
            Some((since, number)) => match since + PATIENCE {
                until if until > now => Admission::Wait(until),
                _ => Admission::Evict(number),
            },
        }
    }

    /// Who has been silent beyond our patience for the longest time, whether there is room or not.
    pub(crate) fn silent(
        &mut self,
        now: Instant,
        last_heard: impl Fn(u64) -> Option<Instant>,
    ) -> Option<u64> {
        let (since, number) = self.longest_silent(last_heard)?;
        (since + PATIENCE <= now).then_some(number)
    }

    fn longest_silent(&mut self, last_heard: impl Fn(u64) -> Option<Instant>) -> Option<(Instant, u64)> {
        loop {
            let &(since, number) = self.order.first()?;
            // Each turn of the loop is paid for by bytes that have come since the last one asked.
            match last_heard(number) {
                Some(later) if later > since => self.insert(number, later),
                _ => return Some((since, number)),
            }
        }
    }

    pub(crate) fn insert(&mut self, number: u64, now: Instant) {
        self.remove(number);
        self.heard.insert(number, now);
        self.order.insert((now, number));
    }

    /// It has said what it is, or is gone. Whether it was still counted.
    pub(crate) fn remove(&mut self, number: u64) -> bool {
        match self.heard.remove(&number) {
            None => false,
            Some(since) => self.order.remove(&(since, number)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.heard.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn nothing_more(_: u64) -> Option<Instant> {
        None
    }

    #[test]
    fn in_a_burst_newcomers_wait_and_silence_makes_room() {
        let start = start();
        let at = |ms| start + Duration::from_millis(ms);
        let mut unready = Unready::new(2);
        let admission = |unready: &mut Unready, ms| unready.admission(at(ms), nothing_more);
        assert_eq!(admission(&mut unready, 0), Admission::Room);
        unready.insert(7, at(0));
        unready.insert(8, at(30));
        assert_eq!(admission(&mut unready, 40), Admission::Wait(at(1000)));
        assert_eq!(admission(&mut unready, 999), Admission::Wait(at(1000)));
        assert_eq!(admission(&mut unready, 1000), Admission::Evict(7));
        assert!(unready.remove(7));
        assert!(!unready.remove(7), "it is counted once");
        assert_eq!(admission(&mut unready, 1000), Admission::Room);
        unready.insert(9, at(1000));
        assert_eq!(admission(&mut unready, 1001), Admission::Wait(at(1030)));
        assert!(unready.remove(9));
        assert_eq!(
            (admission(&mut unready, 1001), unready.len()),
            (Admission::Room, 1)
        );
    }

    #[test]
    fn who_is_speaking_keeps_the_place_and_the_silent_one_goes() {
        let start = start();
        let at = |ms| start + Duration::from_millis(ms);
        let mut unready = Unready::new(2);
        unready.insert(7, at(0));
        unready.insert(8, at(500));
        let speaks = |ms: u64| move |number| (number == 7).then(|| at(ms));
        assert_eq!(
            unready.admission(at(1400), speaks(1390)),
            Admission::Wait(at(1500))
        );
        assert_eq!(unready.admission(at(1600), speaks(1590)), Admission::Evict(8));
        assert!(unready.remove(8));
        assert_eq!(unready.silent(at(2500), speaks(1590)), None);
        assert_eq!(unready.silent(at(2590), speaks(1590)), Some(7), "it fell silent");
        assert!(unready.remove(7));
        assert_eq!(unready.silent(at(9000), nothing_more), None);
    }

    #[test]
    fn a_limit_of_none_lets_nobody_in() {
        assert_eq!(Unready::new(0).admission(start(), nothing_more), Admission::Never);
    }
}
