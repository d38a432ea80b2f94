//! Unsigned LEB128, the length prefix of every frame (PROTOCOL §1.2). Two readers: strict for the native dialect,
//! lenient for the classic one. What a length means, and its limit, is for the codecs.

use bytes::{BufMut, BytesMut};

/// The longest strict form, in bytes: 35 bits, far above any frame limit (PROTOCOL §1.2).
pub const MAX_STRICT: usize = 5;

/// The longest lenient form, in bytes: what a `u64` needs.
pub const MAX_LENIENT: usize = 10;

/// Why bytes are not a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VarintError {
    /// It goes on after the last byte it may have.
    #[error("the length prefix is longer than {limit} bytes")]
    TooLong {
        /// How many bytes it may have.
        limit: usize,
    },
    /// It ends in a group of zeros, so a shorter form exists (strict only).
    #[error("the length prefix is not in its shortest form")]
    NotShortest,
    /// It does not fit 64 bits (lenient only).
    #[error("the length prefix does not fit 64 bits")]
    Overflow,
}

/// Reads the number at the front in its shortest form, of at most [`MAX_STRICT`] bytes: its value and how many bytes it
/// takes, or `None` when more bytes are needed.
pub fn read_strict(bytes: &[u8]) -> Result<Option<(u64, usize)>, VarintError> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(MAX_STRICT).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return if byte == 0 && i > 0 {
                Err(VarintError::NotShortest)
            } else {
                Ok(Some((value, i + 1)))
            };
        }
    }
    if bytes.len() >= MAX_STRICT {
        Err(VarintError::TooLong { limit: MAX_STRICT })
    } else {
        Ok(None)
    }
}

/// Reads the number at the front in any form of at most [`MAX_LENIENT`] bytes, needlessly long ones included. Answers
/// as [`read_strict`] does.
pub fn read_lenient(bytes: &[u8]) -> Result<Option<(u64, usize)>, VarintError> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(MAX_LENIENT).enumerate() {
        let group = u64::from(byte & 0x7f);
        // The tenth group has one bit left of 64.
        if i == MAX_LENIENT - 1 && group > 1 {
            return Err(VarintError::Overflow);
        }
        value |= group << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((value, i + 1)));
        }
    }
    if bytes.len() >= MAX_LENIENT {
        Err(VarintError::TooLong { limit: MAX_LENIENT })
    } else {
        Ok(None)
    }
}

/// Appends the shortest form of `value`.
pub fn write(mut value: u64, dst: &mut BytesMut) {
    while value > 0x7f {
        dst.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    dst.put_u8(value as u8);
}

/// Writes the shortest form of `value` to `place`, which is as long as it is.
pub(crate) fn fill(mut value: u64, place: &mut [u8]) {
    let last = place.len().saturating_sub(1);
    for (i, byte) in place.iter_mut().enumerate() {
        *byte = (value & 0x7f) as u8 | if i < last { 0x80 } else { 0 };
        value >>= 7;
    }
}

/// How many bytes the shortest form of `value` takes, 1 to 10.
pub const fn encoded_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_numbers_have_known_bytes() {
        let table: &[(u64, &[u8])] = &[
            (0, &[0x00]),
            (1, &[0x01]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (300, &[0xac, 0x02]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 0x01]),
            (65_536, &[0x80, 0x80, 0x04]),
            (u32::MAX as u64, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
            ((1 << 35) - 1, &[0xff, 0xff, 0xff, 0xff, 0x7f]),
        ];
        for (value, bytes) in table {
            let mut written = BytesMut::new();
            write(*value, &mut written);
            assert_eq!(&written[..], *bytes);
            assert_eq!(encoded_len(*value), bytes.len());
            assert_eq!(read_strict(bytes), Ok(Some((*value, bytes.len()))));
            assert_eq!(read_lenient(bytes), Ok(Some((*value, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(read_strict(&bytes[..cut]), Ok(None));
                assert_eq!(read_lenient(&bytes[..cut]), Ok(None));
            }
        }
    }

    #[test]
    fn needlessly_long_forms_are_for_the_lenient_reader_only() {
        for (bytes, value) in [
            (&[0x80u8, 0x00][..], 0),
            (&[0x87, 0x80, 0x00], 7),
            (&[0x81, 0x80, 0x80, 0x80, 0x00], 1),
        ] {
            assert_eq!(read_strict(bytes), Err(VarintError::NotShortest));
            assert_eq!(read_lenient(bytes), Ok(Some((value, bytes.len()))));
        }
        assert_eq!(read_strict(&[0x80; 5]), Err(VarintError::TooLong { limit: 5 }));
        assert_eq!(read_lenient(&[0x80; 5]), Ok(None));
        assert_eq!(read_lenient(&[0x80; 10]), Err(VarintError::TooLong { limit: 10 }));
    }

    #[test]
    fn numbers_over_64_bits_do_not_wrap() {
        let mut bytes = [0xff; 10];
        bytes[9] = 0x01;
        assert_eq!(read_lenient(&bytes), Ok(Some((u64::MAX, 10))));
        bytes[9] = 0x02;
        assert_eq!(read_lenient(&bytes), Err(VarintError::Overflow));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value: u64, tail: Vec<u8>) {
            let mut bytes = BytesMut::new();
            write(value, &mut bytes);
            let len = bytes.len();
            prop_assert_eq!(encoded_len(value), len);
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(read_lenient(&bytes), Ok(Some((value, len))));
            if len <= MAX_STRICT {
                prop_assert_eq!(read_strict(&bytes), Ok(Some((value, len))));
            }
        }
    }
}
