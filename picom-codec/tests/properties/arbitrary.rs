//! Arbitrary frames, values and bytes for the property tests.
use bytes::Bytes;
use picom_codec::{Code, Fault, Frame, Goaway, Hello, Method, Open, StreamId, value};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rmpv::Value;

/// Numbers around the borders of MessagePack's forms, and any others.
pub(crate) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..300u64,
        (0..64u32, 0..3u64).prop_map(|(bit, off)| (1u64 << bit).wrapping_add(off).wrapping_sub(1)),
        any::<u64>(),
    ]
}

pub(crate) fn stream() -> impl Strategy<Value = StreamId> {
    number().prop_map(|id| StreamId::new(id.max(1)))
}

/// One encoded value.
pub(crate) fn body() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => value(3).prop_map(|value| value::encode(&value).unwrap()),
        1 => (0..70_000usize).prop_map(|len| value::encode(&value::Blob::from(vec![7; len])).unwrap()),
    ]
}

fn code() -> impl Strategy<Value = Code> {
    prop_oneof![(0..20u16), any::<u16>()].prop_map(Code)
}

fn open() -> impl Strategy<Value = Open> {
    let method = "\\PC{1,32}".prop_map(|name| Method::new(&name).unwrap());
    let metadata = vec(("[a-z]{1,9}", value(1)), 0..9).prop_map(|entries| {
        let entries = entries
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect();
        value::encode(&Value::Map(entries)).unwrap()
    });
    let args = prop_oneof![1 => Just(None), 3 => body().prop_map(Some)];
    (
        stream(),
        method,
        option::of(number()),
        any::<bool>(),
        option::of(metadata),
        args,
    )
        .prop_map(|(stream, method, micros_left, idempotent, metadata, args)| Open {
            stream,
            method,
            micros_left,
            idempotent,
            args_follow: args.is_none(),
            metadata,
            args: args.unwrap_or(value::nil()).into(),
        })
}

fn hello() -> impl Strategy<Value = Hello> {
    let name = || option::of("\\PC{0,40}");
    let limits = (
        4096..=u32::MAX,
        4096..=u64::MAX,
        4096..=i32::MAX as u32,
        any::<u32>(),
    );
    (
        1..=u16::MAX,
        0..9u16,
        name(),
        name(),
        any::<bool>(),
        limits,
        number(),
    )
        .prop_map(
            |(min_version, more, service, instance, draining, limits, idle_ms)| Hello {
                min_version,
                max_version: min_version.saturating_add(more),
                service,
                instance,
                draining,
                frame_limit: limits.0,
                message_limit: limits.1,
                first_window: limits.2,
                stream_limit: limits.3,
                idle_ms,
            },
        )
}

fn fault() -> impl Strategy<Value = Fault> {
    let flags = any::<(bool, bool)>();
    (
        stream(),
        code(),
        flags,
        option::of(number()),
        "\\PC{0,300}",
        option::of("\\PC{0,32}"),
        body(),
    )
        .prop_map(
            |(stream, code, (started, do_not_retry), delay_ms, text, name, details)| Fault {
                stream,
                code,
                started,
                do_not_retry,
                delay_ms,
                text,
                name,
                details,
            },
        )
}

/// Any frame that can be sent.
pub(crate) fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        hello().prop_map(Frame::Hello),
        open().prop_map(Frame::Open),
        open().prop_map(Frame::Call),
        (stream(), body()).prop_map(|(stream, body)| Frame::Data {
            stream,
            body: body.into()
        }),
        (stream(), body()).prop_map(|(stream, body)| Frame::Last {
            stream,
            body: body.into()
        }),
        (
            stream(),
            option::of(number()),
            any::<bool>(),
            vec(any::<u8>(), 0..300)
        )
            .prop_map(|(stream, total, end, body)| Frame::Part {
                stream,
                total,
                end,
                body: body.into()
            }),
        (stream(), vec(body(), 1..20)).prop_map(|(stream, messages)| Frame::Items {
            stream,
            count: messages.len() as u32,
            body: messages.concat().into(),
        }),
        stream().prop_map(|stream| Frame::End { stream }),
        fault().prop_map(Frame::Fault),
        (stream(), code()).prop_map(|(stream, code)| Frame::Reset { stream, code }),
        (stream(), code()).prop_map(|(stream, code)| Frame::Stop { stream, code }),
        (stream(), 1..=i32::MAX as u32).prop_map(|(stream, bytes)| Frame::Credit { stream, bytes }),
        number().prop_map(|token| Frame::Ping { token }),
        number().prop_map(|token| Frame::Pong { token }),
        number().prop_map(|grace_ms| Frame::Drain { grace_ms }),
        option::of(stream()).prop_map(|last| Frame::DrainAck { last }),
        (option::of(stream()), code(), "\\PC{0,300}").prop_map(|(last, code, text)| Frame::Goaway(Goaway {
            last,
            code,
            text
        })),
    ]
}

/// Any value, with at most `depth` levels. Its floats equal themselves, its strings are UTF-8.
pub(crate) fn value(depth: u32) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::from),
        number().prop_map(Value::from),
        number().prop_map(|number| Value::from(-((number >> 1) as i64) - 1)),
        any::<f32>()
            .prop_filter("NaN is not itself", |float| !float.is_nan())
            .prop_map(Value::F32),
        any::<f64>()
            .prop_filter("NaN is not itself", |float| !float.is_nan())
            .prop_map(Value::F64),
        "\\PC{0,40}".prop_map(Value::from),
        vec(any::<u8>(), 0..300).prop_map(Value::Binary),
        (any::<i8>(), vec(any::<u8>(), 0..40)).prop_map(|(kind, data)| Value::Ext(kind, data)),
        (any::<i8>(), 0..5u32).prop_map(|(kind, power)| Value::Ext(kind, vec![1; 1 << power])),
    ];
    leaf.prop_recursive(depth, 40, 20, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Value::Array),
            vec((inner.clone(), inner), 0..20).prop_map(Value::Map),
        ]
    })
}

/// The bytes that rmpv writes for `value`.
pub(crate) fn written_by_rmpv(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}

/// Bytes that are nearly MessagePack: a value with a byte changed, cut off, or more behind it; and noise, rich in headers.
pub(crate) fn nearly_a_value() -> impl Strategy<Value = Vec<u8>> {
    let header = prop_oneof![0x80..=0x9fu8, 0xc0..=0xdfu8, any::<u8>()];
    let changed = (value(4), any::<prop::sample::Index>(), header.clone()).prop_map(|(value, at, byte)| {
        let mut bytes = written_by_rmpv(&value);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    let cut = (value(4), any::<prop::sample::Index>()).prop_map(|(value, at)| {
        let mut bytes = written_by_rmpv(&value);
        bytes.truncate(at.index(bytes.len()));
        bytes
    });
    let longer = (value(4), vec(any::<u8>(), 0..4)).prop_map(|(value, more)| {
        let mut bytes = written_by_rmpv(&value);
        bytes.extend(more);
        bytes
    });
    let nested = (55..75usize, prop_oneof![Just(0x91u8), Just(0x81)], header.clone())
        .prop_map(|(levels, level, byte)| [vec![level; 2 * levels], vec![byte; 3]].concat());
    prop_oneof![
        changed,
        cut,
        longer,
        nested,
        vec(header, 0..60),
        vec(any::<u8>(), 0..60)
    ]
}
