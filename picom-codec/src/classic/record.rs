//! What a server says besides items: that the output ended, or that it failed (PROTOCOL §12.5).

use super::header::put_text;
use super::walk::{entries, text, text_of_key};
use bytes::{BufMut, Bytes, BytesMut};

/// The end of the output.
pub const END: &[u8] = b"\x81\xa6_type_\xa3end";

/// The longest text of an error, in bytes, in both directions: as a native fault's (PROTOCOL §3.5).
const MOST_TEXT: usize = 4096;

/// A frame of the server's that is no item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The output is complete.
    End,
    /// The call failed, with this text; at most 4 KiB of it.
    Error(String),
}

/// What record `payload` is; `None` if it is an item. `payload` has been scanned.
pub fn record(payload: &[u8]) -> Option<Record> {
    let (mut kind, mut message) = (None, None);
    for (key, value) in entries(payload) {
        match text(key) {
            Some(b"_type_") => kind = text(value),
            Some(b"_message_") => message = text(value),
            _ => {}
        }
    }
    match kind? {
        b"end" => Some(Record::End),
        b"error" => {
            let message = String::from_utf8_lossy(message.unwrap_or_default());
            Some(Record::Error(cut(&message).to_owned()))
        }
        _ => None,
    }
}

/// The record of an error with this text, cut to 4 KiB.
pub fn error_record(message: &str) -> Bytes {
    let message = cut(message);
    let mut payload = BytesMut::with_capacity(32 + message.len());
    payload.put_slice(b"\x82\xa6_type_\xa5error\xa9_message_");
    put_text(message, &mut payload);
    payload.freeze()
}

/// Whether a client would take the item for a record. It asks an object of JavaScript for its `_type_`: whatever became that key
/// counts, and what a `__proto__` says where the map has none itself. The value counts only as a text.
pub(super) fn looks_like_a_record(item: &[u8]) -> bool {
    // As deep as values may be, and a step for each: the item was scanned.
    let mut maps = vec![item];
    while let Some(map) = maps.pop() {
        let mut kind = None;
        let before = maps.len();
        for (key, value) in entries(map) {
            match text_of_key(key) {
                Some(b"_type_") => kind = Some(value),
                Some(b"__proto__") => maps.push(value),
                _ => {}
            }
        }
        match kind.map(text) {
            Some(Some(b"end" | b"error")) => return true,
            // Its own hides the inherited one.
            Some(_) => maps.truncate(before),
            None => {}
        }
    }
    false
}

fn cut(text: &str) -> &str {
    if text.len() <= MOST_TEXT {
        return text;
    }
    let end = (0..=MOST_TEXT).rev().find(|&end| text.is_char_boundary(end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}
