//! Hex in, frames out: what a capture of a picom connection says.
//!
//! ```text
//! cargo run -p picom-codec --example frames -- 0f 97 02 01 a3 61 64 64 cd 03 e8 00 c0 92 02 05
//! xxd -p capture.bin | cargo run -p picom-codec --example frames
//! ```
//!
//! Prints one frame a line, with its place in the input and its body as a MessagePack value. At the first error it says
//! where, and exits with 1.

use bytes::{Bytes, BytesMut};
use picom_codec::{Code, Frame, FrameCodec, Items, Limits, Open, value};
use std::error::Error;
use std::io::Read;
use std::process::ExitCode;
use tokio_util::codec::Decoder;

/// A capture holds what some receiver took, so the largest limit there is.
const LIMIT: u32 = u32::MAX;

fn main() -> ExitCode {
    let mut text: String = std::env::args().skip(1).collect();
    if text.is_empty() && std::io::stdin().read_to_string(&mut text).is_err() {
        eprintln!("the input is not text");
        return ExitCode::FAILURE;
    }
    match unhex(&text).and_then(|bytes| print_frames(&bytes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn print_frames(bytes: &[u8]) -> Result<(), String> {
    let mut codec = FrameCodec::new(LIMIT);
    let mut rest = BytesMut::from(bytes);
    loop {
        let offset = bytes.len() - rest.len();
        match codec.decode_eof(&mut rest) {
            Ok(Some(frame)) => println!("{offset:>6}  {}", describe(&frame)),
            Ok(None) => return Ok(()),
            Err(error) => return Err(format!("{offset:>6}  {}", chain(&error))),
        }
    }
}

/// A frame in one line: its kind and head, then its body.
fn describe(frame: &Frame) -> String {
    match frame {
        Frame::Hello(hello) => format!("hello {hello:?}"),
        Frame::Open(open) => format!("open {}", opened(open)),
        Frame::Call(open) => format!("call {}", opened(open)),
        Frame::Data { stream, body } => format!("data {stream:?} {}", message(&body.clone().into_bytes())),
        Frame::Last { stream, body } => format!("last {stream:?} {}", message(&body.clone().into_bytes())),
        Frame::Part {
            stream,
            total,
            end,
            body,
        } => {
            let total = total.map_or(String::new(), |total| format!(" of {total}"));
            let end = if *end { ", the last" } else { "" };
            format!("part {stream:?} {} bytes{total}{end}", body.len())
        }
        Frame::Items { stream, count, body } => {
            let items = Items::new(*count, body.clone(), Limits::default());
            let items: Vec<String> = items
                .map(|item| match item {
                    Ok(item) => message(&item),
                    Err(error) => chain(&error),
                })
                .collect();
            format!("items {stream:?} {count}: {}", items.join("; "))
        }
        Frame::End { stream } => format!("end {stream:?}"),
        Frame::Fault(fault) => {
            let details = message(&fault.details);
            format!(
                "fault {:?} {:?} started: {} do not retry: {} delay: {:?} {:?} {:?} {details}",
                fault.stream,
                fault.code,
                fault.started,
                fault.do_not_retry,
                fault.delay_ms,
                fault.text,
                fault.name,
            )
        }
        Frame::Reset { stream, code } => format!("reset {stream:?} {code:?}"),
        Frame::Stop { stream, code } => format!("stop {stream:?} {code:?}"),
        Frame::Credit { stream, bytes } => format!("credit {stream:?} {bytes}"),
        Frame::Ping { token } => format!("ping {token}"),
        Frame::Pong { token } => format!("pong {token}"),
        Frame::Drain { grace_ms } => format!("drain {grace_ms} ms"),
        Frame::DrainAck { last } => format!("drain-ack {last:?}"),
        Frame::Goaway(goaway) => format!("goaway {:?} {:?} {:?}", goaway.last, goaway.code, goaway.text),
        Frame::Ignored { kind } => format!("kind {kind}, ignored"),
    }
}

fn opened(open: &Open) -> String {
    let mut text = format!("{:?} {:?}", open.stream, open.method);
    if let Some(micros) = open.micros_left {
        text += &format!(" {micros} µs left");
    }
    if open.idempotent {
        text += " idempotent";
    }
    if let Some(metadata) = &open.metadata {
        text += &format!(" metadata {}", message(metadata));
    }
    match open.args_follow {
        true => text + " args follow",
        false => text + " args " + &message(&open.args.clone().into_bytes()),
    }
}

/// One MessagePack value, or why it is none.
fn message(body: &Bytes) -> String {
    match value::decode::<rmpv::Value>(body, &Limits::default()) {
        Ok(value) => value.to_string(),
        Err(error) => format!("({} bad bytes: {} {error})", body.len(), Code::BAD_MESSAGE),
    }
}

/// An error and what lies below it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// Bytes from hex digits in any grouping.
fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => match (high.to_digit(16), low.to_digit(16)) {
                (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
                _ => Err(format!("{high}{low} is not a byte in hex")),
            },
            _ => Err("the hex digits are odd in number".to_owned()),
        })
        .collect()
}
