//! The heads of native frames: how long they are, what frames cost, and writing one (PROTOCOL §3, §7.1). The order of a
//! head's elements is in `head/layout.rs` alone, the bounds in `head/bounds.rs`. What frames mean is not known here.

mod bounds;
mod layout;
mod short;

pub use bounds::{
    MAX_CREDIT, MAX_FAULT_NAME, MAX_ITEMS, MAX_METADATA, MAX_PEER_NAME, MAX_TEXT, MIN_LIMIT, check_metadata,
};
pub(crate) use layout::{Take, parse};

use crate::body::View;
use crate::canonical::{Count, Sink};
use crate::{Frame, Unsendable, varint};
use bytes::{Bytes, BytesMut};
use short::Short;
use std::slice;

/// What a frame with a body costs at least, in bytes of credit (PROTOCOL §7.1): about what holding one costs, so that
/// empty messages are not free.
pub const MIN_CHARGE: u64 = 256;

/// The longest head of a data or last frame, in bytes: array, kind, stream.
pub const MAX_DATA_HEAD: usize = 1 + 1 + 9;

/// The longest head of an items frame, in bytes: as for data, and the header of the inner array.
pub const MAX_ITEMS_HEAD: usize = MAX_DATA_HEAD + 3;

/// The longest head of a part frame, in bytes: as for data, total, end, and the header of the `bin`.
pub const MAX_PART_HEAD: usize = MAX_DATA_HEAD + 9 + 1 + 5;

/// What `frame` costs in credit (PROTOCOL §7.1): max(body, [`MIN_CHARGE`]) for open, call, data, last, part, items and
/// fault, 0 for the rest. The body is what [`Frame`] holds, without the header of a part's `bin` or an items' array.
#[inline]
pub fn charge(frame: &Frame) -> u64 {
    match body_len(frame) {
        Some(len) => (len as u64).max(MIN_CHARGE),
        None => 0,
    }
}

/// How long the body of `frame` is, in bytes. `None` for kinds without one.
#[inline]
pub fn body_len(frame: &Frame) -> Option<usize> {
    body(frame).map(View::len)
}

#[inline]
fn body(frame: &Frame) -> Option<View<'_>> {
    match frame {
        Frame::Open(open) | Frame::Call(open) => Some(open.args.view()),
        Frame::Fault(fault) => Some(View::Pieces(slice::from_ref(&fault.details))),
        Frame::Data { body, .. } | Frame::Last { body, .. } | Frame::Part { body, .. } => Some(body.view()),
        Frame::Items { body, .. } => Some(View::Pieces(slice::from_ref(body))),
        Frame::Hello(_)
        | Frame::End { .. }
        | Frame::Reset { .. }
        | Frame::Stop { .. }
        | Frame::Credit { .. }
        | Frame::Ping { .. }
        | Frame::Pong { .. }
        | Frame::Drain { .. }
        | Frame::DrainAck { .. }
        | Frame::Goaway(_)
        | Frame::Ignored { .. } => None,
    }
}

/// The length of `frame`'s payload in bytes, which is what the peer's frame limit bounds.
pub fn payload_len(frame: &Frame) -> usize {
    let mut head = Count::default();
    layout::write(frame, &mut head);
    head.0 + body_len(frame).unwrap_or(0)
}

/// The length of `frame` on the wire in bytes, prefix included.
pub fn encoded_len(frame: &Frame) -> usize {
    let payload = payload_len(frame);
    varint::encoded_len(payload as u64) + payload
}

/// Whether `frame` fits a peer whose frame limit is `frame_limit` bytes (PROTOCOL §6.1).
pub fn fits(frame: &Frame, frame_limit: u32) -> bool {
    payload_len(frame) as u64 <= u64::from(frame_limit)
}

/// Whether a message of `len` bytes fits a data or last frame on any stream. If not, it travels in parts.
#[inline]
pub const fn data_fits(len: usize, frame_limit: u32) -> bool {
    len as u64 + MAX_DATA_HEAD as u64 <= frame_limit as u64
}

/// How many bytes of a message fit one part frame on any stream.
#[inline]
pub const fn part_room(frame_limit: u32) -> usize {
    (frame_limit as usize).saturating_sub(MAX_PART_HEAD)
}

/// How many bytes of messages fit one items frame on any stream: the budget for an [`ItemsPacker`](crate::ItemsPacker).
#[inline]
pub const fn items_room(frame_limit: u32) -> usize {
    (frame_limit as usize).saturating_sub(MAX_ITEMS_HEAD)
}

/// Writes the length prefix and the head of `frame`, and its body too if [that holds its bytes itself](crate::Body::copy_from_slice).
/// Returns the pieces of the body that must follow: large ones are better handed to the socket than copied behind the head.
///
/// Texts of faults and goaways are cut to [`MAX_TEXT`]. A frame that breaks a bound is refused before anything is written.
pub fn encode_head<'f>(frame: &'f Frame, dst: &mut BytesMut) -> Result<&'f [Bytes], Unsendable> {
    bounds::check(frame)?;
    let (body, pieces) = match body(frame) {
        Some(View::Short(bytes)) => (bytes, &[][..]),
        Some(View::Pieces(pieces)) => (&[][..], pieces),
        None => (&[][..], &[][..]),
    };
    let mut head = Short::new();
    layout::write(frame, &mut head);
    head.slice(body);
    let length = head.len();
    let payload = length as u64 + View::Pieces(pieces).len() as u64;
    bounds::bounded("the length of the payload", payload, 1, u64::from(u32::MAX))?;
    if !head.append(payload, dst) {
        write_long(frame, body, payload, length, dst);
    }
    Ok(pieces)
}

/// The same for a head that is longer than most.
#[cold]
fn write_long(frame: &Frame, body: &[u8], payload: u64, length: usize, dst: &mut BytesMut) {
    dst.reserve(varint::MAX_STRICT + length);
    varint::write(payload, dst);
    layout::write(frame, dst);
    dst.extend_from_slice(body);
}
