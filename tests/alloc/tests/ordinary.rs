//! What ordinary frames and values cost: how often the allocator is asked, which is what a call pays for most.

use bytes::{Bytes, BytesMut};
use picom_alloc::{Taken, taken};
use picom_codec::{Frame, FrameCodec, Limits, Method, Open, Sniff, StreamId, encode_head, sniff, value};
use serde::{Deserialize, Serialize};
use tokio_util::codec::{Decoder, Encoder};

const NONE: Taken = Taken { count: 0, peak: 0 };

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
    email: String,
    tags: Vec<String>,
    active: bool,
}

fn user() -> User {
    User {
        id: 77,
        name: "Ada".into(),
        email: "ada@example.org".into(),
        tags: vec!["admin".into(), "ops".into()],
        active: true,
    }
}

fn call() -> Frame {
    Frame::Call(Open {
        stream: StreamId::FIRST,
        method: Method::new("warehouse.add").unwrap(),
        micros_left: Some(30_000_000),
        idempotent: false,
        args_follow: false,
        metadata: None,
        args: Bytes::from_static(&[0x92, 0x02, 0x05]).into(),
    })
}

/// Frames of an ordinary call, and how many allocations reading one costs: a body of more than a few bytes is one, all else is
/// none.
fn frames() -> Vec<(Frame, usize)> {
    let stream = StreamId::FIRST;
    let body = Bytes::from_static(&[0x07]);
    vec![
        (call(), 0),
        (
            Frame::Data {
                stream,
                body: body.clone().into(),
            },
            0,
        ),
        (
            Frame::Data {
                stream,
                body: Bytes::from_static(&[7; 23]).into(),
            },
            0,
        ),
        (
            Frame::Last {
                stream,
                body: Bytes::from_static(&[7; 24]).into(),
            },
            1,
        ),
        (
            Frame::Items {
                stream,
                count: 1,
                body,
            },
            1,
        ),
        (Frame::End { stream }, 0),
        (Frame::Credit { stream, bytes: 4096 }, 0),
        (Frame::Ping { token: 7 }, 0),
        (Frame::Pong { token: 7 }, 0),
        (Frame::DrainAck { last: Some(stream) }, 0),
    ]
}

#[test]
fn heads_are_written_and_read_without_allocations() {
    let mut wire = BytesMut::with_capacity(4096);
    for (frame, cost) in frames() {
        wire.clear();
        let (_, head) = taken(|| encode_head(&frame, &mut wire).unwrap());
        assert_eq!(head, NONE, "writing the head of {frame:?}");
        wire.clear();
        // A new one: where a small body is copied to must be made. After that many share it.
        let mut codec = FrameCodec::new(64 * 1024);
        let (_, written) = taken(|| codec.encode(&frame, &mut wire).unwrap());
        assert_eq!(written, NONE, "writing {frame:?}");
        let (read, taken) = taken(|| codec.decode(&mut wire).unwrap().unwrap());
        assert_eq!(read, frame);
        // The block, and what lets bodies share it.
        assert_eq!(taken.count, 2 * cost, "reading {frame:?}");
    }
}

#[test]
fn small_bodies_share_what_they_are_copied_to() {
    let stream = StreamId::FIRST;
    for (len, cost) in [
        // They stand in the body itself.
        (3, 0),
        // Two and four in the first two blocks, eight in each of 125 more; two allocations each.
        (30, 254),
    ] {
        let mut codec = FrameCodec::new(64 * 1024);
        let mut wire = BytesMut::new();
        for _ in 0..1000 {
            let body = vec![7; len].into();
            codec.encode(&Frame::Data { stream, body }, &mut wire).unwrap();
        }
        let (read, taken) = taken(|| {
            let mut read = 0;
            while let Some(frame) = codec.decode(&mut wire).unwrap() {
                assert!(matches!(frame, Frame::Data { body, .. } if body.len() == len));
                read += 1;
            }
            read
        });
        assert_eq!(read, 1000);
        assert_eq!(taken.count, cost, "{len} bytes: {taken:?}");
    }
}

#[test]
fn encoding_costs_one_allocation_and_small_values_share_one() {
    // The thread's buffers are made once.
    let long = "x".repeat(1000);
    value::encode(&long).unwrap();
    let add = Add { a: 2, b: 5 };
    let (kept, taken_add) = taken(|| {
        let mut kept = value::encode(&add).unwrap();
        for _ in 1..100 {
            kept = value::encode(&add).unwrap();
        }
        kept
    });
    assert_eq!(kept, value::encode(&add).unwrap());
    assert!(taken_add.count <= 2, "{taken_add:?}");
    let (body, taken_body) = taken(|| value::encode_body(&add).unwrap());
    assert_eq!(body, kept[..]);
    assert_eq!(taken_body, NONE, "a body of few bytes holds them");
    let (bytes, taken_long) = taken(|| value::encode(&long).unwrap());
    assert_eq!(
        taken_long,
        Taken {
            count: 1,
            peak: bytes.len()
        }
    );
    let (_, nil) = taken(value::nil);
    assert_eq!(nil, NONE);
}

#[test]
fn decoding_costs_what_the_type_holds() {
    let bytes = value::encode(&Add { a: 2, b: 5 }).unwrap();
    let (add, taken_add) = taken(|| value::decode::<Add>(&bytes, &Limits::default()).unwrap());
    assert_eq!(add, Add { a: 2, b: 5 });
    assert_eq!(taken_add, NONE);
    // Four strings and a vector.
    let bytes = value::encode(&user()).unwrap();
    let (read, taken_user) = taken(|| value::decode::<User>(&bytes, &Limits::default()).unwrap());
    assert_eq!(read, user());
    assert_eq!(taken_user.count, 5);
}

#[test]
fn names_of_methods_and_the_first_bytes_cost_nothing() {
    let (method, taken_method) = taken(|| Method::new("warehouse.orders.recalculate").unwrap());
    assert_eq!(taken_method, NONE);
    let (_, cloned) = taken(|| method.clone());
    assert_eq!(cloned, NONE);
    let (dialect, sniffed) = taken(|| sniff(&[0x08, 0x97, 0x02]));
    assert_eq!((dialect, sniffed), (Sniff::Native, NONE));
}
