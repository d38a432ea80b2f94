//! Which elements the head of each kind has, and in which order (PROTOCOL §3.2): once for reading, once for writing, and
//! nowhere else.

use super::bounds::{
    EXTENSIONS_LIMITS, MAX_CREDIT, MAX_EXTENSIONS, MAX_FAULT_NAME, MAX_ITEMS, MAX_METADATA, MAX_PEER_NAME,
    MAX_TEXT, METADATA_LIMITS, MIN_LIMIT, NIL,
};
use crate::canonical::{Read, Reader, Sink};
use crate::scan::scan_prefix;
use crate::{Body, Code, Fault, Frame, FrameError, Goaway, HeadFault, Hello, Method, Open, StreamId};
use bytes::Bytes;
use std::cmp::Ordering;
use std::ops::Range;

const FLAG_IDEMPOTENT: u64 = 1;
const FLAG_ARGS_FOLLOW: u64 = 2;
const FLAG_DRAINING: u64 = 1;
const FLAG_STARTED: u64 = 1;
const FLAG_DO_NOT_RETRY: u64 = 2;

/// The name and the number of elements, kind included, of each kind from 0 on (PROTOCOL §3.2).
const KINDS: [(&str, u32); 17] = [
    ("hello", 13),
    ("open", 7),
    ("call", 7),
    ("data", 3),
    ("last", 3),
    ("part", 5),
    ("items", 3),
    ("end", 2),
    ("fault", 8),
    ("reset", 3),
    ("stop", 3),
    ("credit", 3),
    ("ping", 2),
    ("pong", 2),
    ("drain", 2),
    ("drain-ack", 2),
    ("goaway", 4),
];

/// Takes a body out of its payload.
pub(crate) trait Take {
    /// The body in this range of the payload.
    fn body(self, range: Range<usize>) -> Body;

    /// The same, for what is shared in any case.
    fn bytes(self, range: Range<usize>) -> Bytes;
}

/// Reads the frame in `payload`. `take` is asked once for the range of the body, if the kind has one, when everything
/// before it is known to be right.
///
/// Always a frame, or an error: `Option` is what decoders return, and a frame is put there without being moved again.
pub(crate) fn parse(payload: &[u8], take: impl Take) -> Result<Option<Frame>, FrameError> {
    let head = &mut Reader::new(payload);
    match kind(head)? {
        0 => {
            let hello = hello(head)?;
            head.end()?;
            Ok(Some(Frame::Hello(hello)))
        }
        1 => Ok(Some(Frame::Open(open(head, take)?))),
        2 => Ok(Some(Frame::Call(open(head, take)?))),
        3 => {
            let stream = stream(head)?;
            let body = head.body("message")?;
            Ok(Some(Frame::Data {
                stream,
                body: take.body(body),
            }))
        }
        4 => {
            let stream = stream(head)?;
            let body = head.body("message")?;
            Ok(Some(Frame::Last {
                stream,
                body: take.body(body),
            }))
        }
        5 => {
            let stream = stream(head)?;
            let total = head.optional_uint("total length")?;
            let end = head.bool("end")?;
            let body = fragment(head, payload.len())?;
            Ok(Some(Frame::Part {
                stream,
                total,
                end,
                body: take.body(body),
            }))
        }
        6 => {
            let stream = stream(head)?;
            let count = head.array_in(1, MAX_ITEMS, "messages")?;
            let body = head.body("messages")?;
            Ok(Some(Frame::Items {
                stream,
                count,
                body: take.bytes(body),
            }))
        }
        7 => {
            let stream = stream(head)?;
            head.end()?;
            Ok(Some(Frame::End { stream }))
        }
        8 => Ok(Some(Frame::Fault(fault(head, take)?))),
        9 => {
            let (stream, code) = (stream(head)?, code(head)?);
            head.end()?;
            Ok(Some(Frame::Reset { stream, code }))
        }
        10 => {
            let (stream, code) = (stream(head)?, code(head)?);
            head.end()?;
            Ok(Some(Frame::Stop { stream, code }))
        }
        11 => {
            let stream = stream(head)?;
            let bytes = head.uint_in(1, MAX_CREDIT.into(), "credit")? as u32;
            head.end()?;
            Ok(Some(Frame::Credit { stream, bytes }))
        }
        12 => {
            let token = head.uint("token")?;
            head.end()?;
            Ok(Some(Frame::Ping { token }))
        }
        13 => {
            let token = head.uint("token")?;
            head.end()?;
            Ok(Some(Frame::Pong { token }))
        }
        14 => {
            let grace_ms = head.uint("grace")?;
            head.end()?;
            Ok(Some(Frame::Drain { grace_ms }))
        }
        15 => {
            let last = last_stream(head)?;
            head.end()?;
            Ok(Some(Frame::DrainAck { last }))
        }
        16 => {
            let (last, code) = (last_stream(head)?, code(head)?);
            let text = head.text(0, MAX_TEXT, "text")?.to_owned();
            head.end()?;
            Ok(Some(Frame::Goaway(Goaway { last, code, text })))
        }
        // `kind` lets no others through. Whatever it holds is skipped.
        kind => Ok(Some(Frame::Ignored { kind })),
    }
}

/// Reads the array's header and the kind, and checks that they agree.
#[inline]
fn kind(head: &mut Reader<'_>) -> Read<u8> {
    if head.rest().is_empty() {
        return Err(Reader::error(0, HeadFault::Empty));
    }
    let found = head.array("array of the frame")?;
    let offset = head.at();
    if found == 0 {
        return Err(Reader::error(offset, HeadFault::Truncated { element: "kind" }));
    }
    let kind = head.uint("kind")?;
    match usize::try_from(kind).ok().and_then(|kind| KINDS.get(kind)) {
        Some(&(_, expected)) if found == expected => Ok(kind as u8),
        Some(&(kind, expected)) => Err(Reader::error(
            0,
            HeadFault::WrongCount {
                kind,
                expected,
                found,
            },
        )),
        None if (32..=63).contains(&kind) => Ok(kind as u8),
        None => Err(Reader::error(offset, HeadFault::UnknownKind { kind })),
    }
}

#[inline]
fn open(head: &mut Reader<'_>, take: impl Take) -> Read<Open> {
    let stream = stream(head)?;
    let method_at = head.at();
    let method = Method::new(head.text(1, Method::MAX_LEN, "method")?)
        .map_err(|_| Reader::error(method_at, HeadFault::Truncated { element: "method" }))?;
    let micros_left = head.optional_uint("µs left")?;
    let flags = head.uint("flags")?;
    let metadata = match head.nil() {
        true => None,
        false => {
            let check = |bytes: &[u8]| scan_prefix(bytes, &METADATA_LIMITS);
            Some(Bytes::copy_from_slice(head.map(
                MAX_METADATA,
                "metadata",
                check,
            )?))
        }
    };
    let args = head.body("args")?;
    let args_follow = flags & FLAG_ARGS_FOLLOW != 0;
    if args_follow && head.rest() != NIL {
        let found = head.rest().first().copied().unwrap_or_default();
        let fault = HeadFault::WrongType {
            element: "args",
            expected: "nil, for parts follow",
            found,
        };
        return Err(Reader::error(args.start, fault));
    }
    let idempotent = flags & FLAG_IDEMPOTENT != 0;
    Ok(Open {
        stream,
        method,
        micros_left,
        idempotent,
        args_follow,
        metadata,
        args: take.body(args),
    })
}

/// The content of a part's `bin`, which must end with the payload, `end`.
#[inline]
fn fragment(head: &mut Reader<'_>, end: usize) -> Read<Range<usize>> {
    let offset = head.at();
    let len = head.bin("fragment")?;
    let body = head.at()..end;
    match len.cmp(&(body.len() as u64)) {
        Ordering::Equal => Ok(body),
        Ordering::Greater => Err(Reader::error(
            offset,
            HeadFault::Truncated { element: "fragment" },
        )),
        Ordering::Less => {
            let left = body.len() - len as usize;
            Err(Reader::error(end - left, HeadFault::Trailing { left }))
        }
    }
}

fn fault(head: &mut Reader<'_>, take: impl Take) -> Read<Fault> {
    let (stream, code) = (stream(head)?, code(head)?);
    let flags = head.uint("flags")?;
    let delay_ms = head.optional_uint("suggested delay")?;
    let text = head.text(0, MAX_TEXT, "text")?.to_owned();
    let name = optional_text(head, MAX_FAULT_NAME, "name")?;
    let details = head.body("details")?;
    let (started, do_not_retry) = (flags & FLAG_STARTED != 0, flags & FLAG_DO_NOT_RETRY != 0);
    Ok(Fault {
        stream,
        code,
        started,
        do_not_retry,
        delay_ms,
        text,
        name,
        details: take.bytes(details),
    })
}

fn hello(head: &mut Reader<'_>) -> Read<Hello> {
    let word_at = head.at();
    if head.text(0, MAX_PEER_NAME, "protocol name")? != "picom" {
        return Err(Reader::error(word_at, HeadFault::NotPicom));
    }
    let min_version = head.uint_in(1, u16::MAX.into(), "lowest version")?;
    let max_version = head.uint_in(min_version, u16::MAX.into(), "highest version")?;
    let service = optional_text(head, MAX_PEER_NAME, "service")?;
    let instance = optional_text(head, MAX_PEER_NAME, "instance")?;
    let flags = head.uint("flags")?;
    let lowest = u64::from(MIN_LIMIT);
    let hello = Hello {
        min_version: min_version as u16,
        max_version: max_version as u16,
        service,
        instance,
        draining: flags & FLAG_DRAINING != 0,
        frame_limit: head.uint_in(lowest, u32::MAX.into(), "frame limit")? as u32,
        message_limit: head.uint_in(lowest, u64::MAX, "message limit")?,
        first_window: head.uint_in(lowest, MAX_CREDIT.into(), "first window")? as u32,
        stream_limit: head.uint_in(0, u32::MAX.into(), "stream limit")? as u32,
        idle_ms: head.uint("idle")?,
    };
    head.map(MAX_EXTENSIONS, "extensions", |bytes: &[u8]| {
        scan_prefix(bytes, &EXTENSIONS_LIMITS)
    })?;
    Ok(hello)
}

fn optional_text(head: &mut Reader<'_>, longest: usize, element: &'static str) -> Read<Option<String>> {
    if head.nil() {
        Ok(None)
    } else {
        Ok(Some(head.text(0, longest, element)?.to_owned()))
    }
}

#[inline]
fn stream(head: &mut Reader<'_>) -> Read<StreamId> {
    head.uint_in(1, u64::MAX, "stream").map(StreamId::new)
}

fn last_stream(head: &mut Reader<'_>) -> Read<Option<StreamId>> {
    Ok(match head.uint("last stream")? {
        0 => None,
        id => Some(StreamId::new(id)),
    })
}

fn code(head: &mut Reader<'_>) -> Read<Code> {
    head.uint_in(0, u16::MAX.into(), "code")
        .map(|code| Code(code as u16))
}

/// Writes the array header and all elements before the body, and the header of a part's or items' body.
#[inline]
pub(super) fn write<S: Sink>(frame: &Frame, head: &mut S) {
    let mut kind = |kind: u8| {
        let (_, count) = KINDS[usize::from(kind)];
        head.byte(0x90 | count as u8);
        head.byte(kind);
    };
    match frame {
        Frame::Hello(hello) => {
            kind(0);
            head.text(b"picom");
            head.uint(hello.min_version.into());
            head.uint(hello.max_version.into());
            head.optional_text(hello.service.as_deref());
            head.optional_text(hello.instance.as_deref());
            head.uint(if hello.draining { FLAG_DRAINING } else { 0 });
            head.uint(hello.frame_limit.into());
            head.uint(hello.message_limit);
            head.uint(hello.first_window.into());
            head.uint(hello.stream_limit.into());
            head.uint(hello.idle_ms);
            // Extensions: none in this version.
            head.byte(0x80);
        }
        Frame::Open(open) => {
            kind(1);
            write_open(open, head);
        }
        Frame::Call(open) => {
            kind(2);
            write_open(open, head);
        }
        Frame::Data { stream, .. } => {
            kind(3);
            head.uint(stream.get());
        }
        Frame::Last { stream, .. } => {
            kind(4);
            head.uint(stream.get());
        }
        Frame::Part {
            stream,
            total,
            end,
            body,
        } => {
            kind(5);
            head.uint(stream.get());
            head.optional_uint(*total);
            head.bool(*end);
            head.bin(body.len() as u32);
        }
        Frame::Items { stream, count, .. } => {
            kind(6);
            head.uint(stream.get());
            head.array(*count);
        }
        Frame::End { stream } => {
            kind(7);
            head.uint(stream.get());
        }
        Frame::Fault(fault) => {
            kind(8);
            head.uint(fault.stream.get());
            head.uint(fault.code.0.into());
            let started = if fault.started { FLAG_STARTED } else { 0 };
            let do_not_retry = if fault.do_not_retry { FLAG_DO_NOT_RETRY } else { 0 };
            head.uint(started | do_not_retry);
            head.optional_uint(fault.delay_ms);
            head.text(cut(&fault.text));
            head.optional_text(fault.name.as_deref());
        }
        Frame::Reset { stream, code } => {
            kind(9);
            head.uint(stream.get());
            head.uint(code.0.into());
        }
        Frame::Stop { stream, code } => {
            kind(10);
            head.uint(stream.get());
            head.uint(code.0.into());
        }
        Frame::Credit { stream, bytes } => {
            kind(11);
            head.uint(stream.get());
            head.uint((*bytes).into());
        }
        Frame::Ping { token } => {
            kind(12);
            head.uint(*token);
        }
        Frame::Pong { token } => {
            kind(13);
            head.uint(*token);
        }
        Frame::Drain { grace_ms } => {
            kind(14);
            head.uint(*grace_ms);
        }
        Frame::DrainAck { last } => {
            kind(15);
            head.uint(last.map_or(0, StreamId::get));
        }
        Frame::Goaway(goaway) => {
            kind(16);
            head.uint(goaway.last.map_or(0, StreamId::get));
            head.uint(goaway.code.0.into());
            head.text(cut(&goaway.text));
        }
        // `check` refuses it.
        Frame::Ignored { .. } => {}
    }
}

#[inline]
fn write_open<S: Sink>(open: &Open, head: &mut S) {
    head.uint(open.stream.get());
    head.text(open.method.as_bytes());
    head.optional_uint(open.micros_left);
    let idempotent = if open.idempotent { FLAG_IDEMPOTENT } else { 0 };
    let args_follow = if open.args_follow { FLAG_ARGS_FOLLOW } else { 0 };
    head.uint(idempotent | args_follow);
    match &open.metadata {
        Some(metadata) => head.slice(metadata),
        None => head.byte(0xc0),
    }
}

/// `text` up to the last whole character within [`MAX_TEXT`].
fn cut(text: &str) -> &[u8] {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.as_bytes().get(..end).unwrap_or_default()
}
