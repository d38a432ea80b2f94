//! Read buffers that large bodies were cut from. A body keeps its buffer until it is dropped, which is often soon: then the
//! buffer serves again. Asking the system for another each time costs more than reading into it, since every page of it is
//! cleared first.

use bytes::BytesMut;
use std::collections::VecDeque;

/// So many are remembered, 4 MiB: thirty bodies of 64 KiB that are on their way through take half of that, each in a buffer
/// that others are in, too.
const MOST: usize = 8;

/// See the module. Only remembers: bodies do not live longer for it.
#[derive(Debug, Default)]
pub(super) struct Blocks(VecDeque<BytesMut>);

impl Blocks {
    /// Replaces `buffer` by one with room for so many bytes more, which begins with what is in it.
    pub(super) fn renew(&mut self, buffer: &mut BytesMut, room: usize) {
        let need = buffer.len() + room;
        let free = self.0.iter_mut().position(|block| block.try_reclaim(need));
        let mut next = match free.and_then(|at| self.0.remove(at)) {
            Some(block) => block,
            // Twice a read, so that most frames end in the buffer in which they begin.
            None => BytesMut::with_capacity(need.next_power_of_two()),
        };
        next.extend_from_slice(buffer);
        let mut spent = std::mem::replace(buffer, next);
        spent.clear();
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(spent);
    }

    pub(super) fn clear(&mut self) {
        self.0 = VecDeque::new();
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
        blocks.renew(&mut buffer, 1000);
        assert_eq!(&buffer[..], [1; 100], "what was left is taken along");
        assert_ne!(buffer.as_ptr(), first, "a body of the first is held");
        let second = buffer.as_ptr();
        buffer.clear();
        drop(body);
        blocks.renew(&mut buffer, 1000);
        assert_eq!(buffer.as_ptr(), first);
        blocks.renew(&mut buffer, 1000);
        assert_eq!(buffer.as_ptr(), second);
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let mut blocks = Blocks::default();
        let mut buffer = BytesMut::new();
        let mut held = Vec::new();
        for _ in 0..3 * MOST {
            blocks.renew(&mut buffer, 100);
            buffer.extend_from_slice(&[7; 100]);
            held.push(buffer.split().freeze());
        }
        assert_eq!(blocks.0.len(), MOST);
        assert!(held.iter().all(|body| body[..] == [7; 100]));
        blocks.clear();
        assert_eq!(blocks.0.capacity(), 0);
    }
}
