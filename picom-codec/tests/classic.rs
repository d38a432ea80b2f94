//! The recorded streams of `vectors/classic.txt`: what the Node library's peers say to each other is read as they mean it,
//! and what we would say in their place has the same bytes, or the same values where their writer has forms of its own.

use bytes::{Bytes, BytesMut};
use picom_codec::classic::{
    ClassicDate, END, Record, Unreadable, error_record, read_header, readable, readable_item, record,
    write_header,
};
use picom_codec::scan::ScanError;
use picom_codec::{LengthCodec, Limits, value};
use rmpv::Value;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::codec::{Decoder, Encoder};

const VECTORS: &str = include_str!("vectors/classic.txt");

/// Their writer takes 64 bits for 2³² − 1 and for doubles without a fraction, ours the shortest form.
const OTHER_FORMS: [&str; 3] = [
    "args-numbers.request",
    "args-numbers.response",
    "result-numbers.response",
];

struct Vector {
    name: &'static str,
    bytes: Bytes,
    values: &'static str,
}

fn vectors() -> Vec<Vector> {
    let lines = VECTORS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.splitn(3, " | ");
            let mut part = || {
                parts
                    .next()
                    .unwrap_or_else(|| panic!("a part is missing: {line}"))
            };
            let (name, hex, values) = (part(), part(), part());
            Vector {
                name,
                bytes: unhex(hex),
                values,
            }
        })
        .collect()
}

fn unhex(hex: &str) -> Bytes {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2).map(byte).collect()
}

fn frames(bytes: &[u8], chunk: usize) -> Vec<Bytes> {
    let (mut codec, mut read, mut frames) = (LengthCodec::lenient(1 << 20), BytesMut::new(), Vec::new());
    for chunk in bytes.chunks(chunk) {
        read.extend_from_slice(chunk);
        while let Some(frame) = codec.decode(&mut read).unwrap() {
            frames.push(frame);
        }
    }
    assert!(codec.decode_eof(&mut read).unwrap().is_none());
    frames
}

fn decoded(frame: &Bytes) -> Value {
    value::decode(frame, &Limits::default()).unwrap()
}

/// A value in the words of the vectors.
fn show(value: &Value) -> String {
    let all = |values: &mut dyn Iterator<Item = String>, between| values.collect::<Vec<_>>().join(between);
    match value {
        Value::Nil => "nil".into(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::F32(number) => double((*number).into()),
        Value::F64(number) => double(*number),
        Value::String(text) => {
            format!(
                "\"{}\"",
                text.as_str().unwrap().replace('\\', "\\\\").replace('"', "\\\"")
            )
        }
        Value::Binary(bytes) => {
            let mut hex = String::new();
            bytes.iter().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
            format!("bin({hex})")
        }
        Value::Array(values) => format!("[{}]", all(&mut values.iter().map(show), " ")),
        Value::Map(entries) => {
            let mut entries = entries
                .iter()
                .map(|(key, value)| format!("{}: {}", show(key), show(value)));
            format!("{{{}}}", all(&mut entries, " "))
        }
        Value::Ext(..) => {
            let date: ClassicDate =
                value::decode(&value::encode(value).unwrap(), &Limits::default()).unwrap();
            format!("date({})", double(date.millis()))
        }
    }
}

fn double(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".into(),
        _ if number.fract() == 0.0 && number.abs() < 9e15 => (number as i64).to_string(),
        _ => format!("f{:016x}", number.to_bits()),
    }
}

#[test]
fn all_recorded_streams_are_here() {
    assert_eq!(vectors().len(), 96);
}

#[test]
fn recorded_streams_mean_what_their_own_codec_says_however_they_are_cut() {
    for vector in vectors() {
        let whole = frames(&vector.bytes, vector.bytes.len());
        let values: Vec<String> = whole.iter().map(|frame| show(&decoded(frame))).collect();
        assert_eq!(values.join(" ; "), vector.values, "{}", vector.name);
        for chunk in [1, 2, 3, 7, 64] {
            assert_eq!(
                frames(&vector.bytes, chunk),
                whole,
                "{} in chunks of {chunk}",
                vector.name
            );
        }
    }
}

#[test]
fn what_we_would_send_instead_is_the_same() {
    for vector in vectors() {
        let from_server = vector.name.ends_with(".response");
        let mut wire = BytesMut::new();
        let mut codec = LengthCodec::lenient(1 << 20);
        for (number, frame) in frames(&vector.bytes, vector.bytes.len()).into_iter().enumerate() {
            let again = |value: &Bytes| value::encode(&decoded(value)).unwrap();
            let ours = match record(&frame) {
                Some(_) if from_server && vector.name.starts_with("type-key-") && number == 0 => {
                    // User data that would be mistaken: refused.
                    assert_eq!(readable_item(&again(&frame), true), Err(Unreadable::Record));
                    frame
                }
                Some(Record::End) if from_server => Bytes::from_static(END),
                Some(Record::Error(text)) if from_server => error_record(&text),
                _ if number == 0 && !from_server => {
                    let header = read_header(&frame, &Limits::default()).unwrap();
                    let args = header.args.map(|args| readable(&again(&args)).unwrap());
                    write_header(&header.cmd.unwrap(), args.as_ref())
                }
                _ => readable_item(&again(&frame), from_server).unwrap(),
            };
            codec.encode(ours, &mut wire).unwrap();
        }
        if OTHER_FORMS.contains(&vector.name) {
            let values: Vec<String> = frames(&wire, wire.len())
                .iter()
                .map(|frame| show(&decoded(frame)))
                .collect();
            assert_eq!(values.join(" ; "), vector.values, "{}", vector.name);
        } else {
            assert_eq!(wire, vector.bytes, "{}", vector.name);
        }
    }
}

#[test]
fn headers_are_read_whatever_their_order_and_keys() {
    let header = |value: Value| read_header(&value::encode(&value).unwrap(), &Limits::default()).unwrap();
    let text = |text: &str| Value::from(text);
    let read = header(Value::Map(vec![
        (text("more"), Value::from(1)),
        (text("args"), text("a")),
        (text("cmd"), text("first")),
        (text("cmd"), text("last")),
    ]));
    assert_eq!(read.cmd.as_deref(), Some("last"));
    assert_eq!(read.args.as_deref(), Some(&b"\xa1a"[..]));
    let none = header(Value::Map(vec![(text("cmd"), Value::from(5))]));
    assert_eq!((none.cmd, none.args), (None, None));
    assert_eq!(header(Value::from(7)).cmd, None);
    let cut = read_header(&Bytes::from_static(b"\x81\xa3cmd"), &Limits::default()).unwrap_err();
    assert_eq!(cut.cmd, None);
}

#[test]
fn an_error_without_a_text_has_an_empty_one_and_a_long_text_is_cut() {
    let bare = value::encode(&std::collections::BTreeMap::from([("_type_", "error")])).unwrap();
    assert_eq!(record(&bare), Some(Record::Error(String::new())));
    let long = "ä".repeat(5000);
    let Some(Record::Error(text)) = record(&error_record(&long)) else {
        panic!("an error record")
    };
    assert_eq!(text.len(), 4096);
    assert!(long.starts_with(&text));
}

#[test]
fn dates_travel_as_their_own_type() {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Meeting {
        when: ClassicDate,
        moved: Option<ClassicDate>,
    }
    let meeting = Meeting {
        when: ClassicDate::from_millis(1_441_929_600_123.0),
        moved: Some(ClassicDate::from_millis(-86_400_000.0)),
    };
    let bytes = value::encode(&meeting).unwrap();
    assert!(
        bytes
            .windows(10)
            .any(|part| part == b"\xd7\x42\x00\xb0\xc7\x39\x9b\xfb\x74\x42")
    );
    assert_eq!(
        value::decode::<Meeting>(&bytes, &Limits::default()).unwrap(),
        meeting
    );
    let longer = Bytes::from_static(b"\xc7\x08\x42\x00\xb0\xc7\x39\x9b\xfb\x74\x42");
    assert_eq!(
        value::decode::<ClassicDate>(&longer, &Limits::default()).unwrap(),
        meeting.when
    );
    for other in [
        &b"\xd7\x43\x00\xb0\xc7\x39\x9b\xfb\x74\x42"[..],
        b"\xd4\x42\x00",
        b"\x05",
    ] {
        assert!(value::decode::<ClassicDate>(&Bytes::copy_from_slice(other), &Limits::default()).is_err());
    }
    for time in [
        UNIX_EPOCH + Duration::from_micros(1_441_929_600_123_456),
        UNIX_EPOCH - Duration::from_millis(1),
    ] {
        assert_eq!(ClassicDate::from(time).to_system_time(), Some::<SystemTime>(time));
    }
    for none in [f64::NAN, f64::INFINITY, 1e300] {
        assert_eq!(ClassicDate::from_millis(none).to_system_time(), None);
    }
}

#[test]
fn arguments_have_the_limits_of_any_value_and_a_bad_header_still_says_what_is_called() {
    let limits = Limits::default();
    let read = |args: &[u8]| read_header(&write_header("add", Some(&Bytes::copy_from_slice(args))), &limits);
    let nested = |depth: usize| [vec![0x91; depth - 1], vec![0x90]].concat();
    assert_eq!(read(&nested(64)).unwrap().args.unwrap(), nested(64));
    let cmd = |args: &[u8]| read(args).unwrap_err();
    let deep = cmd(&nested(65));
    assert!(
        matches!(deep.error, ScanError::TooDeep { limit: 64, .. }),
        "{deep:?}"
    );
    let many = cmd(&[&[0xdd, 0, 4, 0, 0][..], &vec![0; 1 << 18]].concat());
    assert!(matches!(many.error, ScanError::TooManyNodes { .. }), "{many:?}");
    let trailing = cmd(b"\x01\x02");
    assert!(
        matches!(trailing.error, ScanError::Trailing { offset: 15, left: 1 }),
        "{trailing:?}"
    );
    for bad in [deep, many, trailing, cmd(b"\x92\x01"), cmd(b"\xc1")] {
        assert_eq!(bad.cmd.as_deref(), Some("add"), "{bad:?}");
    }
    let keys = [&[0xdf, 0, 4, 0, 0][..], &vec![0; 1 << 19]].concat();
    assert!(read_header(&keys.into(), &limits).is_err());
}
