//! The scan: is this well-formed MessagePack within the limits? One pass, no recursion, no allocation. It looks at
//! structure alone; texts are checked for UTF-8 where they are decoded.
//!
//! Announced lengths are believed only as far as there are bytes: everything announced and not yet seen must fit what is
//! left, a byte a value, so a lie is found at the header that tells it. For the same reason the number of values is
//! known from the headers alone, and scalars cost one table lookup each.

use crate::Limits;

/// What [`scan`] found wrong. Offsets count from the first byte of what was scanned, to the first byte of the value in
/// question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The value at `offset` announces more than there is.
    #[error("byte {offset}: at least {needed} more bytes are announced, {left} are left")]
    Truncated {
        /// Where the value begins.
        offset: usize,
        /// How many bytes it and everything announced before need at least, from `offset` on.
        needed: u64,
        /// How many there are.
        left: usize,
    },
    /// The array or map at `offset` is nested deeper than the limit.
    #[error("byte {offset}: nested deeper than the limit of {limit}")]
    TooDeep {
        /// Where the array or map begins.
        offset: usize,
        /// [`Limits::depth`].
        limit: u8,
    },
    /// With the array or map at `offset` the values are more than the limit.
    #[error("byte {offset}: {announced} values are announced up to here, the limit is {limit}")]
    TooManyNodes {
        /// Where the array or map begins.
        offset: usize,
        /// How many values there are up to and within it, at least.
        announced: u64,
        /// [`Limits::nodes`].
        limit: u32,
    },
    /// The byte at `offset` is `c1`, which MessagePack never uses.
    #[error("byte {offset}: the reserved byte c1")]
    Reserved {
        /// Where it is.
        offset: usize,
    },
    /// The value ends at `offset` and bytes follow.
    #[error("byte {offset}: trailing bytes behind the value: {left}")]
    Trailing {
        /// The first byte behind the value.
        offset: usize,
        /// How many bytes follow.
        left: usize,
    },
}

impl ScanError {
    /// Where: counted in bytes from the first one scanned.
    pub const fn offset(&self) -> usize {
        match *self {
            ScanError::Truncated { offset, .. }
            | ScanError::TooDeep { offset, .. }
            | ScanError::TooManyNodes { offset, .. }
            | ScanError::Reserved { offset }
            | ScanError::Trailing { offset, .. } => offset,
        }
    }

    /// The same error, counted from a byte `by` earlier.
    pub(crate) const fn shifted(mut self, by: usize) -> Self {
        match &mut self {
            ScanError::Truncated { offset, .. }
            | ScanError::TooDeep { offset, .. }
            | ScanError::TooManyNodes { offset, .. }
            | ScanError::Reserved { offset }
            | ScanError::Trailing { offset, .. } => *offset = offset.saturating_add(by),
        }
        self
    }
}

/// Checks that `bytes` is exactly one value within `limits`.
pub fn scan(bytes: &[u8], limits: &Limits) -> Result<(), ScanError> {
    let offset = scan_prefix(bytes, limits)?;
    if offset < bytes.len() {
        return Err(ScanError::Trailing {
            offset,
            left: bytes.len() - offset,
        });
    }
    Ok(())
}

/// Checks that `bytes` begins with one value within `limits` and says how many bytes it takes.
pub fn scan_prefix(bytes: &[u8], limits: &Limits) -> Result<usize, ScanError> {
    walk(bytes, limits).map(|walked| walked.len)
}

/// What one value measures.
pub(crate) struct Walked {
    /// In bytes.
    pub(crate) len: usize,
    /// In values: itself and all within it.
    pub(crate) values: u64,
}

/// The scan.
pub(crate) fn walk(bytes: &[u8], limits: &Limits) -> Result<Walked, ScanError> {
    let mut at = 0usize;
    // Values still to come in the innermost open container, and in those around it.
    let mut remaining = 1u32;
    let mut around = [0u32; Limits::MAX_DEPTH as usize];
    let mut depth = 0usize;
    // All values announced so far, and how many of them are still to come. Each needs a byte at least.
    let mut announced = 1u64;
    let mut pending = 1u64;

    loop {
        while remaining == 0 {
            if depth == 0 {
                return Ok(Walked {
                    len: at,
                    values: announced,
                });
            }
            depth -= 1;
            remaining = around.get(depth).copied().unwrap_or(0);
        }
        let left = bytes.len() - at;
        let Some(&marker) = bytes.get(at) else {
            return Err(ScanError::Truncated {
                offset: at,
                needed: pending,
                left,
            });
        };
        remaining -= 1;
        pending -= 1;

        let width = usize::from(WIDTH[usize::from(marker)]);
        if width != 0 {
            if width > left {
                return Err(ScanError::Truncated {
                    offset: at,
                    needed: pending + width as u64,
                    left,
                });
            }
            at += width;
            continue;
        }

        // The rest have a length of their own: strings, bin and ext a number of bytes, arrays and maps of values.
        let Some(header) = header(marker, bytes.get(at + 1..).unwrap_or_default()) else {
            return Err(cut_off(marker, at, pending, left));
        };
        let needed = header.width as u64 + header.data;
        if needed + header.values + pending > left as u64 {
            return Err(ScanError::Truncated {
                offset: at,
                needed: needed + header.values + pending,
                left,
            });
        }
        if header.container {
            if depth >= usize::from(limits.depth()) {
                return Err(ScanError::TooDeep {
                    offset: at,
                    limit: limits.depth(),
                });
            }
            announced += header.values;
            if announced > u64::from(limits.nodes()) {
                return Err(ScanError::TooManyNodes {
                    offset: at,
                    announced,
                    limit: limits.nodes(),
                });
            }
            if let Some(outer) = around.get_mut(depth) {
                *outer = remaining;
            }
            depth += 1;
            // The limit of values fits 32 bits, and this is within it.
            remaining = header.values as u32;
            pending += header.values;
        }
        at += needed as usize;
    }
}

/// A value whose size its first byte does not tell.
struct Header {
    /// The marker and the length behind it, in bytes.
    width: usize,
    /// Bytes of data that follow.
    data: u64,
    /// Values that follow.
    values: u64,
    container: bool,
}

/// Why there is no header behind `marker`, the first byte of `left` from `offset` on.
#[cold]
fn cut_off(marker: u8, offset: usize, pending: u64, left: usize) -> ScanError {
    let width = match marker {
        0xc1 => return ScanError::Reserved { offset },
        0xc4 | 0xc7 | 0xd9 => 2,
        0xc5 | 0xc8 | 0xda | 0xdc | 0xde => 3,
        _ => 5,
    };
    ScanError::Truncated {
        offset,
        needed: pending + width,
        left,
    }
}

/// Reads the length behind `marker`, or `None` if it is cut off or there is no such marker.
#[inline]
fn header(marker: u8, rest: &[u8]) -> Option<Header> {
    let bytes = |width: usize, data: u64| {
        Some(Header {
            width,
            data,
            values: 0,
            container: false,
        })
    };
    let values = |width: usize, values: u64| {
        Some(Header {
            width,
            data: 0,
            values,
            container: true,
        })
    };
    match marker {
        0x80..=0x8f => values(1, 2 * u64::from(marker & 0x0f)),
        0x90..=0x9f => values(1, u64::from(marker & 0x0f)),
        0xc4 | 0xd9 => bytes(2, one(rest)?),
        0xc5 | 0xda => bytes(3, two(rest)?),
        0xc6 | 0xdb => bytes(5, four(rest)?),
        // An ext has a byte of type besides its data.
        0xc7 => bytes(2, one(rest)? + 1),
        0xc8 => bytes(3, two(rest)? + 1),
        0xc9 => bytes(5, four(rest)? + 1),
        0xdc => values(3, two(rest)?),
        0xdd => values(5, four(rest)?),
        0xde => values(3, 2 * two(rest)?),
        0xdf => values(5, 2 * four(rest)?),
        _ => None,
    }
}

fn one(bytes: &[u8]) -> Option<u64> {
    bytes.first().map(|&byte| u64::from(byte))
}

fn two(bytes: &[u8]) -> Option<u64> {
    bytes
        .first_chunk()
        .map(|&chunk| u64::from(u16::from_be_bytes(chunk)))
}

fn four(bytes: &[u8]) -> Option<u64> {
    bytes
        .first_chunk()
        .map(|&chunk| u64::from(u32::from_be_bytes(chunk)))
}

/// How many bytes a value takes, where its first byte alone tells; 0 elsewhere.
static WIDTH: [u8; 256] = widths();

const fn widths() -> [u8; 256] {
    let mut widths = [0u8; 256];
    let mut marker = 0;
    while marker < 256 {
        widths[marker] = match marker as u8 {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 1,
            0xa0..=0xbf => 1 + (marker as u8 & 0x1f),
            0xcc | 0xd0 => 2,
            0xcd | 0xd1 => 3,
            0xca | 0xce | 0xd2 => 5,
            0xcb | 0xcf | 0xd3 => 9,
            0xd4 => 3,
            0xd5 => 4,
            0xd6 => 6,
            0xd7 => 10,
            0xd8 => 18,
            _ => 0,
        };
        marker += 1;
    }
    widths
}
