//! Read buffers that large bodies were cut from. A body keeps its buffer until it is dropped, which is often soon: then the
//! buffer serves again. Asking the system for another each time costs more than reading into it, since every page of it is
//! cleared first. And a body that is kept must not keep much more than itself: there is an end to how many buffers are held
//! by bodies, and behind it bodies are to be copied.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// So many may be held by bodies: 4 MiB. Thirty bodies of 64 KiB that are on their way through take half of that, each in a
/// buffer that others are in, too.
const MOST: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    spent: VecDeque<BytesMut>,
    /// Those that were not to serve again, while bodies hold them.
    held: Vec<Bytes>,
}

impl Blocks {
    /// Replaces `buffer` by one with room for so many bytes more, which begins with what is in it. False: too many are held
    /// by bodies; nothing is replaced.
    pub(super) fn renew(&mut self, buffer: &mut BytesMut, room: usize) -> bool {
        let need = buffer.len() + room;
        let mut next = match self.free(need).and_then(|at| self.spent.remove(at)) {
            Some(block) => block,
            None if !self.may_grow() => return false,
            // Twice a read, so that most frames end in the buffer in which they begin.
            None => BytesMut::with_capacity(need.next_power_of_two()),
        };
        next.extend_from_slice(buffer);
        let mut spent = std::mem::replace(buffer, next);
        spent.clear();
        self.spent.push_back(spent);
        true
    }

    /// Whether [`renew`](Self::renew) would find one with so much room.
    pub(super) fn has_room(&mut self, room: usize) -> bool {
        self.may_grow() || self.free(room).is_some()
    }

    /// Keeps none to serve again; those that bodies hold go on to count.
    pub(super) fn shrink(&mut self) {
        let spent = std::mem::take(&mut self.spent);
        self.held.extend(spent.into_iter().map(BytesMut::freeze));
        self.held.retain(|block| !block.is_unique());
        self.held.shrink_to_fit();
    }

    fn free(&mut self, need: usize) -> Option<usize> {
        self.spent.iter_mut().position(|block| block.try_reclaim(need))
    }

    fn may_grow(&mut self) -> bool {
        self.held.retain(|block| !block.is_unique());
        self.spent.len() + self.held.len() < MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_serves_again_when_nothing_of_it_is_held() {
        let mut blocks = Blocks::default();
        let mut buffer = BytesMut::with_capacity(1024);
        buffer.resize(1000, 1);
        let first = buffer.as_ptr();
        let body = buffer.split_to(900).freeze();
        assert!(blocks.renew(&mut buffer, 1000));
        assert_eq!(&buffer[..], [1; 100], "what was left is taken along");
        assert_ne!(buffer.as_ptr(), first, "a body of the first is held");
        let second = buffer.as_ptr();
        buffer.clear();
        drop(body);
        assert!(blocks.renew(&mut buffer, 1000));
        assert_eq!(buffer.as_ptr(), first);
        assert!(blocks.renew(&mut buffer, 1000));
        assert_eq!(buffer.as_ptr(), second);
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
        assert_eq!(renewed, MOST);
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
