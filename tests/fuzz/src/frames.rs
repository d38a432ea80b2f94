//! Any bytes, cut into frames.

use crate::script;
use bytes::{Bytes, BytesMut};
use picom_codec::dialect::{MAX_SNIFF, leading_empty};
use picom_codec::{Frame, FrameCodec, Items, LengthCodec, Limits, Sniff, encode_head, head, sniff};
use tokio_util::codec::Decoder;

/// What a receiver of payloads up to 64 KiB takes.
const LIMIT: u32 = 64 * 1024;

/// Cuts `data` into frames and checks that chunks do not matter, that what was read is written in the same way, and that
/// everything the frames promise holds.
///
/// The first byte says how the rest is meant: even, as bytes of the wire; odd, as a script of frames and damages to them,
/// which gets deeper.
pub fn frames(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else {
        return;
    };
    if mode & 1 == 0 {
        wire(rest, usize::from(mode >> 1));
    } else {
        let script = script::run(rest);
        wire(&script, usize::from(mode >> 1));
    }
}

/// One frame and the bytes it was read from, or the text of the error.
type Step = Result<(Frame, Vec<u8>), String>;

fn wire(bytes: &[u8], chunk: usize) {
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(whole, read(bytes, 1), "byte by byte");
    assert_eq!(whole, read(bytes, chunk.max(2)), "in chunks of {chunk}");
    for (frame, read_from) in whole.iter().flatten() {
        check(frame, read_from);
    }
    check_sniff(bytes);
    // The lenient form may do what it likes, within the limit.
    let mut lenient = LengthCodec::lenient(LIMIT);
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(payload)) = lenient.decode(&mut buffer) {
        assert!(payload.len() <= LIMIT as usize);
    }
}

fn read(bytes: &[u8], chunk: usize) -> Vec<Step> {
    let mut codec = FrameCodec::new(LIMIT);
    let mut buffer = BytesMut::new();
    let mut steps = Vec::new();
    let (mut given, mut taken) = (0, 0);
    for chunk in bytes.chunks(chunk) {
        buffer.extend_from_slice(chunk);
        given += chunk.len();
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => {
                    let end = given - buffer.len();
                    steps.push(Ok((frame, bytes[taken..end].to_vec())));
                    taken = end;
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(codec.decode(&mut buffer).is_err(), "stays failed");
                    steps.push(Err(format!("{error:?}")));
                    return steps;
                }
            }
        }
    }
    if let Err(error) = codec.decode_eof(&mut buffer) {
        steps.push(Err(format!("{error:?}")));
    }
    steps
}

fn check(frame: &Frame, read_from: &[u8]) {
    let cost = head::charge(frame);
    let body_len = head::body_len(frame);
    match body_len {
        Some(len) => assert_eq!(cost, (len as u64).max(256)),
        None => assert_eq!(cost, 0),
    }
    let mut written = BytesMut::new();
    let rest = match encode_head(frame, &mut written) {
        Ok(rest) => rest.concat(),
        Err(error) => {
            assert!(
                matches!(frame, Frame::Ignored { kind: 32..=63 }),
                "{frame:?} cannot be sent: {error}"
            );
            return;
        }
    };
    assert!(rest.len() <= body_len.unwrap_or(0));
    written.extend_from_slice(&rest);
    assert_eq!(written.len(), head::encoded_len(frame));
    assert!(head::fits(frame, LIMIT), "it came in a frame");
    // Flags and extensions of newer peers are dropped. All else has one form only.
    if written != read_from {
        assert!(
            matches!(
                frame,
                Frame::Hello(_) | Frame::Open(_) | Frame::Call(_) | Frame::Fault(_)
            ),
            "{frame:?}"
        );
    }
    let again = FrameCodec::new(LIMIT)
        .decode(&mut written)
        .expect("it was read before");
    assert_eq!(again.as_ref(), Some(frame));

    match frame {
        Frame::Open(open) | Frame::Call(open) => {
            if let Some(metadata) = &open.metadata {
                head::check_metadata(metadata).expect("it was checked when it was read");
            }
        }
        Frame::Items { count, body, .. } => check_items(*count, body),
        Frame::Data { body, .. } | Frame::Last { body, .. } => assert!(!body.is_empty()),
        _ => {}
    }
}

fn check_items(count: u32, body: &Bytes) {
    let mut items = Items::new(count, body.clone(), Limits::untrusted());
    let mut read = 0;
    let mut len = 0;
    let mut failed = false;
    for item in items.by_ref() {
        match item {
            Ok(item) => {
                assert!(!failed, "nothing comes behind an error");
                read += 1;
                len += item.len();
            }
            Err(_) => failed = true,
        }
    }
    assert_eq!(!failed, read == count && len == body.len());
    assert!(items.next().is_none());
}

/// What a stream is does not change with more of it, and is known in time.
fn check_sniff(bytes: &[u8]) {
    let mut last = Sniff::NeedMore;
    for len in 0..=bytes.len().min(MAX_SNIFF) {
        let now = sniff(&bytes[..len]);
        assert!(last == Sniff::NeedMore || last == now, "{last:?}, then {now:?}");
        last = now;
    }
    assert!(bytes.len() < MAX_SNIFF || last != Sniff::NeedMore);
    assert!(leading_empty(bytes) <= bytes.len());
}
