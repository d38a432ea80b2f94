//! The first frame of a classic call: what is called, and with what (PROTOCOL §12.3).

use super::walk::{entries, head, text};
use crate::scan::{scan, scan_prefix};
use crate::{Limits, ScanError};
use bytes::{BufMut, Bytes, BytesMut};
use std::str;

/// What the first frame of a call says. Further keys are ignored; of a key that comes twice the last one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicHeader {
    /// What is called; `None` if the frame is no map, or its `cmd` is missing or no text of valid UTF-8.
    pub cmd: Option<String>,
    /// The arguments, one value, a slice of the frame; `None` if there is no such key.
    pub args: Option<Bytes>,
}

/// Reads the first frame of a call.
///
/// # Errors
///
/// When the frame is not one value, or the arguments or something else in it are not within `limits`, which are those of one
/// value: the map around the arguments does not count. With the error comes the `cmd`, if it can be read all the same.
pub fn read_header(payload: &Bytes, limits: &Limits) -> Result<ClassicHeader, BadHeader> {
    let mut header = ClassicHeader {
        cmd: None,
        args: None,
    };
    // Ends at the first that is cut off, so nothing is believed that the scan has not seen.
    for (key, value) in entries(payload) {
        match text(key) {
            Some(b"cmd") => {
                header.cmd = text(value)
                    .and_then(|cmd| str::from_utf8(cmd).ok())
                    .map(str::to_owned);
            }
            Some(b"args") => header.args = Some(payload.slice_ref(value)),
            _ => {}
        }
    }
    match scan_header(payload, limits) {
        Ok(()) => Ok(header),
        Err(error) => Err(BadHeader {
            cmd: header.cmd,
            error,
        }),
    }
}

/// A first frame of which nothing can be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the arguments cannot be taken")]
pub struct BadHeader {
    /// What was to be called, if that much can be read.
    pub cmd: Option<String>,
    /// What is wrong.
    #[source]
    pub error: ScanError,
}

fn scan_header(payload: &[u8], limits: &Limits) -> Result<(), ScanError> {
    let Some(map) = head(payload).filter(|head| head.is_map()) else {
        return scan(payload, limits);
    };
    let announced = 1 + map.children;
    // A map of nothing but keys that mean nothing is no better than arguments as large.
    if announced > u64::from(limits.nodes()) + 4 {
        let limit = limits.nodes();
        return Err(ScanError::TooManyNodes {
            offset: 0,
            announced,
            limit,
        });
    }
    let mut at = map.len;
    for _ in 0..map.children {
        let rest = payload.get(at..).unwrap_or_default();
        at += scan_prefix(rest, limits).map_err(|error| error.shifted(at))?;
    }
    match payload.len() - at {
        0 => Ok(()),
        left => Err(ScanError::Trailing { offset: at, left }),
    }
}

/// The first frame of a call of `cmd`, without its length. `args` is one value that was made
/// [readable](super::readable); without them the key is left out, which is JavaScript's `undefined`.
pub fn write_header(cmd: &str, args: Option<&Bytes>) -> Bytes {
    let args_len = args.map_or(0, |args| 5 + args.len());
    let mut payload = BytesMut::with_capacity(1 + 4 + 5 + cmd.len() + args_len);
    payload.put_u8(0x81 + u8::from(args.is_some()));
    payload.put_slice(b"\xa3cmd");
    put_text(cmd, &mut payload);
    if let Some(args) = args {
        payload.put_slice(b"\xa4args");
        payload.put_slice(args);
    }
    payload.freeze()
}

/// Writes a text in its shortest form.
pub(super) fn put_text(text: &str, to: &mut BytesMut) {
    match text.len() {
        len @ 0..32 => to.put_u8(0xa0 | len as u8),
        len @ 32..0x100 => {
            to.put_u8(0xd9);
            to.put_u8(len as u8);
        }
        len @ 0x100..0x1_0000 => {
            to.put_u8(0xda);
            to.put_u16(len as u16);
        }
        len => {
            to.put_u8(0xdb);
            to.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        }
    }
    to.put_slice(text.as_bytes());
}
