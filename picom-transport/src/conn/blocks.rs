//! Read buffers that large bodies are cut from. A body keeps its buffer until it is dropped, which is often soon: then the
//! buffer serves again. Asking the system for another each time costs more than reading into it, since every page of it is
//! cleared first. And a body that is kept must not keep much more than itself: there is an end to how many buffers are held
//! by bodies, and behind it bodies are to be copied.

use bytes::BytesMut;

/// A buffer is cut from while bodies hold fewer bytes of others than this: eight of 256 KiB, the usual size. Thirty bodies of
/// 64 KiB that are on their way through fill as many.
const MOST_HELD: usize = 2 * 1024 * 1024;
/// Or fewer than so many: where frames may be larger than usual, buffers are, too.
const FEW: usize = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Those that were read into before: held by bodies, or free to serve again.
    spent: Vec<Block>,
    /// How long the one is that is read into; 0 if that is none of them, and no body may be cut from it.
    size: usize,
}

#[derive(Debug)]
struct Block {
    /// Empty.
    buffer: BytesMut,
    size: usize,
}

impl Block {
    /// Whether no body holds it. It has all its room back then.
    fn is_free(&mut self) -> bool {
        self.buffer.try_reclaim(self.size)
    }
}

impl Blocks {
    /// Gives `buffer`, which is read into, room for so many bytes more, replacing it if need be. Says whether bodies may be
    /// cut from it.
    pub(super) fn make_room(&mut self, buffer: &mut BytesMut, room: usize) -> bool {
        if self.size == 0 || !buffer.try_reclaim(room) {
            self.replace(buffer, room);
        }
        self.may_cut()
    }

    /// Nothing has come for a while: takes the buffer that was read into, and keeps only what bodies hold, to be counted.
    pub(super) fn rest(&mut self, buffer: BytesMut) {
        self.keep(buffer, 0);
        self.spent.retain_mut(|block| !block.is_free());
        self.spent.shrink_to_fit();
    }

    fn replace(&mut self, buffer: &mut BytesMut, room: usize) {
        let need = buffer.len() + room;
        let free = self
            .spent
            .iter_mut()
            .position(|block| block.size >= need && block.is_free());
        let next = match free {
            Some(at) => self.spent.swap_remove(at),
            // Twice a read, so that most frames end in the buffer in which they begin.
            None => {
                let size = (need + 1).next_power_of_two();
                let buffer = BytesMut::with_capacity(size);
                Block { buffer, size }
            }
        };
        let Block {
            buffer: mut next,
            size,
        } = next;
        next.extend_from_slice(buffer);
        let before = std::mem::replace(buffer, next);
        self.keep(before, size);
    }

    /// What was read into is no more; what is now has this size.
    fn keep(&mut self, mut before: BytesMut, size: usize) {
        before.clear();
        let before = Block {
            buffer: before,
            size: std::mem::replace(&mut self.size, size),
        };
        // One that was none of them holds nothing that counts.
        if before.size > 0 {
            self.spent.push(before);
        }
    }

    /// Whether bodies hold so few buffers that they may hold the present one as well. It is asked before the first is cut
    /// from it, so with it they hold no more than [`MOST_HELD`] bytes, or [`FEW`] buffers.
    fn may_cut(&mut self) -> bool {
        let (mut held, mut count, mut free) = (0, 0, 0);
        let size = self.size;
        self.spent.retain_mut(|block| {
            if !block.is_free() {
                (held, count) = (held + block.size, count + 1);
                return true;
            }
            // To serve again. Shorter ones, from when reads were, would not, and there is an end to waiting ones as well.
            free += block.size;
            block.size >= size && free <= MOST_HELD
        });
        held + size <= MOST_HELD || count < FEW
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Buf, Bytes};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const ROOM: usize = 130 * 1024;
    const SIZE: usize = 256 * 1024;
    const MOST: usize = MOST_HELD / SIZE;

    /// Fills the buffer and gives a body that holds it.
    fn fill(buffer: &mut BytesMut) -> Bytes {
        buffer.resize(buffer.capacity(), 7);
        let body = buffer.split_to(20_000).freeze();
        buffer.advance(buffer.len());
        body
    }

    #[test]
    fn a_buffer_serves_again_when_nothing_of_it_is_held() {
        let mut blocks = Blocks::default();
        let mut buffer = BytesMut::new();
        assert!(blocks.make_room(&mut buffer, 1000));
        buffer.resize(1000, 1);
        let first = buffer.as_ptr();
        let body = buffer.split_to(980).freeze();
        assert!(blocks.make_room(&mut buffer, 1000));
        assert_eq!(&buffer[..], [1; 20], "what was left is taken along");
        assert_ne!(buffer.as_ptr(), first, "a body of the first is held");
        let second = buffer.as_ptr();
        drop(body);
        buffer.resize(1000, 2);
        let other = buffer.split_to(980).freeze();
        assert!(blocks.make_room(&mut buffer, 1000));
        assert_eq!(buffer.as_ptr(), first);
        drop(other);
        buffer.resize(1000, 3);
        let last = buffer.split_to(980).freeze();
        assert!(blocks.make_room(&mut buffer, 1000));
        assert_eq!(buffer.as_ptr(), second);
        assert!(last[20..] == [3; 960]);
    }

    #[test]
    fn bodies_hold_so_many_whatever_comes_free_between() {
        let mut blocks = Blocks::default();
        let mut buffer = BytesMut::new();
        let mut held = VecDeque::new();
        while blocks.make_room(&mut buffer, ROOM) {
            held.push_back(fill(&mut buffer));
        }
        assert_eq!(held.len(), MOST);
        for _ in 0..3 * MOST {
            assert!(!blocks.make_room(&mut buffer, ROOM));
            // One comes free, and one more may be held: this one.
            held.pop_front();
            assert!(blocks.make_room(&mut buffer, ROOM));
            held.push_back(fill(&mut buffer));
            assert!(blocks.spent.len() <= MOST + 1);
        }
    }

    #[test]
    fn of_larger_ones_fewer_are_held() {
        for (room, most) in [(400 * 1024, 4), (900 * 1024, 2), (5_000_000, 2)] {
            let mut blocks = Blocks::default();
            let mut buffer = BytesMut::new();
            let mut held = Vec::new();
            while blocks.make_room(&mut buffer, room) {
                held.push(fill(&mut buffer));
            }
            assert_eq!(held.len(), most, "{room}");
        }
    }

    #[test]
    fn what_is_held_counts_after_a_rest_too() {
        let mut blocks = Blocks::default();
        let mut held = Vec::new();
        loop {
            // Each time as when nothing has come for a while.
            let mut buffer = BytesMut::new();
            let cuts = blocks.make_room(&mut buffer, ROOM);
            if cuts {
                held.push(fill(&mut buffer));
            }
            blocks.rest(buffer);
            assert_eq!(blocks.spent.len(), held.len());
            if !cuts {
                break;
            }
        }
        assert_eq!(held.len(), MOST);
        held.clear();
        let mut buffer = BytesMut::new();
        assert!(blocks.make_room(&mut buffer, ROOM));
        blocks.rest(buffer);
        assert!(blocks.spent.is_empty());
    }

    proptest! {
        /// As the driver does it: frames are cut from what was read, or copied while bodies hold enough. Whatever is held for
        /// however long, it is never too much; and when nothing is, bodies are cut again.
        #[test]
        fn there_is_an_end_to_what_is_held_and_an_end_to_copying(
            turns in prop::collection::vec((1usize..140_000, 0usize..8, 8usize..220_000), 1..120),
        ) {
            let mut blocks = Blocks::default();
            let mut buffer = BytesMut::with_capacity(64);
            let mut held: VecDeque<Bytes> = VecDeque::new();
            let (mut cut, mut step) = (false, 32 * 1024);
            for (read, dropped, frame) in turns {
                held.drain(..dropped.min(held.len()));
                if buffer.capacity() - buffer.len() < step {
                    cut = blocks.make_room(&mut buffer, step);
                }
                prop_assert!(buffer.capacity() - buffer.len() >= step);
                let count = read.min(buffer.capacity() - buffer.len());
                buffer.resize(buffer.len() + count, 7);
                step = (2 * step).min(128 * 1024);
                while buffer.len() >= frame {
                    let body = buffer.split_to(frame);
                    if cut {
                        held.push_back(body.freeze());
                    }
                }
                let mut sizes: Vec<usize> = blocks
                    .spent
                    .iter_mut()
                    .filter_map(|block| (!block.is_free()).then_some(block.size))
                    .collect();
                if cut {
                    sizes.push(blocks.size);
                }
                prop_assert!(sizes.iter().sum::<usize>() <= MOST_HELD || sizes.len() <= FEW, "{:?}", sizes);
            }
            held.clear();
            prop_assert!(blocks.make_room(&mut buffer, step));
            blocks.rest(buffer);
            prop_assert!(blocks.spent.is_empty());
        }
    }
}
