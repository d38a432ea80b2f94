//! Properties of the frame codec: both directions agree, chunks do not matter, noise does no harm, bounds hold.

use crate::arbitrary;
use bytes::{Bytes, BytesMut};
use picom_codec::head::{self, MAX_DATA_HEAD, MAX_ITEMS_HEAD, MAX_PART_HEAD};
use picom_codec::{
    Code, Fault, Frame, FrameCodec, FrameError, Goaway, Hello, Method, Open, StreamId, Unsendable,
};
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder};

const LIMIT: u32 = 1 << 20;

fn written(frame: &Frame) -> BytesMut {
    let mut wire = BytesMut::new();
    FrameCodec::new(LIMIT).encode(frame, &mut wire).unwrap();
    wire
}

/// All frames in `wire`, and the first error as text.
fn read(wire: &[u8], chunk: usize) -> (Vec<Frame>, Option<String>) {
    let mut codec = FrameCodec::new(LIMIT);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for chunk in wire.chunks(chunk) {
        buffer.extend_from_slice(chunk);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(format!("{error:?}"))),
            }
        }
    }
    (frames, None)
}

fn data(len: usize) -> Frame {
    Frame::Data {
        stream: StreamId::FIRST,
        body: vec![0xc0; len].into(),
    }
}

proptest! {
    #[test]
    fn frames_survive_the_trip(frames in prop::collection::vec(arbitrary::frame(), 1..6), chunk in 1..5000usize) {
        let mut wire = BytesMut::new();
        for frame in &frames {
            let before = wire.len();
            FrameCodec::new(LIMIT).encode(frame, &mut wire).unwrap();
            prop_assert_eq!(wire.len() - before, head::encoded_len(frame));
            let payload = head::payload_len(frame) as u32;
            prop_assert!(head::fits(frame, payload) && !head::fits(frame, payload - 1));
            let body = head::body_len(frame);
            prop_assert_eq!(head::charge(frame), body.map_or(0, |len| len.max(256) as u64));
            let mut head = BytesMut::new();
            let rest = head::encode_head(frame, &mut head).unwrap().concat();
            prop_assert_eq!([&head[..], &rest[..]].concat(), &wire[before..]);
            prop_assert!(rest.len() <= body.unwrap_or(0));
        }
        prop_assert_eq!(read(&wire, chunk), (frames, None));
    }

    #[test]
    fn noise_neither_panics_nor_depends_on_chunks(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        chunk in 1..20usize,
    ) {
        prop_assert_eq!(read(&noise, chunk), read(&noise, usize::MAX));
    }

    #[test]
    fn damaged_frames_do_no_harm_and_what_is_read_can_be_written(
        frame in arbitrary::frame(),
        at: prop::sample::Index,
        byte: u8,
        chunk in 1..200usize,
    ) {
        let mut wire = written(&frame).to_vec();
        let at = at.index(wire.len());
        wire[at] = byte;
        let (frames, error) = read(&wire, usize::MAX);
        prop_assert_eq!(read(&wire, chunk), (frames.clone(), error));
        for frame in frames {
            if matches!(frame, Frame::Ignored { .. }) {
                continue;
            }
            // A body may have become anything; all else was checked when it was read.
            prop_assert_eq!(read(&written(&frame), usize::MAX), (vec![frame], None));
        }
    }
}

#[test]
fn small_bodies_do_not_pin_the_read_buffer_and_large_ones_are_not_copied() {
    let mut codec = FrameCodec::new(LIMIT);
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    buffer.extend_from_slice(&written(&data(10)));
    buffer.extend_from_slice(&written(&data(16 * 1024 - 1)));
    let start = buffer.as_ptr();
    let small: Vec<Frame> = (0..2)
        .map(|_| codec.decode(&mut buffer).unwrap().unwrap())
        .collect();
    // With nothing left that points into it, the buffer makes room in place.
    buffer.reserve(60 * 1024);
    assert_eq!(buffer.as_ptr(), start);
    assert_eq!(small, [data(10), data(16 * 1024 - 1)]);

    let wire = written(&data(16 * 1024));
    let head = wire.len() - 16 * 1024;
    buffer.extend_from_slice(&wire);
    let body = buffer[head..].as_ptr();
    let Some(Frame::Data { body: read, .. }) = codec.decode(&mut buffer).unwrap() else {
        panic!()
    };
    assert_eq!(read.into_bytes().as_ptr(), body);
}

#[test]
fn a_frame_is_taken_from_a_buffer_that_stays_what_it_is() {
    let wire = written(&data(16 * 1024));
    let (begun, rest) = wire.split_at(9 * 1024);
    let mut codec = FrameCodec::new(64 * 1024);
    let mut buffer = BytesMut::with_capacity(begun.len());
    buffer.extend_from_slice(begun);
    assert_eq!(codec.take_frame(&mut buffer).unwrap(), None);
    let before = buffer.capacity();
    assert_eq!(codec.take_frame(&mut buffer).unwrap(), None);
    assert_eq!(buffer.capacity(), before, "nothing is reserved");
    assert_eq!(codec.decode(&mut buffer).unwrap(), None);
    assert!(buffer.capacity() >= before + rest.len().min(8 * 1024));
    buffer.extend_from_slice(rest);
    assert_eq!(codec.take_frame(&mut buffer).unwrap(), Some(data(16 * 1024)));
}

#[test]
fn room_for_messages_is_exact_for_the_widest_stream() {
    let stream = StreamId::new(u64::MAX);
    let limit = 4096;
    let body = |len: usize| Bytes::from(vec![0xc0; len]);

    let most = limit as usize - MAX_DATA_HEAD;
    assert!(head::data_fits(most, limit) && !head::data_fits(most + 1, limit));
    assert_eq!(
        head::payload_len(&Frame::Data {
            stream,
            body: body(most).into()
        }),
        4096
    );
    assert_eq!(
        head::payload_len(&Frame::Last {
            stream,
            body: body(most).into()
        }),
        4096
    );

    let room = head::items_room(limit);
    assert_eq!(room, limit as usize - MAX_ITEMS_HEAD);
    assert_eq!(
        head::payload_len(&Frame::Items {
            stream,
            count: 65_535,
            body: body(room)
        }),
        4096
    );

    // A fragment's own length may need a shorter header than the longest, never a longer one.
    for limit in [4096, 65_536, 1 << 20] {
        let room = head::part_room(limit);
        assert_eq!(room, limit as usize - MAX_PART_HEAD);
        let part = Frame::Part {
            stream,
            total: Some(u64::MAX),
            end: true,
            body: body(room).into(),
        };
        assert!(head::fits(&part, limit));
        assert!(head::payload_len(&part) + 4 > limit as usize);
    }
}

#[test]
fn no_head_is_longer_than_its_constant_says() {
    let stream = StreamId::new(u64::MAX);
    let body = Bytes::from(vec![0xc0; 65_536]);
    let head_len = |frame: &Frame| head::payload_len(frame) - body.len();
    assert_eq!(
        head_len(&Frame::Data {
            stream,
            body: body.clone().into()
        }),
        MAX_DATA_HEAD
    );
    assert_eq!(
        head_len(&Frame::Items {
            stream,
            count: 65_535,
            body: body.clone()
        }),
        MAX_ITEMS_HEAD
    );
    let part = Frame::Part {
        stream,
        total: Some(u64::MAX),
        end: true,
        body: body.clone().into(),
    };
    assert_eq!(head_len(&part), MAX_PART_HEAD);
}

#[test]
fn long_texts_are_cut_at_a_character() {
    // 4,095 bytes, then a character of two.
    let text = format!("{}ä and more", "x".repeat(4095));
    let goaway = Frame::Goaway(Goaway {
        last: None,
        code: Code::PROTOCOL,
        text: text.clone(),
    });
    let (frames, error) = read(&written(&goaway), usize::MAX);
    assert_eq!(error, None);
    let [Frame::Goaway(goaway)] = &frames[..] else {
        panic!("{frames:?}")
    };
    assert_eq!(goaway.text, "x".repeat(4095));

    let fault = Fault {
        stream: StreamId::FIRST,
        code: Code::INTERNAL,
        started: true,
        do_not_retry: false,
        delay_ms: None,
        text: "y".repeat(5000),
        name: None,
        details: Bytes::from_static(&[0xc0]),
    };
    let (frames, _) = read(&written(&Frame::Fault(fault)), usize::MAX);
    let [Frame::Fault(fault)] = &frames[..] else {
        panic!("{frames:?}")
    };
    assert_eq!(fault.text, "y".repeat(4096));
}

#[test]
fn texts_and_maps_over_their_bounds_are_refused_where_they_begin() {
    // Built by hand: the encoder does not write them.
    let goaway = [&[0x94, 0x10, 0x00, 0x00, 0xda, 0x10, 0x01][..], &[b'x'; 4097]].concat();
    // Extensions with one string of 4,096 bytes, which makes 4,101 of them.
    let mut hello = vec![0x9d, 0x00, 0xa5];
    hello.extend(b"picom\x01\x01\xc0\xc0\x00\xcd\x10\x00\xcd\x10\x00\xcd\x10\x00\x00\x00");
    hello.extend([0x81, 0x01, 0xda, 0x10, 0x00]);
    hello.extend([b'x'; 4096]);
    let metadata = [
        b"\x97\x02\x01\xa3add\xc0\x00\x81\x01\xda\x20\x00".as_slice(),
        &[b'x'; 8192],
        &[0xc0],
    ]
    .concat();
    for (payload, text) in [
        (
            goaway,
            "byte 4 of the payload: text is 4097 bytes long, allowed are 0 to 4096",
        ),
        (
            hello,
            "byte 24 of the payload: extensions is 4101 bytes long, allowed are 1 to 4096",
        ),
        (
            metadata,
            "byte 9 of the payload: metadata is 8197 bytes long, allowed are 1 to 8192",
        ),
    ] {
        let mut wire = BytesMut::new();
        picom_codec::varint::write(payload.len() as u64, &mut wire);
        wire.extend_from_slice(&payload);
        let Err(FrameError::Head(error)) = FrameCodec::new(LIMIT).decode(&mut wire) else {
            panic!("{text}")
        };
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn frames_the_peer_would_refuse_are_not_written() {
    let stream = StreamId::FIRST;
    let nil = Bytes::from_static(&[0xc0]);
    let open = Open {
        stream,
        method: Method::new("m").unwrap(),
        micros_left: None,
        idempotent: false,
        args_follow: false,
        metadata: None,
        args: nil.clone().into(),
    };
    let hello = Hello {
        min_version: 1,
        max_version: 1,
        service: None,
        instance: None,
        draining: false,
        frame_limit: 4096,
        message_limit: 4096,
        first_window: 4096,
        stream_limit: 1,
        idle_ms: 0,
    };
    let fault = Fault {
        stream,
        code: Code::APPLICATION,
        started: true,
        do_not_retry: false,
        delay_ms: None,
        text: String::new(),
        name: Some("n".repeat(129)),
        details: nil.clone(),
    };
    let metadata = |bytes: &[u8]| Open {
        metadata: Some(Bytes::copy_from_slice(bytes)),
        ..open.clone()
    };
    let deep = metadata(&[0x81, 1, 0x91, 0x91, 0x91, 0x91, 1]);
    let long = [&[0x81, 1, 0xc5, 0x20, 0][..], &[0; 8192]].concat();
    let table = [
        (
            data(0),
            "the length of the body is 0, allowed are 1 to 4294967295",
        ),
        (
            Frame::Data {
                stream: StreamId::new(0),
                body: nil.clone().into(),
            },
            "the stream is 0, allowed are 1 to 18446744073709551615",
        ),
        (Frame::Ignored { kind: 32 }, "an ignored frame cannot be sent"),
        (
            Frame::Credit { stream, bytes: 0 },
            "the credit is 0, allowed are 1 to 2147483647",
        ),
        (
            Frame::Credit {
                stream,
                bytes: 1 << 31,
            },
            "the credit is 2147483648, allowed are 1 to 2147483647",
        ),
        (
            Frame::Items {
                stream,
                count: 0,
                body: nil.clone(),
            },
            "the number of messages is 0, allowed are 1 to 65535",
        ),
        (
            Frame::Items {
                stream,
                count: 65_536,
                body: nil.clone(),
            },
            "the number of messages is 65536, allowed are 1 to 65535",
        ),
        (
            Frame::Call(Open {
                args: Bytes::from_static(&[7]).into(),
                args_follow: true,
                ..open.clone()
            }),
            "args stand in the frame though they are to follow as parts",
        ),
        (
            Frame::Open(metadata(&[])),
            "the length of the metadata is 0, allowed are 1 to 8192",
        ),
        (
            Frame::Open(metadata(&long)),
            "the length of the metadata is 8197, allowed are 1 to 8192",
        ),
        (
            Frame::Open(metadata(&[0x90])),
            "the metadata is not a map but begins with 0x90",
        ),
        (
            Frame::Open(metadata(&[0x81, 1])),
            "the metadata is not within its bounds: byte 0: at least 3 more bytes are announced, 2 are left",
        ),
        (
            Frame::Open(deep),
            "the metadata is not within its bounds: byte 5: nested deeper than the limit of 4",
        ),
        (
            Frame::Fault(fault),
            "the length of the fault's name is 129, allowed are 0 to 128",
        ),
        (
            Frame::Hello(Hello {
                min_version: 0,
                ..hello.clone()
            }),
            "the lowest version is 0, allowed are 1 to 65535",
        ),
        (
            Frame::Hello(Hello {
                min_version: 2,
                ..hello.clone()
            }),
            "the highest version is 1, allowed are 2 to 65535",
        ),
        (
            Frame::Hello(Hello {
                service: Some("s".repeat(257)),
                ..hello.clone()
            }),
            "the length of the service is 257, allowed are 0 to 256",
        ),
        (
            Frame::Hello(Hello {
                frame_limit: 4095,
                ..hello.clone()
            }),
            "the frame limit is 4095, allowed are 4096 to 4294967295",
        ),
        (
            Frame::Hello(Hello {
                message_limit: 0,
                ..hello.clone()
            }),
            "the message limit is 0, allowed are 4096 to 18446744073709551615",
        ),
        (
            Frame::Hello(Hello {
                first_window: 1 << 31,
                ..hello
            }),
            "the first window is 2147483648, allowed are 4096 to 2147483647",
        ),
    ];
    for (frame, text) in table {
        let mut wire = BytesMut::new();
        let error = head::encode_head(&frame, &mut wire).unwrap_err();
        assert_eq!(error.to_string(), text);
        assert!(wire.is_empty(), "nothing was written: {text}");
    }
}

#[test]
fn the_encoder_keeps_the_limit_of_the_peer() {
    let mut codec = FrameCodec::new(LIMIT);
    codec.set_send_limit(4096);
    let mut wire = BytesMut::new();
    codec.encode(data(4093), &mut wire).unwrap();
    let error = codec.encode(data(4094), &mut wire).unwrap_err();
    assert!(matches!(
        error,
        FrameError::Unsendable(Unsendable::TooLong {
            len: 4097,
            limit: 4096
        })
    ));
    assert_eq!(error.code(), Code::INTERNAL);
}

#[test]
fn errors_name_the_code_of_the_goaway_and_the_offset() {
    let error = FrameCodec::new(10)
        .decode(&mut BytesMut::from(&[0x04, 0x93, 0x03, 0x00, 0xc0][..]))
        .unwrap_err();
    assert_eq!((error.code(), error.offset()), (Code::PROTOCOL, Some(2)));
    let error = FrameCodec::new(10)
        .decode(&mut BytesMut::from(&[0x0b][..]))
        .unwrap_err();
    assert_eq!((error.code(), error.offset()), (Code::PROTOCOL, None));
}
