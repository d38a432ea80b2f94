//! Frames of the bare peers: length of the body, operation, and with call ids eight bytes more. No codec.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

pub(super) const ADD: u8 = 1;
pub(super) const ECHO: u8 = 2;
pub(super) const SLOW: u8 = 3;
pub(super) const BURN: u8 = 4;
pub(super) const ITEMS: u8 = 5;
pub(super) const CHUNKS: u8 = 6;
pub(super) const MIRROR: u8 = 7;

/// Length and operation.
pub(super) const PLAIN: usize = 5;
/// Length, operation and id.
pub(super) const WITH_ID: usize = PLAIN + 8;

/// A read begins with so much room, so that idle connections cost little, and grows to so much, so that large bodies cost
/// few calls.
const FIRST_READ: usize = 512;
const MOST_READ: usize = 256 * 1024;

/// The beginning of a frame.
pub(super) fn head(op: u8, body: usize) -> [u8; PLAIN] {
    let [a, b, c, d] = u32::try_from(body).unwrap_or(u32::MAX).to_le_bytes();
    [a, b, c, d, op]
}

/// The beginning of a frame with an id.
pub(super) fn head_with_id(op: u8, id: u64, body: usize) -> [u8; WITH_ID] {
    let mut bytes = [0; WITH_ID];
    bytes[..PLAIN].copy_from_slice(&head(op, body));
    bytes[PLAIN..].copy_from_slice(&id.to_le_bytes());
    bytes
}

/// The length of the first frame, once its length is known.
pub(super) fn announced(bytes: &[u8], head: usize) -> Option<usize> {
    let length = bytes.first_chunk::<4>()?;
    Some(head + u32::from_le_bytes(*length) as usize)
}

/// The first frame, if it is complete.
pub(super) fn complete(bytes: &[u8], head: usize) -> Option<&[u8]> {
    bytes.get(..announced(bytes, head)?)
}

/// The operation of a frame.
pub(super) fn op(frame: &[u8]) -> u8 {
    frame[4]
}

/// The id of a frame that has one.
pub(super) fn id(frame: &[u8]) -> u64 {
    number(frame, PLAIN)
}

/// The number at a place.
pub(super) fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// What was read and not used yet.
pub(super) struct Input {
    pub(super) bytes: BytesMut,
    head: usize,
    last: usize,
}

impl Input {
    pub(super) fn new(head: usize) -> Self {
        Input {
            bytes: BytesMut::new(),
            head,
            last: 0,
        }
    }

    /// Reads what is there, at least something. False at the end.
    pub(super) async fn fill(&mut self, io: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        let missing = announced(&self.bytes, self.head)
            .unwrap_or(0)
            .saturating_sub(self.bytes.len());
        let room = missing.max((2 * self.last).clamp(FIRST_READ, MOST_READ));
        self.bytes.reserve(room);
        self.last = io.read_buf(&mut self.bytes).await?;
        Ok(self.last > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_complete_with_its_last_byte() {
        let mut bytes = head_with_id(ECHO, 77, 3).to_vec();
        bytes.extend(b"abc");
        for cut in 0..bytes.len() {
            assert_eq!(complete(&bytes[..cut], WITH_ID), None);
        }
        bytes.push(9);
        let frame = complete(&bytes, WITH_ID).unwrap();
        assert_eq!((op(frame), id(frame), &frame[WITH_ID..]), (ECHO, 77, &b"abc"[..]));
    }
}
