//! Small messages in line one behind the other, which leave together as far as credit and the peer's frames allow.

use super::pack::Pack;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// The most messages of one frame: what the header of a 16-bit array can say (PROTOCOL §3.7).
const MOST: usize = u16::MAX as usize;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Packed {
    buffer: BytesMut,
    /// How long each is. Two bytes a message: of messages of one byte, what must be remembered is no more than twice that.
    lengths: VecDeque<u16>,
}

impl Packed {
    /// Adds one message, which is small.
    #[inline]
    pub(super) fn push(&mut self, message: &[u8]) {
        self.buffer.extend_from_slice(message);
        self.lengths.push_back(message.len() as u16);
    }

    /// Adds the messages of a pack.
    pub(super) fn extend(&mut self, pack: &Pack) {
        self.buffer.extend_from_slice(pack.bytes());
        self.lengths.extend(pack.lengths());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Takes as many messages as fit `room` bytes, at least one, or none.
    pub(super) fn take(&mut self, room: usize) -> Option<(u32, Bytes)> {
        if self.buffer.len() <= room && self.lengths.len() <= MOST && !self.lengths.is_empty() {
            let count = self.lengths.len() as u32;
            self.lengths.clear();
            return Some((count, std::mem::take(&mut self.buffer).freeze()));
        }
        let (mut count, mut length) = (0, 0);
        for next in self.lengths.iter().take(MOST).map(|next| usize::from(*next)) {
            if length + next > room {
                break;
            }
            length += next;
            count += 1;
        }
        if count == 0 {
            return None;
        }
        self.lengths.drain(..count);
        Some((count as u32, self.buffer.split_to(length).freeze()))
    }
}

impl From<&Pack> for Packed {
    fn from(pack: &Pack) -> Self {
        Packed {
            buffer: pack.bytes().into(),
            lengths: pack.lengths().to_vec().into(),
        }
    }
}
