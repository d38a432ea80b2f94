//! Deadlines of the streams of one connection: a hierarchical wheel whose entries can be removed, so that one timer of
//! the runtime serves the connection (a runtime timer per call was measured at 0.6 µs). Resolution 1 ms, rounded up: a
//! deadline never fires early. Scheme: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", scheme 7.

use std::time::{Duration, Instant};

const SLOTS: usize = 64;
const BITS: u32 = 6;
/// 64^6 ms are 2.2 years: later deadlines are held as if they were then.
const LEVELS: usize = 6;
const MAX_TICK: u64 = (1 << (BITS * LEVELS as u32)) - 1;
const NIL: u32 = u32::MAX;

/// Names an entry until it fires or is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerKey(u32);

#[derive(Debug)]
struct Entry<T> {
    token: T,
    tick: u64,
    level: u8,
    slot: u8,
    previous: u32,
    next: u32,
}

#[derive(Debug, Default)]
struct Level {
    occupied: u64,
    /// Made when the level is first used: deadlines of calls are seconds away, and one level does for all of them.
    heads: Option<Box<[u32; SLOTS]>>,
}

impl Level {
    fn head(&mut self, slot: usize) -> &mut u32 {
        &mut self.heads.get_or_insert_with(|| Box::new([NIL; SLOTS]))[slot]
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct TimerWheel<T> {
    origin: Instant,
    /// All ticks up to this one have been handled.
    elapsed: u64,
    levels: [Level; LEVELS],
    entries: Vec<Option<Entry<T>>>,
    vacant: Vec<u32>,
    /// Fired, not handed out yet.
    due: Vec<T>,
    armed: usize,
}

impl<T: Copy> TimerWheel<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            elapsed: 0,
            levels: Default::default(),
            entries: Vec::new(),
            vacant: Vec::new(),
            due: Vec::new(),
            armed: 0,
        }
    }

    pub(super) fn insert(&mut self, deadline: Instant, token: T) -> TimerKey {
        if self.armed == 0 {
            // Nothing to cascade past: keep the first levels in use.
            self.elapsed = self
                .elapsed
                .max(self.tick_down(deadline).saturating_sub(MAX_TICK));
        }
        let tick = self.tick_up(deadline).max(self.elapsed + 1);
        let entry = Entry {
            token,
            tick,
            level: 0,
            slot: 0,
            previous: NIL,
            next: NIL,
        };
        let index = match self.vacant.pop() {
            Some(index) => {
                self.entries[index as usize] = Some(entry);
                index
            }
            None => {
                if self.entries.capacity() == 0 {
                    self.entries.reserve_exact(1);
                }
                self.entries.push(Some(entry));
                (self.entries.len() - 1) as u32
            }
        };
        self.link(index);
        self.armed += 1;
        TimerKey(index)
    }

    /// Gives back the room of a wheel in which nothing is armed.
    pub(super) fn shrink(&mut self) {
        if self.armed == 0 && self.due.is_empty() {
            self.levels = Default::default();
            (self.entries, self.vacant, self.due) = Default::default();
        }
    }

    /// Takes the entry out. One that has fired already is not there any more: the caller forgets its key then.
    pub(super) fn remove(&mut self, key: TimerKey) {
        if self.entries.get(key.0 as usize).is_some_and(Option::is_some) {
            self.unlink(key.0);
            self.entries[key.0 as usize] = None;
            self.vacant.push(key.0);
            self.armed -= 1;
        }
    }

    /// When to call [`poll`](Self::poll) next: never later than the first deadline, at times earlier (a level is then
    /// spread over the one below it).
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        if !self.due.is_empty() {
            return Some(self.instant(self.elapsed));
        }
        self.next_slot().map(|(_, _, tick)| self.instant(tick))
    }

    /// The next token whose deadline is not after `now`.
    pub(super) fn poll(&mut self, now: Instant) -> Option<T> {
        let now = self.tick_down(now);
        loop {
            if let Some(token) = self.due.pop() {
                return Some(token);
            }
            match self.next_slot() {
                Some((level, slot, tick)) if tick <= now => {
                    self.elapsed = tick;
                    self.open(level, slot);
                }
                _ => {
                    self.elapsed = self.elapsed.max(now);
                    return None;
                }
            }
        }
    }

    /// Everything in the slot fires, or moves to a lower level.
    fn open(&mut self, level: usize, slot: usize) {
        let mut index = std::mem::replace(self.levels[level].head(slot), NIL);
        self.levels[level].occupied &= !(1 << slot);
        while let Some(entry) = self.entries.get_mut(index as usize).and_then(Option::as_mut) {
            let next = entry.next;
            if entry.tick <= self.elapsed {
                self.due.push(entry.token);
                self.entries[index as usize] = None;
                self.vacant.push(index);
                self.armed -= 1;
            } else {
                self.link(index);
            }
            index = next;
        }
    }

    /// The first occupied slot: level, index, and the tick at which it is opened.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        self.levels
            .iter()
            .enumerate()
            .find_map(|(level, Level { occupied, .. })| {
                if *occupied == 0 {
                    return None;
                }
                let shift = BITS * level as u32;
                let current = (self.elapsed >> shift) & (SLOTS as u64 - 1);
                let distance = u64::from(occupied.rotate_right(current as u32).trailing_zeros());
                let slot = (current + distance) % SLOTS as u64;
                let turn = self.elapsed >> (shift + BITS);
                let wrapped = u64::from(slot < current);
                let tick = ((turn + wrapped) << (shift + BITS)) + (slot << shift);
                Some((level, slot as usize, tick.max(self.elapsed)))
            })
    }

    fn link(&mut self, index: u32) {
        let Some(entry) = self.entries[index as usize].as_mut() else {
            return;
        };
        // The highest bit in which the tick differs from the present names the level.
        let differing = (entry.tick ^ self.elapsed) | (SLOTS as u64 - 1);
        let level = (((63 - differing.leading_zeros()) / BITS) as usize).min(LEVELS - 1);
        let slot = ((entry.tick >> (BITS * level as u32)) & (SLOTS as u64 - 1)) as usize;
        let head = std::mem::replace(self.levels[level].head(slot), index);
        entry.level = level as u8;
        entry.slot = slot as u8;
        entry.previous = NIL;
        entry.next = head;
        if let Some(old) = self.entries.get_mut(head as usize).and_then(Option::as_mut) {
            old.previous = index;
        }
        self.levels[level].occupied |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let Some(&Entry {
            level,
            slot,
            previous,
            next,
            ..
        }) = self.entries[index as usize].as_ref()
        else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(next as usize).and_then(Option::as_mut) {
            entry.previous = previous;
        }
        match self.entries.get_mut(previous as usize).and_then(Option::as_mut) {
            Some(entry) => entry.next = next,
            None => {
                let level = &mut self.levels[level as usize];
                *level.head(slot as usize) = next;
                if next == NIL {
                    level.occupied &= !(1 << slot);
                }
            }
        }
    }

    fn tick_up(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        let up = millis(since, since.subsec_nanos().div_ceil(1_000_000));
        // One that is too far away is held at the wheel's end; the stream's deadline is checked again when it fires.
        up.min(self.elapsed + MAX_TICK / 2)
    }

    fn tick_down(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        millis(since, since.subsec_millis())
    }

    fn instant(&self, tick: u64) -> Instant {
        self.origin + Duration::from_millis(tick)
    }
}

/// The whole seconds and so many milliseconds. (In 64 bits: `Duration` counts milliseconds in 128.)
fn millis(since: Duration, rest: u32) -> u64 {
    since.as_secs().min(MAX_TICK) * 1000 + u64::from(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin; all else is computed from it"
    )]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_deadline_never_fires_early() {
        let start = origin();
        let mut wheel = TimerWheel::new(start);
        wheel.insert(start + Duration::from_micros(1500), 'a');
        assert_eq!(wheel.poll(start + ms(1)), None);
        assert_eq!(wheel.poll(start + ms(2)), Some('a'));
        assert_eq!(wheel.next_timeout(), None);
    }

    #[test]
    fn a_deadline_that_has_passed_fires_at_once() {
        let start = origin();
        let mut wheel = TimerWheel::new(start);
        assert_eq!(wheel.poll(start + ms(5000)), None);
        wheel.insert(start + ms(10), 'a');
        assert_eq!(wheel.poll(start + ms(5001)), Some('a'));
    }

    proptest! {
        /// Against a sorted map: the same tokens fire, none early, none over a tick late, and next_timeout never oversleeps.
        #[test]
        fn the_wheel_agrees_with_a_sorted_map(
            operations in prop::collection::vec((0u8..4, 0u64..400_000), 1..300),
        ) {
            let start = origin();
            let mut wheel = TimerWheel::new(start);
            let mut model: BTreeMap<usize, u64> = BTreeMap::new();
            let mut keys = BTreeMap::new();
            let mut now = 0u64;
            for (token, (kind, n)) in operations.into_iter().enumerate() {
                match kind {
                    0 | 1 => {
                        let at = now + 1 + n;
                        keys.insert(token, wheel.insert(start + ms(at), token));
                        model.insert(token, at);
                    }
                    2 => if let Some((&token, _)) = model.iter().nth(n as usize % model.len().max(1)) {
                        model.remove(&token);
                        wheel.remove(keys.remove(&token).unwrap());
                    },
                    _ => {
                        now += n / 4;
                        while let Some(token) = wheel.poll(start + ms(now)) {
                            let at = model.remove(&token);
                            prop_assert!(at.is_some_and(|at| at <= now), "token {} fired early or twice", token);
                            keys.remove(&token);
                        }
                        prop_assert!(model.values().all(|at| *at > now), "a deadline was missed");
                    }
                }
                if let Some(first) = model.values().min() {
                    let next = wheel.next_timeout().unwrap();
                    prop_assert!(next <= start + ms(*first), "would oversleep");
                } else {
                    prop_assert!(wheel.next_timeout().is_none());
                }
            }
        }
    }
}
