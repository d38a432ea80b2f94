//! Small items on a bare socket: number, text with a byte for its length, value; packed into buffers.

use anyhow::{Result, ensure};

use super::frame::number;
use crate::service::{NAME, value};

/// A row takes so many bytes.
const ROW: usize = 8 + 1 + NAME.len() + 8;

/// tonic packs items into buffers of this size, so this is what it is compared with.
const PACK: usize = 32 * 1024;

/// Writes rows from this number on until the buffer is full.
pub(super) fn pack(out: &mut Vec<u8>, id: &mut u64) {
    out.clear();
    while out.len() + ROW <= PACK {
        push(out, *id, value(*id));
        *id += 1;
    }
}

fn push(out: &mut Vec<u8>, id: u64, value: f64) {
    out.extend_from_slice(&id.to_le_bytes());
    out.push(NAME.len() as u8);
    out.extend_from_slice(NAME.as_bytes());
    out.extend_from_slice(&value.to_le_bytes());
}

/// Reads the complete rows, checks that they continue from `next`, and says how many bytes they took. Each goes to `each`.
pub(super) fn unpack(bytes: &[u8], next: &mut u64, mut each: impl FnMut(u64, f64)) -> Result<usize> {
    let rows = bytes.chunks_exact(ROW);
    let used = bytes.len() - rows.remainder().len();
    for row in rows {
        let (id, text) = (number(row, 0), &row[9..ROW - 8]);
        ensure!(id == *next && std::str::from_utf8(text).is_ok(), "a row is wrong");
        *next += 1;
        each(id, f64::from_bits(number(row, ROW - 8)));
    }
    Ok(used)
}

/// The same rows back into a buffer: what a server does that mirrors them.
pub(super) fn mirror(bytes: &[u8], next: &mut u64, out: &mut Vec<u8>) -> Result<usize> {
    unpack(bytes, next, |id, value| push(out, id, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_as_they_went_in_wherever_the_buffer_ends() {
        let (mut out, mut id) = (Vec::new(), 0);
        pack(&mut out, &mut id);
        assert!(out.len() <= PACK && out.len() + ROW > PACK);
        let (mut next, mut back) = (0, Vec::new());
        let used = mirror(&out[..out.len() - 1], &mut next, &mut back).unwrap();
        assert_eq!((used, next), (out.len() - ROW, id - 1));
        assert_eq!(back, out[..used]);
        assert!(unpack(&out, &mut next, |_, _| {}).is_err(), "they must continue");
    }
}
