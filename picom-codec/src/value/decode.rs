//! From bytes to a value, in one pass that checks what the scan checks.

use super::DecodeError;
use super::deserializer::Decoder;
use crate::body::View;
use crate::{Body, Limits, scan};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Decodes `message`, which must be exactly one value within `limits`, as a `T`. A [`Blob`](crate::Blob) in it shares the
/// message's memory.
///
/// The outcome is that of the [scan](scan::scan) followed by decoding: what does not pass the scan is refused with the
/// scan's error, whatever the type. (Both happen in one pass, which is the faster the smaller the message; only when it
/// fails does the scan run by itself, to tell a bad message from one of another type.)
///
/// Nothing in `message` can make it panic or overflow the stack. What it allocates is bounded by `limits`: no memory is
/// reserved for values before it is known that there are bytes for them.
pub fn decode<T: DeserializeOwned>(message: &Bytes, limits: &Limits) -> Result<T, DecodeError> {
    Decoder::new(message, Some(message), limits)
        .finish()
        .map_err(|error| judge(error, message, limits))
}

/// Decodes the message that came as `body`. As [`decode`] in all else; of a body of few bytes a [`Blob`](crate::Blob) is
/// copied.
pub fn decode_body<T: DeserializeOwned>(body: &Body, limits: &Limits) -> Result<T, DecodeError> {
    let (bytes, whole) = match body.view() {
        View::Short(bytes) => (bytes, None),
        View::Pieces([bytes]) => (&bytes[..], Some(bytes)),
        View::Pieces(_) => return decode(&body.clone().into_bytes(), limits),
    };
    Decoder::new(bytes, whole, limits)
        .finish()
        .map_err(|error| judge(error, bytes, limits))
}

/// Decodes `message` as a `T` that may borrow texts and bytes from it. As [`decode`] in all else, except that a
/// [`Blob`](crate::Blob) is copied.
pub fn decode_slice<'de, T: Deserialize<'de>>(message: &'de [u8], limits: &Limits) -> Result<T, DecodeError> {
    Decoder::new(message, None, limits)
        .finish()
        .map_err(|error| judge(error, message, limits))
}

/// Decodes the value that `message` has at `from`, and puts where it ends there. As [`decode`] in all else, except that an
/// error may name another fault than the first, and that what a [`Blob`](crate::Blob) shares is `message`.
#[inline(always)]
pub(crate) fn decode_prefix<T: DeserializeOwned>(
    message: &Bytes,
    from: &mut usize,
    limits: &Limits,
) -> Result<T, DecodeError> {
    let bytes = message.get(*from..).unwrap_or_default();
    let mut decoder = Decoder::new(bytes, Some(message), limits);
    let result = decoder.root();
    if result.is_ok() {
        *from += decoder.tokens.at();
    }
    result
}

/// Whether it is the message that is at fault, or only the type.
#[cold]
fn judge(error: DecodeError, message: &[u8], limits: &Limits) -> DecodeError {
    match scan::scan(message, limits) {
        Ok(()) => error,
        Err(malformed) => malformed.into(),
    }
}
