//! The bounds of PROTOCOL §3.5 and its neighbours, and whether a frame that is to be sent keeps them.

use crate::scan::scan;
use crate::{Frame, Goaway, Hello, Limits, StreamId, Unsendable};

/// The longest metadata, in bytes; its depth; its number of values (PROTOCOL §3.5).
pub const MAX_METADATA: usize = 8 * 1024;
pub(super) const METADATA_LIMITS: Limits = Limits::new(4, 256);

/// The longest service and instance of a hello, in bytes (PROTOCOL §3.5).
pub const MAX_PEER_NAME: usize = 256;

/// The longest text of a fault or goaway, in bytes (PROTOCOL §3.5).
pub const MAX_TEXT: usize = 4 * 1024;

/// The longest name of a fault, in bytes (PROTOCOL §3.5).
pub const MAX_FAULT_NAME: usize = 128;

/// The longest extensions of a hello, in bytes (PROTOCOL §3.5). As many values fit it at most, so they need no bound of
/// their own.
pub(super) const MAX_EXTENSIONS: usize = 4 * 1024;
pub(super) const EXTENSIONS_LIMITS: Limits = Limits::new(Limits::MAX_DEPTH, MAX_EXTENSIONS as u32);

/// The smallest frame limit, message limit and first window there may be, in bytes (PROTOCOL §4.4).
pub const MIN_LIMIT: u32 = 4 * 1024;

/// The most credit a half may have, in bytes (PROTOCOL §7.2).
pub const MAX_CREDIT: u32 = i32::MAX as u32;

/// The most messages in one items frame (PROTOCOL §3.7).
pub const MAX_ITEMS: u32 = 65_535;

/// The body of an open whose args follow as parts (PROTOCOL §3.6).
pub(super) const NIL: &[u8] = &[0xc0];

/// Whether `metadata` may travel in an open or call: a MessagePack map within the bounds of PROTOCOL §3.5.
pub fn check_metadata(metadata: &[u8]) -> Result<(), Unsendable> {
    bounded(
        "the length of the metadata",
        metadata.len() as u64,
        1,
        MAX_METADATA as u64,
    )?;
    scan(metadata, &METADATA_LIMITS).map_err(Unsendable::Metadata)?;
    match metadata.first() {
        Some(0x80..=0x8f | 0xde | 0xdf) => Ok(()),
        found => Err(Unsendable::MetadataNotMap {
            found: found.copied().unwrap_or_default(),
        }),
    }
}

/// Refuses what the peer would end the connection for.
#[inline]
pub(super) fn check(frame: &Frame) -> Result<(), Unsendable> {
    match frame {
        Frame::Data { stream, body } | Frame::Last { stream, body } => check_body(*stream, body.len()),
        Frame::Open(open) | Frame::Call(open) => {
            if let Some(metadata) = &open.metadata {
                check_metadata(metadata)?;
            }
            if open.args_follow && open.args != *NIL {
                return Err(Unsendable::ArgsTwice);
            }
            check_body(open.stream, open.args.len())
        }
        Frame::Part { stream, body, .. } => {
            bounded(
                "the length of the fragment",
                body.len() as u64,
                0,
                u64::from(u32::MAX),
            )?;
            check_stream(*stream)
        }
        Frame::Items { stream, count, body } => {
            bounded("the number of messages", (*count).into(), 1, MAX_ITEMS.into())?;
            check_body(*stream, body.len())
        }
        Frame::Fault(fault) => {
            if let Some(name) = &fault.name {
                bounded(
                    "the length of the fault's name",
                    name.len() as u64,
                    0,
                    MAX_FAULT_NAME as u64,
                )?;
            }
            check_body(fault.stream, fault.details.len())
        }
        Frame::Credit { stream, bytes } => {
            bounded("the credit", (*bytes).into(), 1, MAX_CREDIT.into())?;
            check_stream(*stream)
        }
        Frame::End { stream } | Frame::Reset { stream, .. } | Frame::Stop { stream, .. } => {
            check_stream(*stream)
        }
        Frame::Hello(hello) => check_hello(hello),
        Frame::DrainAck { last: Some(last) } | Frame::Goaway(Goaway { last: Some(last), .. }) => {
            check_stream(*last)
        }
        Frame::Ping { .. }
        | Frame::Pong { .. }
        | Frame::Drain { .. }
        | Frame::DrainAck { .. }
        | Frame::Goaway(_) => Ok(()),
        Frame::Ignored { .. } => Err(Unsendable::Ignored),
    }
}

fn check_hello(hello: &Hello) -> Result<(), Unsendable> {
    bounded("the lowest version", hello.min_version.into(), 1, u16::MAX.into())?;
    bounded(
        "the highest version",
        hello.max_version.into(),
        hello.min_version.into(),
        u16::MAX.into(),
    )?;
    for (element, name) in [
        ("the length of the service", &hello.service),
        ("the length of the instance", &hello.instance),
    ] {
        bounded(
            element,
            name.as_deref().map_or(0, str::len) as u64,
            0,
            MAX_PEER_NAME as u64,
        )?;
    }
    let lowest = u64::from(MIN_LIMIT);
    bounded(
        "the frame limit",
        hello.frame_limit.into(),
        lowest,
        u32::MAX.into(),
    )?;
    bounded("the message limit", hello.message_limit, lowest, u64::MAX)?;
    bounded(
        "the first window",
        hello.first_window.into(),
        lowest,
        MAX_CREDIT.into(),
    )
}

#[inline]
fn check_body(stream: StreamId, body: usize) -> Result<(), Unsendable> {
    bounded("the length of the body", body as u64, 1, u64::from(u32::MAX))?;
    check_stream(stream)
}

#[inline]
fn check_stream(stream: StreamId) -> Result<(), Unsendable> {
    bounded("the stream", stream.get(), 1, u64::MAX)
}

#[inline]
pub(super) fn bounded(
    element: &'static str,
    found: u64,
    lowest: u64,
    highest: u64,
) -> Result<(), Unsendable> {
    if found < lowest || found > highest {
        return Err(Unsendable::OutOfRange {
            element,
            found,
            lowest,
            highest,
        });
    }
    Ok(())
}
