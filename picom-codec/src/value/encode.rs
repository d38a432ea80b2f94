//! From a value to bytes.

use super::apart::Apart;
use super::serializer::Encoder;
use crate::Body;
use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::ser;
use std::cell::Cell;
use std::fmt::Display;

/// Values up to this length are written to a buffer that the thread keeps, and copied out at their exact length. Longer
/// ones take the buffer along.
const KEEP: usize = 4 * 1024;

/// Copies of up to an eighth of this share a block: one allocation for many. One that is kept keeps its block.
const BLOCK: usize = 2 * 1024;

thread_local! {
    /// The rest of a block.
    static COPIES: Cell<BytesMut> = Cell::new(BytesMut::new());

    /// The buffer. Taken while in use, so a value that encodes another within itself gets a fresh one.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// How structs are written. Both are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// As maps from names to values: fields may come, go and move. The default.
    #[default]
    Maps,
    /// As arrays in the order of the fields: shorter and faster, but both sides must agree on every field. Not
    /// for types with `#[serde(tag = "…")]`, which serde reads from maps alone.
    Arrays,
}

/// Why a value cannot be encoded. The value is at fault, or its `Serialize`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// It nests deeper than the limit that [`decode`](super::decode) has: arrays, maps, enums, newtypes and `Some`s count.
    #[error("the value nests deeper than the limit of {limit}")]
    TooDeep {
        /// The limit.
        limit: u8,
    },
    /// A text, bytes, an array or a map of more than 2³² − 1 bytes or elements, which MessagePack has no form for.
    #[error("a length of {len} has no form in MessagePack")]
    TooLong {
        /// The length.
        len: usize,
    },
    /// A `Serialize` announced another number of elements than it gave.
    #[error("{announced} elements were announced, {given} were given")]
    WrongLength {
        /// How many it announced.
        announced: u64,
        /// How many it gave.
        given: u64,
    },
    /// What the type itself said.
    #[error("{0}")]
    Custom(String),
}

impl ser::Error for EncodeError {
    fn custom<T: Display>(text: T) -> Self {
        EncodeError::Custom(text.to_string())
    }
}

/// Encodes `value`, structs as maps. See [the table](super) for the rest.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, EncodeError> {
    encode_with(value, Encoding::Maps)
}

/// Encodes `value`, structs as `encoding` says.
pub fn encode_with<T: Serialize + ?Sized>(value: &T, encoding: Encoding) -> Result<Bytes, EncodeError> {
    in_buffer(
        |buffer| value.serialize(&mut Encoder::new(buffer, encoding)),
        copy,
    )
}

/// Encodes `value`, structs as maps, to be sent: a [`Blob`](super::Blob) of 16 KiB or more within it is not copied.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_body<T: Serialize + ?Sized>(value: &T) -> Result<Body, EncodeError> {
    let mut apart = Apart::default();
    let copy = |encoded: &[u8]| Body::short(encoded).unwrap_or_else(|| copy(encoded).into());
    let written = in_buffer(|buffer| encode_apart(value, buffer, &mut apart), copy)?;
    if apart.is_empty() {
        return Ok(written);
    }
    Ok(apart.join(0, written.into_bytes()))
}

/// What `write` appends to the buffer, as it is or by `copy`.
#[inline]
fn in_buffer<B: From<Vec<u8>>>(
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    copy: impl FnOnce(&[u8]) -> B,
) -> Result<B, EncodeError> {
    let mut buffer = BUFFER.take();
    buffer.clear();
    if let Err(error) = write(&mut buffer) {
        keep(buffer);
        return Err(error);
    }
    if buffer.len() > KEEP {
        return Ok(buffer.into());
    }
    let bytes = copy(&buffer);
    keep(buffer);
    Ok(bytes)
}

fn copy(encoded: &[u8]) -> Bytes {
    if encoded.len() > BLOCK / 8 {
        return Bytes::copy_from_slice(encoded);
    }
    let mut copies = COPIES.take();
    if copies.capacity() < encoded.len() {
        copies = BytesMut::with_capacity(BLOCK);
    }
    copies.extend_from_slice(encoded);
    let bytes = copies.split().freeze();
    COPIES.set(copies);
    bytes
}

/// Appends the encoding of `value`, structs as maps, to `out`: for values that go one behind the other.
///
/// # Errors
///
/// As [`encode`]; a part of the value may then have been appended.
#[inline]
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    value.serialize(&mut Encoder::new(out, Encoding::Maps))
}

/// The same, but leaves out the content of each [`Blob`](super::Blob) of 16 KiB or more, behind its header: `apart`, empty
/// before, has it then, to be [joined](Apart::join) with what was appended.
///
/// # Errors
///
/// As [`encode_into`]; `apart` may then hold something.
#[inline]
pub fn encode_apart<T: Serialize + ?Sized>(
    value: &T,
    out: &mut Vec<u8>,
    apart: &mut Apart,
) -> Result<(), EncodeError> {
    value.serialize(&mut Encoder::apart(out, apart))
}

/// The encoding of nil, which stands for no value. Costs nothing.
pub const fn nil() -> Bytes {
    Bytes::from_static(&[0xc0])
}

fn keep(buffer: Vec<u8>) {
    if buffer.capacity() <= 2 * KEEP {
        BUFFER.set(buffer);
    }
}
