//! Cuts a byte stream into length-prefixed payloads (PROTOCOL §1), as a `tokio-util` codec. What is in a payload it does
//! not know.

use crate::varint::{self, VarintError};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tokio_util::codec::{Decoder, Encoder};

/// How far ahead memory is reserved for a payload that is arriving: as much as has come of it (PROTOCOL §1.4), but at
/// least 8 KiB, a read or two on a slow link, and at most 64 KiB, a full frame of the default limit. So an announced
/// length alone costs the receiver 8 KiB, whatever it says.
const RESERVE_LEAST: usize = 8 * 1024;
const RESERVE_MOST: usize = 64 * 1024;

/// Why a byte stream cannot be cut into payloads any further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LengthError {
    /// The length prefix is not one.
    #[error("bad length prefix")]
    Prefix(#[from] VarintError),
    /// The length is over the limit (PROTOCOL §1.4). No memory was reserved for it.
    #[error("a payload of {length} bytes is announced, the limit is {limit}")]
    TooLong {
        /// The announced length in bytes; of a payload to send, its length.
        length: u64,
        /// The limit in bytes.
        limit: u32,
    },
    /// The stream ended within a prefix or payload.
    #[error("the stream ended {missing} bytes before the end of a payload")]
    Truncated {
        /// How many bytes are missing, at least.
        missing: u64,
    },
    /// An earlier error stands: after it nothing is known about where payloads begin.
    #[error("decoding ended with an earlier error")]
    Failed,
    /// The byte stream itself failed. Never from the codec; `tokio-util` puts it here.
    #[error("the byte stream failed")]
    Io(#[from] io::Error),
}

/// Payloads with a length before each: reads and writes `Bytes`, each one payload without its prefix.
///
/// Reading never copies: a payload is split off the read buffer. After an error the decoder stays failed.
#[derive(Clone, Debug)]
pub struct LengthCodec {
    limit: u32,
    lenient: bool,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Prefix,
    Payload(usize),
    Failed,
}

impl LengthCodec {
    /// Payloads of at most `limit` bytes, prefixes in their shortest form (the native dialect).
    pub const fn new(limit: u32) -> Self {
        LengthCodec {
            limit,
            lenient: false,
            state: State::Prefix,
        }
    }

    /// Payloads of at most `limit` bytes, prefixes in any form of at most 10 bytes (the classic dialect).
    pub const fn lenient(limit: u32) -> Self {
        LengthCodec {
            limit,
            lenient: true,
            state: State::Prefix,
        }
    }

    /// The longest payload, in bytes, in both directions.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// The same codec, in the same place of the stream, with another limit. It holds from the next prefix on.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Whether a prefix was read whose payload has not come out yet.
    pub const fn has_begun(&self) -> bool {
        matches!(self.state, State::Payload(_))
    }

    /// The length of the payload that stands at the front of `src`, behind its prefix, once all of it is there. The
    /// caller takes exactly so many bytes.
    pub(crate) fn advance(&mut self, src: &mut BytesMut) -> Result<Option<usize>, LengthError> {
        let len = match self.state {
            State::Failed => return Err(LengthError::Failed),
            State::Payload(len) => len,
            State::Prefix => match self.prefix(src) {
                Ok(Some(len)) => {
                    self.state = State::Payload(len);
                    len
                }
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.state = State::Failed;
                    return Err(error);
                }
            },
        };
        if src.len() < len {
            return Ok(None);
        }
        self.state = State::Prefix;
        Ok(Some(len))
    }

    /// Reserves memory for the payload that is arriving, as far ahead as is wise.
    pub(crate) fn reserve(&self, src: &mut BytesMut) {
        if let State::Payload(len) = self.state {
            let arrived = src.len().clamp(RESERVE_LEAST, RESERVE_MOST);
            src.reserve(len.saturating_sub(src.len()).min(arrived));
        }
    }

    /// Reads a prefix off the front, if all of it is there.
    fn prefix(&self, src: &mut BytesMut) -> Result<Option<usize>, LengthError> {
        let read = if self.lenient {
            varint::read_lenient(src)?
        } else {
            varint::read_strict(src)?
        };
        let Some((length, width)) = read else {
            return Ok(None);
        };
        if length > u64::from(self.limit) {
            return Err(LengthError::TooLong {
                length,
                limit: self.limit,
            });
        }
        src.advance(width);
        Ok(Some(length as usize))
    }

    /// What a stream that ends here, with `left` unread, lacks of a whole payload.
    pub(crate) fn at_end(&mut self, left: usize) -> Result<(), LengthError> {
        let missing = match self.state {
            State::Failed => return Err(LengthError::Failed),
            State::Prefix if left == 0 => return Ok(()),
            // The rest of the prefix, and at least a byte behind it.
            State::Prefix => 2,
            State::Payload(len) => len.saturating_sub(left) as u64,
        };
        self.state = State::Failed;
        Err(LengthError::Truncated { missing })
    }
}

impl Decoder for LengthCodec {
    type Item = Bytes;
    type Error = LengthError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, LengthError> {
        let payload = self.advance(src)?.map(|len| src.split_to(len).freeze());
        if payload.is_none() {
            self.reserve(src);
        }
        Ok(payload)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, LengthError> {
        if let Some(payload) = self.decode(src)? {
            return Ok(Some(payload));
        }
        self.at_end(src.len()).map(|()| None)
    }
}

impl Encoder<Bytes> for LengthCodec {
    type Error = LengthError;

    fn encode(&mut self, payload: Bytes, dst: &mut BytesMut) -> Result<(), LengthError> {
        let length = payload.len() as u64;
        if length > u64::from(self.limit) {
            return Err(LengthError::TooLong {
                length,
                limit: self.limit,
            });
        }
        dst.reserve(varint::MAX_STRICT + payload.len());
        varint::write(length, dst);
        dst.extend_from_slice(&payload);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn innermost(error: LengthError) -> String {
        match error {
            LengthError::Prefix(error) => error.to_string(),
            error => error.to_string(),
        }
    }

    #[test]
    fn payloads_come_out_whole_whatever_the_chunks() {
        let payloads = [&b"seven"[..], b"", &[7; 300], b"x"].map(Bytes::copy_from_slice);
        let mut wire = BytesMut::new();
        for payload in &payloads {
            LengthCodec::new(300).encode(payload.clone(), &mut wire).unwrap();
        }
        for size in 1..=wire.len() {
            let mut codec = LengthCodec::new(300);
            let mut buffer = BytesMut::new();
            let mut read = Vec::new();
            for chunk in wire.chunks(size) {
                buffer.extend_from_slice(chunk);
                while let Some(payload) = codec.decode(&mut buffer).unwrap() {
                    read.push(payload);
                }
            }
            assert_eq!(read, payloads, "in chunks of {size}");
            assert!(codec.decode_eof(&mut buffer).unwrap().is_none());
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_from_the_prefix_alone() {
        let mut codec = LengthCodec::new(100);
        let mut buffer = BytesMut::from(&[101][..]);
        let error = codec.decode(&mut buffer).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a payload of 101 bytes is announced, the limit is 100"
        );
        assert_eq!(buffer.capacity(), BytesMut::from(&[101][..]).capacity());
        assert!(matches!(codec.decode(&mut buffer), Err(LengthError::Failed)));
        assert!(matches!(codec.decode_eof(&mut buffer), Err(LengthError::Failed)));
        let too_long = Bytes::from_static(&[0; 101]);
        assert!(matches!(
            codec.encode(too_long, &mut buffer),
            Err(LengthError::TooLong {
                length: 101,
                limit: 100
            })
        ));
    }

    #[test]
    fn memory_is_reserved_for_what_arrives_and_not_for_what_is_announced() {
        let mut codec = LengthCodec::new(u32::MAX);
        // 4 GiB less a byte.
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff, 0x0f][..]);
        assert!(codec.decode(&mut buffer).unwrap().is_none());
        for arrived in (0..200_000).step_by(1000) {
            // `BytesMut` doubles when it grows.
            let most = 2 * (arrived + (arrived.clamp(RESERVE_LEAST, RESERVE_MOST)));
            assert!(buffer.capacity() <= most, "{} for {arrived}", buffer.capacity());
            buffer.extend_from_slice(&[0; 1000]);
            assert!(codec.decode(&mut buffer).unwrap().is_none());
        }
    }

    #[test]
    fn a_prefix_is_read_once_and_then_remembered() {
        let mut codec = LengthCodec::new(1000);
        let mut buffer = BytesMut::from(&[0x80, 0x01][..]);
        assert!(codec.decode(&mut buffer).unwrap().is_none());
        assert!(buffer.is_empty(), "the prefix is taken off");
        // A new limit does not concern a payload that has been let in.
        codec.set_limit(10);
        buffer.extend_from_slice(&[1; 128]);
        assert_eq!(codec.decode(&mut buffer).unwrap().unwrap().len(), 128);
        buffer.extend_from_slice(&[11]);
        assert!(matches!(
            codec.decode(&mut buffer),
            Err(LengthError::TooLong {
                length: 11,
                limit: 10
            })
        ));
    }

    #[test]
    fn only_the_lenient_form_takes_needlessly_long_prefixes() {
        let wire = &[0x82, 0x80, 0x00, b'o', b'k'][..];
        let payload = LengthCodec::lenient(10)
            .decode(&mut BytesMut::from(wire))
            .unwrap()
            .unwrap();
        assert_eq!(payload, "ok");
        let error = LengthCodec::new(10)
            .decode(&mut BytesMut::from(wire))
            .unwrap_err();
        assert_eq!(innermost(error), "the length prefix is not in its shortest form");
        let error = LengthCodec::lenient(10)
            .decode(&mut BytesMut::from(&[0xff; 10][..]))
            .unwrap_err();
        assert_eq!(innermost(error), "the length prefix does not fit 64 bits");
    }

    #[test]
    fn a_stream_that_ends_within_a_payload_says_how_much_is_missing() {
        let mut codec = LengthCodec::new(10);
        let error = codec.decode_eof(&mut BytesMut::from(&[5, 1, 2][..])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the stream ended 3 bytes before the end of a payload"
        );
        let mut codec = LengthCodec::new(1000);
        let error = codec.decode_eof(&mut BytesMut::from(&[0x80][..])).unwrap_err();
        assert!(matches!(error, LengthError::Truncated { missing: 2 }));
    }
}
