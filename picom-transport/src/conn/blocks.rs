//! Read buffers that large bodies were cut from. A body keeps its buffer until it is dropped, which is often soon: then the
//! buffer serves again. Asking the system for another each time costs more than reading into it, since every page of it is
//! cleared first. And a body that is kept must not keep much more than itself: there is an end to how many buffers are held
//! by bodies, and behind it bodies are to be copied.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// So many may be held by bodies. Thirty bodies of 64 KiB that are on their way through fill as many of 256 KiB, which is
/// the usual size.
const MOST: usize = 8;
/// Where frames may be larger than usual, blocks are too, and fewer may be held: so many bytes, or two.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// They serve again when no body holds them. All have the same size.
    spent: VecDeque<BytesMut>,
    /// How long they are, and the one that is read into if it is one of them.
    size: usize,
    /// Those that are not to serve again, while bodies hold them.
    held: Vec<Bytes>,
    /// The one that is read into is of this size.
    current: bool,
}

impl Blocks {
    /// Replaces `buffer` by one with room for so many bytes more, which begins with what is in it. False: too many are held
    /// by bodies; nothing is replaced.
    pub(super) fn renew(&mut self, buffer: &mut BytesMut, room: usize) -> bool {
        let need = buffer.len() + room;
        self.fit(need);
        let next = match self.free(need).and_then(|at| self.spent.remove(at)) {
            Some(block) => block,
            None if !self.may_grow() => return false,
            None => BytesMut::with_capacity(self.size),
        };
        self.replace(buffer, next);
        true
    }

    /// The same however many are held: for a buffer that no body is to be cut from.
    pub(super) fn renew_beyond(&mut self, buffer: &mut BytesMut, room: usize) {
        self.fit(buffer.len() + room);
        self.replace(buffer, BytesMut::with_capacity(self.size));
    }

    fn replace(&mut self, buffer: &mut BytesMut, mut next: BytesMut) {
        next.extend_from_slice(buffer);
        let mut spent = std::mem::replace(buffer, next);
        spent.clear();
        // One of before is as short as the reads were: it is not counted.
        if std::mem::replace(&mut self.current, true) {
            self.spent.push_back(spent);
        }
    }

    /// Whether [`renew`](Self::renew) would find one with so much room.
    pub(super) fn has_room(&mut self, room: usize) -> bool {
        self.fit(room);
        self.may_grow() || self.free(room).is_some()
    }

    /// Keeps none to serve again; those that bodies hold go on to count.
    pub(super) fn shrink(&mut self) {
        self.retire();
        self.size = 0;
        self.held.retain(|block| !block.is_unique());
        self.held.shrink_to_fit();
    }

    /// Blocks that are too short for so many bytes are of no use any more.
    fn fit(&mut self, need: usize) {
        if need > self.size {
            self.retire();
            // Twice a read, so that most frames end in the buffer in which they begin.
            self.size = (need + 1).next_power_of_two();
        }
    }

    fn retire(&mut self) {
        let (spent, size) = (std::mem::take(&mut self.spent), self.size);
        let held = spent
            .into_iter()
            .filter_map(|mut block| (!block.try_reclaim(size)).then(|| block.freeze()));
        self.held.extend(held);
        self.current = false;
    }

    fn free(&mut self, need: usize) -> Option<usize> {
        self.spent.iter_mut().position(|block| block.try_reclaim(need))
    }

    fn may_grow(&mut self) -> bool {
        self.held.retain(|block| !block.is_unique());
        let most = (MOST_BYTES / self.size.max(1)).clamp(2, MOST);
        self.spent.len() + self.held.len() < most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_buffer_serves_again_when_nothing_of_it_is_held() {
        let mut blocks = Blocks::default();
        let mut buffer = BytesMut::new();
        assert!(blocks.renew(&mut buffer, 1000));
        buffer.resize(1000, 1);
        let first = buffer.as_ptr();
        let body = buffer.split_to(980).freeze();
        assert!(blocks.renew(&mut buffer, 1000));
        assert_eq!(&buffer[..], [1; 20], "what was left is taken along");
        assert_ne!(buffer.as_ptr(), first, "a body of the first is held");
        let second = buffer.as_ptr();
        buffer.clear();
        drop(body);
        assert!(blocks.renew(&mut buffer, 1000));
        assert_eq!(buffer.as_ptr(), first);
        assert!(blocks.renew(&mut buffer, 1000));
        assert_eq!(buffer.as_ptr(), second);
    }

    /// When reads have grown longer, the blocks of before are too short. They do not stand in the way of longer ones: once
    /// they did, and every body was copied for as long as the connection stood.
    #[test]
    fn blocks_that_are_too_short_give_way_as_soon_as_no_body_holds_them() {
        let mut blocks = Blocks::default();
        let mut buffer = BytesMut::with_capacity(1024);
        let mut held = Vec::new();
        for _ in 0..2 * MOST {
            buffer.resize(1000, 1);
            held.push(buffer.split().freeze());
            blocks.renew(&mut buffer, 1000);
        }
        assert!(
            !blocks.renew(&mut buffer, 5000) && !blocks.has_room(5000),
            "bodies hold them"
        );
        held.clear();
        assert!(blocks.has_room(5000));
        for _ in 0..MOST {
            buffer.resize(5000, 1);
            held.push(buffer.split().freeze());
            assert!(blocks.renew(&mut buffer, 5000));
            assert!(buffer.capacity() >= 5000);
        }
    }

    #[test]
    fn of_large_ones_fewer_are_held() {
        for (room, most) in [(200 * 1024, 8), (400 * 1024, 4), (900 * 1024, 2), (5_000_000, 2)] {
            let mut blocks = Blocks::default();
            let mut buffer = BytesMut::new();
            let mut held = Vec::new();
            while blocks.renew(&mut buffer, room) {
                buffer.resize(room, 7);
                held.push(buffer.split().freeze());
                assert!(held.len() <= most + 1, "{room}");
            }
            // One of them is the one that is read into.
            assert_eq!(held.len(), most + 1, "{room}");
        }
    }

    proptest! {
        /// As the driver does it: frames are cut from what was read, or copied while bodies hold enough. Whatever is held
        /// for how long, in the end nothing is, and no body is copied any more: once buffers that had been grown by
        /// others stood for blocks, could not serve, and every body was copied for as long as the connection stood.
        #[test]
        fn when_nothing_is_held_there_is_room(
            turns in prop::collection::vec((1usize..700, 0usize..40, 8usize..200), 1..200),
        ) {
            let mut blocks = Blocks::default();
            let mut buffer = BytesMut::with_capacity(64);
            let mut held = VecDeque::new();
            let (mut copying, mut step) = (false, 64);
            for (read, dropped, frame) in turns {
                held.drain(..dropped.min(held.len()));
                if buffer.capacity() - buffer.len() < step {
                    copying &= !blocks.has_room(step);
                    if !buffer.try_reclaim(step) && !blocks.renew(&mut buffer, step) {
                        copying = true;
                        blocks.renew_beyond(&mut buffer, step);
                    }
                }
                prop_assert!(buffer.capacity() - buffer.len() >= step);
                let count = read.min(buffer.capacity() - buffer.len());
                buffer.resize(buffer.len() + count, 7);
                if count >= step {
                    step = (2 * step).min(512);
                }
                while buffer.len() >= frame {
                    let body = buffer.split_to(frame);
                    held.extend((!copying).then(|| body.freeze()));
                }
                prop_assert!(blocks.spent.len() + blocks.held.len() <= MOST + 1);
            }
            held.clear();
            prop_assert!(blocks.has_room(step));
            blocks.shrink();
            prop_assert!(blocks.spent.is_empty() && blocks.held.is_empty());
        }
    }

    #[test]
    fn bodies_hold_so_many_and_no_more() {
        let mut blocks = Blocks::default();
        let mut buffer = BytesMut::with_capacity(100);
        let mut held = Vec::new();
        let mut renewed = 0;
        for _ in 0..3 * MOST {
            buffer.extend_from_slice(&[7; 100]);
            held.push(buffer.split_to(100).freeze());
            // What is left of one must not be enough.
            renewed += usize::from(blocks.renew(&mut buffer, 200));
        }
        // The first was none of them, and the last is read into.
        assert_eq!(renewed, MOST + 1);
        assert!(held.iter().all(|body| body[..] == [7; 100]));
        blocks.shrink();
        assert_eq!((blocks.spent.len(), blocks.held.len()), (0, MOST));
        assert!(!blocks.has_room(1) && !blocks.renew(&mut buffer, 100));
        held.clear();
        assert!(blocks.has_room(1) && blocks.renew(&mut buffer, 100));
        blocks.shrink();
        assert!(blocks.spent.is_empty() && blocks.held.is_empty());
    }
}
