//! From bytes to a value: the scan, then one pass of the deserializer.

use super::DecodeError;
use super::deserializer::Decoder;
use crate::{Limits, scan};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Decodes `message`, which must be exactly one value within `limits`, as a `T`. A [`Blob`](crate::Blob) in it shares the
/// message's memory.
///
/// Nothing in `message` can make it panic or overflow the stack. What it allocates is bounded by `limits`: the scan has
/// seen every value before any memory is reserved for it.
pub fn decode<T: DeserializeOwned>(message: &Bytes, limits: &Limits) -> Result<T, DecodeError> {
    scan::scan(message, limits)?;
    Decoder::new(message, Some(message)).finish()
}

/// Decodes `message` as a `T` that may borrow texts and bytes from it. As [`decode`] in all else, except that a
/// [`Blob`](crate::Blob) is copied.
pub fn decode_slice<'de, T: Deserialize<'de>>(message: &'de [u8], limits: &Limits) -> Result<T, DecodeError> {
    scan::scan(message, limits)?;
    Decoder::new(message, None).finish()
}
