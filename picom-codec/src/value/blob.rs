//! [`Blob`]: bytes within a value that are read without a copy.

use super::BLOB;
use super::apart::APART_FROM;
use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use std::cell::Cell;
use std::fmt;
use std::ops::Deref;

/// Slices below this are copied: sharing saves less than it costs in memory that stays held.
const COPY_BELOW: usize = 4 * 1024;

/// A slice is shared only if it is at least this fraction of the message, so that one that is kept holds at most so many
/// times its length.
const MOST_HELD: usize = 16;

thread_local! {
    /// The slice on its way from the deserializer to the visitor of `Blob`, or from a `Blob` to the serializer; serde has no
    /// way to pass one. Set right before the call and taken within it, never longer.
    static HANDOFF: Cell<Option<Bytes>> = const { Cell::new(None) };
}

/// Bytes, written as `bin` and read as a slice of the message they came in.
///
/// One of 16 KiB or more is sent as it is, without a copy, in the native dialect and where it stands by itself: not within an
/// ext, or where serde takes a copy of the data first.
///
/// When read, a blob under 4 KiB, or of less than a sixteenth of its message, is copied, and so is one within a
/// `#[serde(untagged)]` or `#[serde(flatten)]` type, or read by another format than picom's. Text and arrays of small
/// integers are read as well.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob(pub Bytes);

impl Blob {
    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for Blob {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.0
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Self {
        Blob(bytes)
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Blob(bytes.into())
    }
}

impl From<&'static [u8]> for Blob {
    fn from(bytes: &'static [u8]) -> Self {
        Blob(Bytes::from_static(bytes))
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.len() < APART_FROM {
            return serializer.serialize_bytes(&self.0);
        }
        HANDOFF.set(Some(self.0.clone()));
        let written = serializer.serialize_bytes(&self.0);
        HANDOFF.set(None);
        written
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(BLOB, BlobVisitor)
    }
}

/// Gives `bytes`, a part of `message`, to `visitor` so that a [`Blob`] can share it.
pub(super) fn hand_over<'de, V: Visitor<'de>, E: de::Error>(
    message: &Bytes,
    bytes: &'de [u8],
    visitor: V,
) -> Result<V::Value, E> {
    if bytes.len() >= COPY_BELOW && bytes.len() >= message.len() / MOST_HELD {
        HANDOFF.set(Some(message.slice_ref(bytes)));
    }
    let value = visitor.visit_borrowed_bytes(bytes);
    HANDOFF.set(None);
    value
}

/// The blob that is being written, if these are its bytes.
pub(super) fn handed_over(bytes: &[u8]) -> Option<Bytes> {
    HANDOFF
        .take()
        .filter(|blob| blob.as_ptr() == bytes.as_ptr() && blob.len() == bytes.len())
}

struct BlobVisitor;

impl<'de> Visitor<'de> for BlobVisitor {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Blob, D::Error> {
        deserializer.deserialize_byte_buf(self)
    }

    fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Blob, E> {
        match HANDOFF.take() {
            Some(slice) if slice.as_ptr() == bytes.as_ptr() && slice.len() == bytes.len() => Ok(Blob(slice)),
            _ => self.visit_bytes(bytes),
        }
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(Bytes::copy_from_slice(bytes)))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob(bytes.into()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Blob, E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut sequence: A) -> Result<Blob, A::Error> {
        // Grows by what is there: the hint is only what was announced.
        let mut bytes = Vec::new();
        while let Some(byte) = sequence.next_element()? {
            bytes.push(byte);
        }
        Ok(Blob(bytes.into()))
    }
}
