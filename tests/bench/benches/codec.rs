//! Frames: writing a head, and taking a whole frame out of the bytes that were read.

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use picom_codec::{Body, Frame, FrameCodec, Method, Open, StreamId, encode_head};
use std::hint::black_box;
use tokio_util::codec::{Decoder as _, Encoder as _};

const LIMIT: u32 = 65 * 1024;

fn frames() -> Vec<(&'static str, Frame)> {
    let stream = StreamId::FIRST;
    let method = Method::new("warehouse.add").expect("a name");
    let call = Open {
        stream,
        method,
        micros_left: Some(30_000_000),
        idempotent: false,
        args_follow: false,
        metadata: None,
        args: Body::copy_from_slice(&[0x92, 0x02, 0x05]),
    };
    let body = Bytes::from_static(&[0x07]);
    let large = {
        let mut bin = vec![0xc6, 0, 1, 0, 0];
        bin.resize(5 + 64 * 1024, 7);
        Bytes::from(bin)
    };
    vec![
        ("call", Frame::Call(call)),
        (
            "last",
            Frame::Last {
                stream,
                body: body.into(),
            },
        ),
        (
            "last of 64 KiB",
            Frame::Last {
                stream,
                body: large.into(),
            },
        ),
        (
            "credit",
            Frame::Credit {
                stream,
                bytes: 65_536,
            },
        ),
    ]
}

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write the head");
    for (name, frame) in frames() {
        let mut wire = BytesMut::with_capacity(4096);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                wire.clear();
                encode_head(black_box(&frame), &mut wire)
            });
        });
    }
    group.finish();
}

fn whole(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read a frame");
    for (name, frame) in frames() {
        let mut wire = BytesMut::new();
        FrameCodec::new(LIMIT).encode(frame, &mut wire).expect("it fits");
        let wire = wire.freeze();
        group.bench_function(name, |bencher| {
            let mut codec = FrameCodec::new(LIMIT);
            bencher.iter_batched_ref(
                || BytesMut::from(&wire[..]),
                |bytes| codec.decode(black_box(bytes)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, heads, whole);
criterion_main!(benches);
