//! What opens streams, while it waits: a call of ours until its frame is written, or the peer's until its handler takes it.
//! Kept in line and not in the streams, because it is as large as the rest of a stream and waits for a moment only.

use super::streams::Key;
use bytes::Bytes;
use picom_codec::{Body, Method};
use std::collections::VecDeque;
use std::time::Instant;

/// What opens a stream: our call before its open was written, or the peer's until its handler takes it.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The method.
    pub method: Method,
    /// An encoded map, or nothing.
    pub metadata: Option<Bytes>,
    /// When the call's time has passed.
    pub deadline: Option<Instant>,
    /// The call may run more than once.
    pub idempotent: bool,
    /// The args: one message.
    pub args: Body,
    /// No input follows.
    pub ends: bool,
}

/// Room that is kept when the line is empty, 2 KiB: there are many idle connections, and to grow again costs a burst little.
const KEPT: usize = 16;

/// See the module. At most one entry for each stream, so it is bounded by the number of streams.
#[derive(Debug, Default)]
pub(super) struct Openings(VecDeque<(Key, Opening)>);

impl Openings {
    pub(super) fn push(&mut self, key: Key, opening: Opening) {
        if self.0.capacity() == 0 {
            self.0.reserve_exact(1);
        }
        self.0.push_back((key, opening));
    }

    /// Gives back the room that is not needed.
    pub(super) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Back to the front, after [`take`](Self::take).
    pub(super) fn put_back(&mut self, key: Key, opening: Opening) {
        self.0.push_front((key, opening));
    }

    /// Takes the one of this stream: nearly always the first, since streams take turns in the order in which they came.
    pub(super) fn take(&mut self, key: Key) -> Option<Opening> {
        let taken = match self.0.front() {
            Some((first, _)) if *first == key => self.0.pop_front(),
            _ => self.position(key).and_then(|at| self.0.remove(at)),
        };
        if self.0.is_empty() && self.0.capacity() > KEPT {
            self.0.shrink_to(KEPT);
        }
        taken.map(|(_, opening)| opening)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Opening> {
        let at = self.position(key)?;
        self.0.get_mut(at).map(|(_, opening)| opening)
    }

    fn position(&self, key: Key) -> Option<usize> {
        self.0.iter().position(|(other, _)| *other == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(n: u8) -> Opening {
        Opening {
            method: Method::new("m").unwrap(),
            metadata: None,
            deadline: None,
            idempotent: false,
            args: vec![n].into(),
            ends: true,
        }
    }

    #[test]
    fn each_is_found_once_in_whatever_order_they_are_asked_for() {
        let mut openings = Openings::default();
        let keys: Vec<Key> = (0..5).map(|n| Key::new(n, u64::from(n) + 1)).collect();
        for (n, key) in keys.iter().enumerate() {
            openings.push(*key, opening(n as u8));
        }
        openings.get_mut(keys[4]).unwrap().args = vec![9].into();
        for (at, expected) in [(2, 2), (0, 0), (4, 9), (1, 1), (3, 3)] {
            assert_eq!(openings.take(keys[at]).unwrap().args, [expected][..]);
            assert!(openings.take(keys[at]).is_none());
        }
        let first = Key::new(0, 7);
        openings.push(keys[1], opening(1));
        openings.put_back(first, opening(0));
        assert_eq!(openings.0.front().unwrap().0, first);
        assert!(openings.get_mut(keys[0]).is_none(), "another tenant of the place");
    }

    #[test]
    fn a_burst_does_not_keep_its_room() {
        let mut openings = Openings::default();
        for n in 0..1000 {
            openings.push(Key::new(n, 1), opening(0));
        }
        for n in 0..1000 {
            assert!(openings.take(Key::new(n, 1)).is_some());
        }
        assert!(openings.0.capacity() <= 2 * KEPT);
    }
}
