//! Bytes as a script: frames to write one behind the other, then damage to do to what was written. Random bytes seldom
//! get past a head; these nearly always do.

use arbitrary::{Result, Unstructured};
use bytes::{Bytes, BytesMut};
use picom_codec::{Code, Fault, Frame, FrameCodec, Goaway, Hello, Method, Open, StreamId, value};
use rmpv::Value;
use tokio_util::codec::Encoder;

/// How long a wire grows, in bytes, give or take a frame or a doubling: some frames, and still quick byte by byte.
const MOST: usize = 20_000;

/// The wire that `script` asks for.
pub(crate) fn run(script: &[u8]) -> Vec<u8> {
    let mut script = Unstructured::new(script);
    let mut codec = FrameCodec::new(u32::MAX);
    let mut wire = BytesMut::new();
    // A script that is used up answers every question with the first choice, so its end must be looked for.
    while !script.is_empty() && wire.len() < MOST && script.ratio(9u8, 10u8) == Ok(true) {
        let Ok(frame) = frame(&mut script) else { break };
        // Frames that cannot be sent are left out.
        let _ = codec.encode(frame, &mut wire);
    }
    let mut wire = wire.to_vec();
    while !script.is_empty() && script.ratio(1u8, 2u8) == Ok(true) {
        if damage(&mut script, &mut wire).is_err() {
            break;
        }
    }
    wire
}

fn damage(script: &mut Unstructured<'_>, wire: &mut Vec<u8>) -> Result<()> {
    if wire.is_empty() {
        return Ok(());
    }
    let at = script.choose_index(wire.len())?;
    match script.int_in_range(0..=4)? {
        0 => wire[at] = script.arbitrary()?,
        1 => wire[at] ^= 1 << script.int_in_range(0..=7)?,
        2 => wire.truncate(at),
        3 => wire.insert(at, script.arbitrary()?),
        // Not without end: each doubles it at most.
        _ if wire.len() > MOST => {}
        _ => {
            let end = at + script.choose_index(wire.len() - at)? + 1;
            let piece = wire[at..end].to_vec();
            wire.extend(piece);
        }
    }
    Ok(())
}

fn frame(script: &mut Unstructured<'_>) -> Result<Frame> {
    let stream = StreamId::new(number(script)?);
    Ok(match script.int_in_range(0..=16)? {
        0 => Frame::Hello(Hello {
            min_version: script.int_in_range(0..=3)?,
            max_version: script.int_in_range(0..=3)?,
            service: optional(script, text)?,
            instance: optional(script, text)?,
            draining: script.arbitrary()?,
            frame_limit: number(script)? as u32,
            message_limit: number(script)?,
            first_window: number(script)? as u32,
            stream_limit: number(script)? as u32,
            idle_ms: number(script)?,
        }),
        1 => Frame::Open(open(script, stream)?),
        2 => Frame::Call(open(script, stream)?),
        3 => Frame::Data {
            stream,
            body: body(script)?.into(),
        },
        4 => Frame::Last {
            stream,
            body: body(script)?.into(),
        },
        5 => Frame::Part {
            stream,
            total: optional(script, number)?,
            end: script.arbitrary()?,
            body: Bytes::copy_from_slice(raw(script)?).into(),
        },
        6 => {
            let count = script.int_in_range(0..=20u32)?;
            let mut messages = BytesMut::new();
            for _ in 0..count {
                messages.extend_from_slice(&body(script)?);
            }
            // Sometimes a lie.
            let count = count + u32::from(script.ratio(1u8, 8u8)?);
            Frame::Items {
                stream,
                count,
                body: messages.freeze(),
            }
        }
        7 => Frame::End { stream },
        8 => Frame::Fault(Fault {
            stream,
            code: Code(script.arbitrary()?),
            started: script.arbitrary()?,
            do_not_retry: script.arbitrary()?,
            delay_ms: optional(script, number)?,
            text: text(script)?,
            name: optional(script, text)?,
            details: body(script)?,
        }),
        9 => Frame::Reset {
            stream,
            code: Code(script.arbitrary()?),
        },
        10 => Frame::Stop {
            stream,
            code: Code(script.arbitrary()?),
        },
        11 => Frame::Credit {
            stream,
            bytes: number(script)? as u32,
        },
        12 => Frame::Ping {
            token: number(script)?,
        },
        13 => Frame::Pong {
            token: number(script)?,
        },
        14 => Frame::Drain {
            grace_ms: number(script)?,
        },
        15 => Frame::DrainAck {
            last: optional(script, number)?.map(StreamId::new),
        },
        _ => Frame::Goaway(Goaway {
            last: optional(script, number)?.map(StreamId::new),
            code: Code(script.arbitrary()?),
            text: text(script)?,
        }),
    })
}

fn open(script: &mut Unstructured<'_>, stream: StreamId) -> Result<Open> {
    let method = Method::new(&text(script)?).or_else(|_| Method::new("m"));
    let args_follow = script.ratio(1u8, 8u8)?;
    Ok(Open {
        stream,
        method: method.map_err(|_| arbitrary::Error::IncorrectFormat)?,
        micros_left: optional(script, number)?,
        idempotent: script.arbitrary()?,
        args_follow,
        metadata: optional(script, |script| {
            let entries = (0..script.int_in_range(0..=3)?)
                .map(|_| Ok((Value::from(text(script)?), dynamic(script, 2)?)))
                .collect::<Result<Vec<_>>>()?;
            Ok(encoded(&Value::Map(entries)))
        })?,
        args: if args_follow {
            value::nil().into()
        } else {
            body(script)?.into()
        },
    })
}

/// Numbers of every width.
fn number(script: &mut Unstructured<'_>) -> Result<u64> {
    let bits = script.int_in_range(0..=63)?;
    Ok(script.arbitrary::<u64>()? >> bits)
}

fn optional<T>(
    script: &mut Unstructured<'_>,
    some: impl FnOnce(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Option<T>> {
    if script.arbitrary()? {
        some(script).map(Some)
    } else {
        Ok(None)
    }
}

fn text(script: &mut Unstructured<'_>) -> Result<String> {
    let text = script.arbitrary::<&str>()?;
    // Now and then one over the bounds.
    Ok(if script.ratio(1u8, 32u8)? {
        text.repeat(200)
    } else {
        text.to_owned()
    })
}

fn raw<'a>(script: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let len = script.int_in_range(0..=300)?.min(script.len());
    script.bytes(len)
}

/// A value as a rule, and sometimes anything.
fn body(script: &mut Unstructured<'_>) -> Result<Bytes> {
    if script.ratio(1u8, 8u8)? {
        return Ok(Bytes::copy_from_slice(raw(script)?));
    }
    Ok(encoded(&dynamic(script, 4)?))
}

fn encoded(value: &Value) -> Bytes {
    value::encode(value).unwrap_or_else(|_| value::nil())
}

fn dynamic(script: &mut Unstructured<'_>, depth: u8) -> Result<Value> {
    let kinds = if depth == 0 { 6 } else { 8 };
    Ok(match script.int_in_range(0..=kinds)? {
        0 => Value::Nil,
        1 => Value::from(script.arbitrary::<bool>()?),
        2 => Value::from(number(script)?),
        3 => Value::from(script.arbitrary::<i64>()?),
        4 => Value::from(text(script)?),
        5 => Value::Binary(raw(script)?.to_vec()),
        6 => Value::Ext(script.arbitrary()?, raw(script)?.to_vec()),
        7 => {
            let len = script.int_in_range(0..=4)?;
            Value::Array(
                (0..len)
                    .map(|_| dynamic(script, depth - 1))
                    .collect::<Result<_>>()?,
            )
        }
        _ => {
            let len = script.int_in_range(0..=4)?;
            let entry = |script: &mut Unstructured<'_>| {
                Ok((dynamic(script, depth - 1)?, dynamic(script, depth - 1)?))
            };
            Value::Map((0..len).map(|_| entry(script)).collect::<Result<_>>()?)
        }
    })
}
