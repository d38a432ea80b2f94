//! Native frames as a `tokio-util` codec: the [`LengthCodec`] cuts payloads, `head/layout.rs` reads them.

use crate::head::{self, Take};
use crate::length_codec::{LengthCodec, LengthError};
use crate::{Body, Frame, FrameError, Unsendable};
use bytes::{Buf, Bytes, BytesMut};
use std::ops::Range;
use tokio_util::codec::{Decoder, Encoder};

/// Bodies shorter than this are copied out of the read buffer, longer ones are split off it. A copy of 16 KiB takes less
/// than a microsecond; in return ten bytes that wait in an inbox never pin a read buffer of 64 KiB, and the buffer is
/// reused in place.
const COPY_BELOW: usize = 16 * 1024;

/// Copies of up to a quarter of this share a block: one allocation for many. A body that is kept keeps its block, so a block
/// is no longer than what each frame is charged at least (PROTOCOL §7.1): whatever a peer makes us keep, it has paid for.
const BLOCK: usize = 256;
/// The first block of a connection.
const FIRST_BLOCK: usize = 64;

/// Reads and writes [`Frame`]s (PROTOCOL §1, §3).
///
/// After an error the decoder stays failed: nothing is known about where the next frame begins. The connection is to be
/// ended with a goaway of [`FrameError::code`].
#[derive(Clone, Debug)]
pub struct FrameCodec {
    length: LengthCodec,
    send_limit: u32,
    /// The rest of the block that small bodies are copied to.
    copies: BytesMut,
    /// How long that block is.
    block: usize,
    /// No body is split off the read buffer.
    copying: bool,
    failed: bool,
}

impl FrameCodec {
    /// Takes payloads of at most `limit` bytes, and sends payloads of any length until
    /// [`set_send_limit`](Self::set_send_limit) says what the peer takes.
    pub fn new(limit: u32) -> Self {
        FrameCodec {
            length: LengthCodec::new(limit),
            send_limit: u32::MAX,
            copies: BytesMut::new(),
            block: 0,
            copying: false,
            failed: false,
        }
    }

    /// The longest payload it takes, in bytes.
    pub const fn limit(&self) -> u32 {
        self.length.limit()
    }

    /// The same codec with another limit of what it takes. It holds from the next frame on.
    pub fn set_limit(&mut self, limit: u32) {
        self.length.set_limit(limit);
    }

    /// The longest payload it sends from here on, in bytes: the frame limit of the peer's hello (PROTOCOL §4.4).
    pub fn set_send_limit(&mut self, limit: u32) {
        self.send_limit = limit;
    }

    /// From here on every body is copied out of the read buffer, or again only short ones: for when bodies that are kept hold
    /// read buffers enough.
    pub fn set_copying(&mut self, copying: bool) {
        self.copying = copying;
    }

    /// As [`decode`](Decoder::decode), but reserves nothing for what is still to come: for those who have read buffers of
    /// their own, which must not be replaced behind their back.
    ///
    /// # Errors
    ///
    /// As [`decode`](Decoder::decode).
    pub fn take_frame(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if self.failed {
            return Err(FrameError::Failed);
        }
        let next = self.next(src);
        self.failed = next.is_err();
        next
    }

    fn next(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(len) = self.length.advance(src)? else {
            return Ok(None);
        };
        let (copies, block) = (&mut self.copies, &mut self.block);
        if len < COPY_BELOW || self.copying {
            let payload = src.get(..len).unwrap_or_default();
            let frame = head::parse(
                payload,
                Copied {
                    payload,
                    copies,
                    block,
                },
            );
            src.advance(len);
            return frame;
        }
        let whole = &src.split_to(len).freeze();
        let payload = &whole[..];
        head::parse(
            payload,
            Split(
                whole,
                Copied {
                    payload,
                    copies,
                    block,
                },
            ),
        )
    }

    /// Gives back what is kept for speed, when nothing has come for a while.
    pub fn shrink(&mut self) {
        self.copies = BytesMut::new();
        self.block = 0;
    }
}

/// Copies bodies. Small ones stand one behind the other in a block, which one that is kept keeps; the smallest of all stand
/// in the body itself.
struct Copied<'c> {
    payload: &'c [u8],
    copies: &'c mut BytesMut,
    block: &'c mut usize,
}

impl Take for Copied<'_> {
    #[inline]
    fn body(self, range: Range<usize>) -> Body {
        let body = self.payload.get(range.clone()).unwrap_or_default();
        Body::short(body).unwrap_or_else(|| self.bytes(range).into())
    }

    fn bytes(self, range: Range<usize>) -> Bytes {
        let Copied {
            payload,
            copies,
            block,
        } = self;
        let body = payload.get(range).unwrap_or_default();
        if body.len() > BLOCK / 4 {
            return Bytes::copy_from_slice(body);
        }
        if copies.capacity() < body.len() {
            // Small at first: of many connections most make a call now and then.
            *block = (*block * 2).clamp(FIRST_BLOCK, BLOCK);
            *copies = BytesMut::with_capacity((*block).max(body.len()));
        }
        copies.extend_from_slice(body);
        copies.split().freeze()
    }
}

/// Splits long bodies off the payload, and copies the others.
struct Split<'c>(&'c Bytes, Copied<'c>);

impl Take for Split<'_> {
    fn body(self, range: Range<usize>) -> Body {
        match range.len() {
            0..COPY_BELOW => self.1.body(range),
            _ => self.0.slice(range).into(),
        }
    }

    fn bytes(self, range: Range<usize>) -> Bytes {
        match range.len() {
            0..COPY_BELOW => self.1.bytes(range),
            _ => self.0.slice(range),
        }
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let frame = self.take_frame(src)?;
        if frame.is_none() {
            self.length.reserve(src);
        }
        Ok(frame)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if let Some(frame) = self.decode(src)? {
            return Ok(Some(frame));
        }
        match self.length.at_end(src.len()) {
            Ok(()) => Ok(None),
            Err(LengthError::Failed) => Err(FrameError::Failed),
            Err(error) => {
                self.failed = true;
                Err(error.into())
            }
        }
    }
}

impl Encoder<&Frame> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: &Frame, dst: &mut BytesMut) -> Result<(), FrameError> {
        if self.send_limit < u32::MAX {
            let len = head::payload_len(frame) as u64;
            if len > u64::from(self.send_limit) {
                return Err(Unsendable::TooLong {
                    len,
                    limit: self.send_limit,
                }
                .into());
            }
        }
        for piece in head::encode_head(frame, dst)? {
            dst.extend_from_slice(piece);
        }
        Ok(())
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: Frame, dst: &mut BytesMut) -> Result<(), FrameError> {
        self.encode(&frame, dst)
    }
}
