//! A short head, written on the stack and appended at once: a buffer that can grow would be asked for room at each element.

use crate::canonical::Sink;
use crate::varint;
use bytes::BytesMut;

/// Most heads are shorter; those of longer names and texts are written where they go.
const ROOM: usize = 96;

/// A head as it is written, with room before it for the prefix.
pub(super) struct Short {
    bytes: [u8; ROOM],
    /// Where the head ends, or would, if it fitted.
    end: usize,
}

impl Short {
    pub(super) fn new() -> Self {
        Short {
            bytes: [0; ROOM],
            end: varint::MAX_STRICT,
        }
    }

    /// How long the head is, whether it fitted or not.
    pub(super) fn len(&self) -> usize {
        self.end - varint::MAX_STRICT
    }

    /// Appends the prefix of a payload of this length, at most 2³² − 1, and the head. `false`: it did not fit, and nothing is
    /// appended.
    pub(super) fn append(mut self, payload: u64, dst: &mut BytesMut) -> bool {
        let width = varint::encoded_len(payload);
        let start = varint::MAX_STRICT.saturating_sub(width);
        if let Some(prefix) = self.bytes.get_mut(start..varint::MAX_STRICT) {
            varint::fill(payload, prefix);
        }
        match self.bytes.get(start..self.end) {
            Some(bytes) => dst.extend_from_slice(bytes),
            None => return false,
        }
        true
    }
}

impl Sink for Short {
    #[inline]
    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.end) {
            *place = byte;
        }
        self.end += 1;
    }

    #[inline]
    fn slice(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.end..end) {
            place.copy_from_slice(bytes);
        }
        self.end = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_is_written_in_place_or_says_that_it_did_not_fit() {
        for len in 0..2 * ROOM {
            let text: Vec<u8> = (0..len).map(|n| n as u8).collect();
            for payload in [1, 127, 128, 16_384, 1 << 21, u64::from(u32::MAX)] {
                let mut short = Short::new();
                let mut expected = BytesMut::from(&[9][..]);
                varint::write(payload, &mut expected);
                short.byte(7);
                expected.extend_from_slice(&[7]);
                short.slice(&text);
                expected.extend_from_slice(&text);
                short.byte(8);
                expected.extend_from_slice(&[8]);
                assert_eq!(short.len(), len + 2);
                let mut written = BytesMut::from(&[9][..]);
                if short.append(payload, &mut written) {
                    assert_eq!(written, expected);
                } else {
                    assert!(len + 2 + varint::MAX_STRICT > ROOM);
                    assert_eq!(written[..], [9]);
                }
            }
        }
    }
}
