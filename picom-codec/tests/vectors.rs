//! The golden vectors of `vectors/frames.txt`: what each name means as a frame, both directions, every split point.

use bytes::{Bytes, BytesMut};
use picom_codec::{Code, Fault, Frame, FrameCodec, FrameError, Goaway, Hello, Method, Open, StreamId, head};
use std::collections::BTreeSet;
use std::error::Error;
use tokio_util::codec::{Decoder, Encoder};

const LIMIT: u32 = 65_536;

struct Vector {
    name: &'static str,
    bytes: Vec<u8>,
    words: &'static str,
}

fn vectors() -> Vec<Vector> {
    include_str!("vectors/frames.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut columns = line.split(" | ");
            let name = columns.next().unwrap();
            let bytes = columns.next().expect("a column of bytes");
            let bytes = bytes
                .split(' ')
                .map(|byte| u8::from_str_radix(byte, 16).unwrap())
                .collect();
            let words = columns.next().expect("a column of words");
            assert_eq!(columns.next(), None, "{name} has a column too many");
            Vector { name, bytes, words }
        })
        .collect()
}

fn hello() -> Hello {
    Hello {
        min_version: 1,
        max_version: 1,
        service: None,
        instance: None,
        draining: false,
        frame_limit: 4096,
        message_limit: 4096,
        first_window: 4096,
        stream_limit: 0,
        idle_ms: 0,
    }
}

fn open(stream: u64, method: &str, args: &'static [u8]) -> Open {
    Open {
        stream: StreamId::new(stream),
        method: Method::new(method).unwrap(),
        micros_left: None,
        idempotent: false,
        args_follow: false,
        metadata: None,
        args: Bytes::from_static(args).into(),
    }
}

fn fault(code: Code) -> Fault {
    Fault {
        stream: StreamId::FIRST,
        code,
        started: false,
        do_not_retry: false,
        delay_ms: None,
        text: String::new(),
        name: None,
        details: Bytes::from_static(&[0xc0]),
    }
}

/// The frame that each vector of a good frame holds.
fn frame(name: &str) -> Option<Frame> {
    let one = StreamId::FIRST;
    let id = StreamId::new;
    let bytes = Bytes::from_static;
    Some(match name {
        "hello_client" => Frame::Hello(Hello {
            service: Some("service1".into()),
            instance: Some("i-01".into()),
            frame_limit: 65_536,
            message_limit: 16_777_216,
            first_window: 65_792,
            stream_limit: 512,
            idle_ms: 90_000,
            ..hello()
        }),
        "hello_anyone" => Frame::Hello(Hello {
            max_version: 2,
            ..hello()
        }),
        "hello_draining" => Frame::Hello(Hello {
            service: Some("service1".into()),
            draining: true,
            frame_limit: 65_536,
            message_limit: 1 << 32,
            first_window: 2_147_483_647,
            stream_limit: u32::MAX,
            idle_ms: 30_000,
            ..hello()
        }),
        "lax_hello_extensions" => Frame::Hello(Hello {
            stream_limit: 1,
            ..hello()
        }),
        "call_add" => Frame::Call(Open {
            micros_left: Some(1_000_000),
            ..open(1, "add", &[0x92, 2, 5])
        }),
        "call_no_deadline" => Frame::Call(open(3, "ping", &[0xc0])),
        "call_idempotent_with_metadata" => Frame::Call(Open {
            micros_left: Some(1000),
            idempotent: true,
            metadata: Some(bytes(&[
                0x81, 0xa5, b't', b'r', b'a', b'c', b'e', 0xc4, 4, 0xde, 0xad, 0xbe, 0xef,
            ])),
            ..open(257, "get", &[0xa1, b'k'])
        }),
        "call_long_method" => Frame::Call(open(5, "warehouse.orders.recalculate_all", &[0x80])),
        "call_utf8_method" => Frame::Call(Open {
            micros_left: Some(0),
            ..open(7, "größe", &[1])
        }),
        "open_convert" => Frame::Open(Open {
            metadata: Some(bytes(&[0x80])),
            ..open(9, "convert", &[0xc0])
        }),
        "open_args_follow" => Frame::Open(Open {
            micros_left: Some(0x12_3456_789a),
            args_follow: true,
            ..open(11, "upload", &[0xc0])
        }),
        "lax_call_unknown_flags" => Frame::Call(Open {
            idempotent: true,
            ..open(1, "add", &[0xc0])
        }),
        "data_nil" => Frame::Data {
            stream: one,
            body: bytes(&[0xc0]).into(),
        },
        "data_map" => Frame::Data {
            stream: id(127),
            body: bytes(&[0x81, 0xa1, b'n', 7]).into(),
        },
        "data_body_is_free" => Frame::Data {
            stream: id(129),
            body: bytes(&[0xcd, 0, 7]).into(),
        },
        "data_wide_stream" => Frame::Data {
            stream: id(4_294_967_297),
            body: bytes(&[0xa2, b'o', b'k']).into(),
        },
        "last_int" => Frame::Last {
            stream: one,
            body: bytes(&[7]).into(),
        },
        "last_wide_stream" => Frame::Last {
            stream: id(65_537),
            body: bytes(&[0xc3]).into(),
        },
        "part_first" => Frame::Part {
            stream: one,
            total: Some(8192),
            end: false,
            body: bytes(&[0x93, 1, 2]).into(),
        },
        "part_middle" => Frame::Part {
            stream: one,
            total: None,
            end: false,
            body: bytes(&[0xc0, 0xc0]).into(),
        },
        "part_last" => Frame::Part {
            stream: one,
            total: None,
            end: true,
            body: bytes(&[5]).into(),
        },
        "part_bin16" => {
            let body = (0..=255).collect::<Vec<u8>>().into();
            Frame::Part {
                stream: one,
                total: Some(1 << 32),
                end: false,
                body,
            }
        }
        "part_empty" => Frame::Part {
            stream: one,
            total: Some(0),
            end: true,
            body: Bytes::new().into(),
        },
        "items_three" => Frame::Items {
            stream: one,
            count: 3,
            body: bytes(&[1, 0xa1, b'b', 0xc0]),
        },
        "items_sixteen" => Frame::Items {
            stream: id(3),
            count: 16,
            body: (0..16).collect::<Vec<u8>>().into(),
        },
        "end" => Frame::End { stream: one },
        "reset_cancelled" => Frame::Reset {
            stream: one,
            code: Code::CANCELLED,
        },
        "reset_unknown_code" => Frame::Reset {
            stream: id(3),
            code: Code(900),
        },
        "stop" => Frame::Stop {
            stream: one,
            code: Code::OK,
        },
        "credit" => Frame::Credit {
            stream: one,
            bytes: 4096,
        },
        "credit_most" => Frame::Credit {
            stream: one,
            bytes: 2_147_483_647,
        },
        "fault_application" => Frame::Fault(Fault {
            started: true,
            text: "no stock".into(),
            name: Some("OutOfStock".into()),
            details: bytes(&[0x81, 0xa4, b'l', b'e', b'f', b't', 2]),
            ..fault(Code::APPLICATION)
        }),
        "fault_busy" => Frame::Fault(Fault {
            do_not_retry: true,
            delay_ms: Some(250),
            ..fault(Code::TOO_BUSY)
        }),
        "fault_long_text" => Frame::Fault(Fault {
            started: true,
            do_not_retry: true,
            delay_ms: Some(0),
            text: "index out of bounds: the len is 0".into(),
            name: Some(String::new()),
            ..fault(Code::PANIC)
        }),
        "lax_fault_unknown_flags" => Frame::Fault(fault(Code::INTERNAL)),
        "ping" => Frame::Ping { token: 42 },
        "ping_most" => Frame::Ping { token: u64::MAX },
        "pong" => Frame::Pong { token: 128 },
        "drain" => Frame::Drain { grace_ms: 30_000 },
        "drain_ack" => Frame::DrainAck { last: Some(id(1001)) },
        "drain_ack_none" => Frame::DrainAck { last: None },
        "goaway_ok" => Frame::Goaway(Goaway {
            last: Some(id(13)),
            code: Code::OK,
            text: String::new(),
        }),
        "goaway_version" => Frame::Goaway(Goaway {
            last: None,
            code: Code::VERSION,
            text: "I speak 2 - 3".into(),
        }),
        "lax_ignored_32" => Frame::Ignored { kind: 32 },
        "lax_ignored_63" => Frame::Ignored { kind: 63 },
        _ => return None,
    })
}

/// What a decoder that is given `chunks` says: the frames, and the innermost text of the error that ends them.
fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<String>) {
    let mut codec = FrameCodec::new(LIMIT);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert!(
                        matches!(codec.decode(&mut buffer), Err(FrameError::Failed)),
                        "stays failed"
                    );
                    return (frames, Some(innermost(&error)));
                }
            }
        }
    }
    assert!(
        codec.decode_eof(&mut buffer).is_ok_and(|frame| frame.is_none()),
        "nothing is left over"
    );
    (frames, None)
}

fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn expected(vector: &Vector) -> (Vec<Frame>, Option<String>) {
    if vector.name.starts_with("bad_") {
        return (Vec::new(), Some(vector.words.to_owned()));
    }
    let frame = frame(vector.name).unwrap_or_else(|| panic!("{} has no frame in this test", vector.name));
    (vec![frame], None)
}

#[test]
fn every_vector_is_read_as_its_name_says() {
    for vector in vectors() {
        assert_eq!(decode([&vector.bytes[..]]), expected(&vector), "{}", vector.name);
    }
}

#[test]
fn every_good_vector_is_what_the_encoder_writes() {
    for vector in vectors() {
        let Some(frame) = frame(vector.name).filter(|_| !vector.name.starts_with("lax_")) else {
            continue;
        };
        let mut written = BytesMut::new();
        FrameCodec::new(LIMIT).encode(&frame, &mut written).unwrap();
        assert_eq!(written, vector.bytes, "{}", vector.name);
        assert_eq!(head::encoded_len(&frame), vector.bytes.len(), "{}", vector.name);

        let mut head = BytesMut::new();
        let body = head::encode_head(&frame, &mut head).unwrap();
        head.extend_from_slice(&body.concat());
        assert_eq!(head, vector.bytes, "{}", vector.name);
    }
}

#[test]
fn every_split_point_of_every_vector_gives_the_same() {
    for vector in vectors() {
        let expected = expected(&vector);
        for at in 0..=vector.bytes.len() {
            let (front, back) = vector.bytes.split_at(at);
            assert_eq!(decode([front, back]), expected, "{} split at {at}", vector.name);
        }
        assert_eq!(
            decode(vector.bytes.chunks(1)),
            expected,
            "{} byte by byte",
            vector.name
        );
    }
}

#[test]
fn a_vector_cut_short_is_an_error_only_when_the_stream_ends() {
    for vector in vectors() {
        if vector.name.starts_with("bad_") {
            continue;
        }
        for at in 1..vector.bytes.len() {
            let mut codec = FrameCodec::new(LIMIT);
            let mut buffer = BytesMut::from(&vector.bytes[..at]);
            assert!(
                matches!(codec.decode(&mut buffer), Ok(None)),
                "{} cut at {at}",
                vector.name
            );
            let error = codec.decode_eof(&mut buffer).unwrap_err();
            assert!(
                innermost(&error).starts_with("the stream ended"),
                "{} cut at {at}: {error}",
                vector.name
            );
            assert!(matches!(codec.decode_eof(&mut buffer), Err(FrameError::Failed)));
        }
    }
}

#[test]
fn good_vectors_in_one_stream_come_out_in_order() {
    let good: Vec<Vector> = vectors()
        .into_iter()
        .filter(|vector| !vector.name.starts_with("bad_"))
        .collect();
    let stream: Vec<u8> = good
        .iter()
        .flat_map(|vector| vector.bytes.iter().copied())
        .collect();
    let frames: Vec<Frame> = good.iter().map(|vector| frame(vector.name).unwrap()).collect();
    for size in [1, 2, 3, 7, 64, stream.len()] {
        assert_eq!(
            decode(stream.chunks(size)),
            (frames.clone(), None),
            "in chunks of {size}"
        );
    }
}

#[test]
fn a_bad_vector_behind_good_ones_does_not_take_them_along() {
    let vectors = vectors();
    let good = vectors.iter().find(|vector| vector.name == "call_add").unwrap();
    for bad in vectors.iter().filter(|vector| vector.name.starts_with("bad_")) {
        let stream = [&good.bytes[..], &bad.bytes].concat();
        let (frames, error) = decode([&stream[..]]);
        assert_eq!(frames, [frame("call_add").unwrap()], "{}", bad.name);
        assert_eq!(error.as_deref(), Some(bad.words));
    }
}

#[test]
fn every_name_stands_in_the_file_once_and_every_kind_has_a_vector() {
    let vectors = vectors();
    let names: BTreeSet<&str> = vectors.iter().map(|vector| vector.name).collect();
    assert_eq!(names.len(), vectors.len());
    let kinds: BTreeSet<u8> = vectors
        .iter()
        .filter(|vector| !vector.name.starts_with("bad_") && !vector.name.starts_with("lax_"))
        .map(|vector| {
            let (_, prefix) = picom_codec::varint::read_strict(&vector.bytes).unwrap().unwrap();
            vector.bytes[prefix + 1]
        })
        .collect();
    assert_eq!(kinds, (0..=16).collect());
}

#[test]
fn the_appendix_of_the_protocol_lists_the_same_vectors() {
    let protocol = include_str!("../../PROTOCOL.md");
    let (_, appendix) = protocol.split_once("## Appendix: golden vectors").unwrap();
    let listed: Vec<(&str, &str)> = appendix
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix("` |")?.split_once(" | `"))
        .collect();
    let ours: Vec<(&str, String)> = vectors()
        .iter()
        .map(|vector| {
            let bytes: Vec<String> = vector.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            (vector.name, bytes.join(" "))
        })
        .collect();
    assert_eq!(listed.len(), ours.len());
    for (listed, ours) in listed.iter().zip(&ours) {
        assert_eq!(*listed, (ours.0, ours.1.as_str()));
    }
}
