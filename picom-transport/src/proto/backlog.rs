//! Calls of ours for which the peer has no slot free: they wait here, in the order in which they came, and cost no more than
//! what they are going to send. One whose line does not move can go elsewhere: it was never sent.

use super::openings::Opening;
use super::streams::Key;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When no slot has become free for so long, those that wait are sent back: all slots may belong to streams that live for
/// hours, while another connection to the same peer has some that are used again and again.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Entries of calls that were given up are left where they are, up to so many and as many again as wait.
const LEFT: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    queue: VecDeque<(Key, Opening)>,
    /// Those that were not given up.
    waiting: usize,
    /// When the last slot was given from here, or the first call came.
    since: Option<Instant>,
    /// One was, and nobody has looked at the clock since.
    moved: bool,
    /// Slots that became free of late.
    turnover: u64,
    /// When what is long ago is next taken from it.
    halve_at: Option<Instant>,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// How many slots became free of late: half of those of the second before the last, a quarter of those before that.
    pub(super) fn turnover(&self) -> u64 {
        self.turnover
    }

    /// A slot became free.
    pub(super) fn freed(&mut self) {
        self.turnover += 1;
    }

    pub(super) fn push(&mut self, key: Key, opening: Opening, now: Instant) {
        self.queue.push_back((key, opening));
        self.waiting += 1;
        self.since.get_or_insert(now);
    }

    /// The one whose turn it is. `waits` says whether a call still does.
    pub(super) fn pop(&mut self, waits: impl Fn(Key) -> bool) -> Option<(Key, Opening)> {
        let first = loop {
            let first = self.queue.pop_front()?;
            if waits(first.0) {
                break first;
            }
        };
        self.moved = true;
        self.left();
        Some(first)
    }

    /// All that wait are being sent back: it does not move.
    pub(super) fn send_back(&mut self) {
        self.turnover = 0;
    }

    /// One of those that wait was given up. `waits` says so of it already.
    pub(super) fn given_up(&mut self, waits: impl Fn(Key) -> bool) {
        self.left();
        if self.queue.len() > 2 * self.waiting + LEFT {
            self.queue.retain(|(key, _)| waits(*key));
        }
    }

    fn left(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 {
            self.queue = VecDeque::new();
            (self.since, self.moved) = (None, false);
        }
    }

    /// To be called when the clock is at hand.
    pub(super) fn look(&mut self, now: Instant) {
        if std::mem::take(&mut self.moved) {
            self.since = Some(now);
        }
        if now >= *self.halve_at.get_or_insert(now + PATIENCE) {
            self.turnover /= 2;
            self.halve_at = Some(now + PATIENCE);
        }
    }

    /// When those that wait are sent back unless a slot is given before.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        Some(self.since? + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picom_codec::Method;

    fn opening() -> Opening {
        Opening {
            method: Method::new("m").unwrap(),
            metadata: None,
            deadline: None,
            idempotent: false,
            args: vec![1].into(),
            ends: true,
        }
    }

    fn key(n: u32) -> Key {
        Key::new(n, u64::from(n))
    }

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn calls_come_out_in_order_without_those_that_were_given_up() {
        let now = start();
        let mut backlog = Backlog::default();
        for n in 0..5 {
            backlog.push(key(n), opening(), now);
        }
        let waits = |key: Key| key.index() % 2 == 1;
        for _ in [0, 2, 4] {
            backlog.given_up(waits);
        }
        assert_eq!(backlog.len(), 2);
        assert_eq!(backlog.pop(waits).unwrap().0, key(1));
        assert_eq!(backlog.pop(waits).unwrap().0, key(3));
        assert!(backlog.is_empty() && backlog.queue.is_empty());
    }

    #[test]
    fn who_gives_up_again_and_again_leaves_nothing_behind() {
        let now = start();
        let mut backlog = Backlog::default();
        backlog.push(key(0), opening(), now);
        for n in 1..10_000 {
            backlog.push(key(n), opening(), now);
            backlog.given_up(|key| key.index() == 0);
            assert!(backlog.queue.len() <= 2 + LEFT, "{}", backlog.queue.len());
        }
        assert_eq!(backlog.len(), 1);
    }

    #[test]
    fn turnover_is_forgotten_by_halves_and_at_once_when_nothing_moves() {
        let now = start();
        let mut backlog = Backlog::default();
        backlog.look(now);
        for _ in 0..100 {
            backlog.freed();
        }
        backlog.look(now + PATIENCE / 2);
        assert_eq!(backlog.turnover(), 100);
        backlog.look(now + PATIENCE);
        backlog.look(now + PATIENCE);
        assert_eq!(backlog.turnover(), 50);
        backlog.send_back();
        assert_eq!(backlog.turnover(), 0);
    }

    #[test]
    fn patience_begins_with_the_first_and_again_with_each_move() {
        let now = start();
        let later = now + PATIENCE / 2;
        let mut backlog = Backlog::default();
        assert_eq!(backlog.patience_ends(), None);
        backlog.push(key(0), opening(), now);
        backlog.push(key(1), opening(), later);
        backlog.push(key(2), opening(), later);
        assert_eq!(backlog.patience_ends(), Some(now + PATIENCE));
        backlog.pop(|_| true);
        backlog.look(later);
        assert_eq!(backlog.patience_ends(), Some(later + PATIENCE));
        backlog.look(later + PATIENCE);
        assert_eq!(backlog.patience_ends(), Some(later + PATIENCE), "nothing moved");
        backlog.given_up(|_| false);
        backlog.given_up(|_| false);
        assert_eq!(backlog.patience_ends(), None);
    }
}
