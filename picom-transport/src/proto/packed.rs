//! Small messages in line one behind the other, which leave together as far as credit and the peer's frames allow.

use super::pack::Pack;
use bytes::{Bytes, BytesMut};
use picom_codec::Body;
use std::collections::VecDeque;

/// The most messages of one frame: what the header of a 16-bit array can say (PROTOCOL §3.7).
const MOST: usize = u16::MAX as usize;

/// So much room is never too much, in bytes: about what a message in line takes besides.
const TRIMMED: usize = 256;

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
    pub(super) fn push(&mut self, message: &Body) {
        message.copy_to(&mut self.buffer);
        self.lengths.push_back(message.len() as u16);
    }

    /// Adds the messages of a pack.
    pub(super) fn extend(&mut self, pack: &Pack) {
        self.buffer.extend_from_slice(pack.bytes());
        match pack.lengths() {
            [length] => self.lengths.push_back(*length),
            lengths => self.lengths.extend(lengths),
        }
    }

    /// Makes room for so many bytes, if it has none.
    pub(super) fn reserve(&mut self, bytes: usize) {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(bytes);
        }
    }

    /// Gives back room that is mostly empty, by a copy of what there is.
    pub(super) fn trim(&mut self) {
        if self.buffer.capacity() > TRIMMED.max(4 * self.buffer.len()) {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
    }

    /// Adds the messages of another.
    pub(super) fn append(&mut self, mut other: Packed) {
        self.buffer.unsplit(other.buffer);
        self.lengths.append(&mut other.lengths);
    }

    /// How many messages there are.
    pub(super) fn count(&self) -> usize {
        self.lengths.len()
    }

    /// How many bytes they take.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// How many bytes there is memory for.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pack(messages: &[Vec<u8>]) -> Pack {
        Pack::of(messages)
    }

    #[test]
    fn no_more_than_65535_messages_leave_together() {
        let mut packed = Packed::from(&pack(&vec![vec![7]; 40_000]));
        packed.extend(&pack(&vec![vec![7]; 40_000]));
        assert_eq!(packed.take(usize::MAX).map(|(count, _)| count), Some(65_535));
        assert_eq!(packed.take(usize::MAX).map(|(count, _)| count), Some(14_465));
        assert!(packed.take(usize::MAX).is_none() && packed.is_empty());
    }

    proptest! {
        /// However messages get in line, and however much room there is for each frame: they leave whole and in order, as
        /// many as there is room for.
        #[test]
        fn messages_leave_whole_and_in_order(
            groups in prop::collection::vec(prop::collection::vec(1usize..200, 1..30), 1..8),
            one_by_one in any::<u8>(),
            rooms in prop::collection::vec(200usize..2000, 1..10),
        ) {
            let mut number = 0u8;
            let mut sent = Vec::new();
            let mut packed = Packed::default();
            for (n, lengths) in groups.iter().enumerate() {
                let messages: Vec<Vec<u8>> = lengths
                    .iter()
                    .map(|length| {
                        number = number.wrapping_add(1);
                        vec![number; *length]
                    })
                    .collect();
                if one_by_one & (1 << n) == 0 {
                    packed.extend(&pack(&messages));
                } else {
                    messages.iter().for_each(|message| packed.push(&message.clone().into()));
                }
                sent.extend(messages);
            }
            let mut sent = sent.into_iter().peekable();
            for room in rooms.iter().cycle() {
                let Some((count, bytes)) = packed.take(*room) else { break };
                let expected: Vec<u8> = sent.by_ref().take(count as usize).flatten().collect();
                prop_assert_eq!(&bytes[..], &expected[..]);
                prop_assert!(bytes.len() <= *room);
                if let Some(next) = sent.peek() {
                    prop_assert!(bytes.len() + next.len() > *room, "another one would have fitted");
                }
            }
            prop_assert!(packed.is_empty());
            prop_assert_eq!(sent.next(), None);
        }
    }
}
