//! The memory that a peer can make one connection hold (PROTOCOL §7.3): what is left of the receive budget when every
//! stream's first window is set aside. Large messages are reserved from it before their credit flows, windows grow into it.

use super::streams::Key;
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct ReceiveBudget {
    free: u64,
    /// Reservations that did not fit yet, in order of arrival (PROTOCOL §6.3): one that waits is overtaken by none, so a
    /// large message cannot starve behind small ones.
    waiting: VecDeque<(Key, u64)>,
}

impl ReceiveBudget {
    pub(super) fn new(free: u64) -> Self {
        Self {
            free,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// Reserves `bytes` for a message, or puts the stream in line.
    #[must_use]
    pub(super) fn reserve(&mut self, key: Key, bytes: u64) -> bool {
        if self.waiting.is_empty() && self.take(bytes) {
            return true;
        }
        self.waiting.push_back((key, bytes));
        false
    }

    /// Takes `bytes` if they are there at once and nobody waits for them: for windows, which can do without.
    #[must_use]
    pub(super) fn take_spare(&mut self, bytes: u64) -> bool {
        self.waiting.is_empty() && self.take(bytes)
    }

    /// Gives back `bytes`. Call [`next_granted`](Self::next_granted) afterwards.
    pub(super) fn release(&mut self, bytes: u64) {
        self.free = self.free.saturating_add(bytes);
    }

    /// The next waiting stream whose reservation fits now, and how much it was given.
    pub(super) fn next_granted(&mut self) -> Option<(Key, u64)> {
        let &(_, bytes) = self.waiting.front()?;
        if self.take(bytes) {
            self.waiting.pop_front()
        } else {
            None
        }
    }

    /// The stream is gone and no longer waits.
    pub(super) fn forget(&mut self, key: Key) {
        self.waiting.retain(|(waiting, _)| *waiting != key);
    }

    fn take(&mut self, bytes: u64) -> bool {
        match self.free.checked_sub(bytes) {
            Some(left) => {
                self.free = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Key {
        Key::new(n, u64::from(n))
    }

    #[test]
    fn a_waiting_reservation_is_not_overtaken() {
        let mut budget = ReceiveBudget::new(100);
        assert!(budget.reserve(key(1), 60));
        assert!(!budget.reserve(key(2), 50));
        assert!(
            !budget.reserve(key(3), 10),
            "it would fit, but another one was first"
        );
        assert!(!budget.take_spare(1));
        assert_eq!(budget.next_granted(), None);
        budget.release(60);
        assert_eq!(budget.next_granted(), Some((key(2), 50)));
        assert_eq!(budget.next_granted(), Some((key(3), 10)));
        assert_eq!(budget.next_granted(), None);
        assert_eq!(budget.free(), 40);
    }

    #[test]
    fn a_stream_that_ends_leaves_the_line() {
        let mut budget = ReceiveBudget::new(10);
        assert!(!budget.reserve(key(1), 11));
        assert!(!budget.reserve(key(2), 10));
        budget.forget(key(1));
        assert_eq!(budget.next_granted(), Some((key(2), 10)));
    }
}
