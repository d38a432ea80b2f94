//! Values ↔ bytes: round trips, and rmp-serde and rmpv as oracles.

use crate::arbitrary;
use crate::shapes::{self, Adjacent, Everything, Flat, Internal, Newtype, Pair, Shape, Unit, Untagged};
use bytes::Bytes;
use picom_codec::value::{decode, decode_slice, encode, encode_with, nil};
use picom_codec::{Blob, EncodeError, Encoding, Limits, scan};
use proptest::prelude::*;
use rmp_serde::config::BytesMode;
use rmpv::Value;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

fn limits() -> Limits {
    Limits::default()
}

fn bytes<const N: usize>(bytes: [u8; N]) -> Bytes {
    Bytes::copy_from_slice(&bytes)
}

fn written_by_rmp_serde<T: Serialize>(value: &T, named: bool, mode: BytesMode) -> Vec<u8> {
    let mut bytes = Vec::new();
    let serializer = rmp_serde::Serializer::new(&mut bytes).with_bytes(mode);
    if named {
        value.serialize(&mut serializer.with_struct_map()).unwrap();
    } else {
        let mut serializer = serializer;
        value.serialize(&mut serializer).unwrap();
    }
    bytes
}

#[expect(
    clippy::disallowed_methods,
    reason = "here it is the oracle, and what it reads was written by ourselves"
)]
fn read_by_rmp_serde<T: DeserializeOwned>(bytes: &[u8]) -> T {
    rmp_serde::from_slice(bytes).unwrap()
}

/// `value` survives our own trip in both encodings.
#[track_caller]
fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    for encoding in [Encoding::Maps, Encoding::Arrays] {
        let bytes = encode_with(value, encoding).unwrap();
        scan::scan(&bytes, &limits()).unwrap();
        assert_eq!(&decode::<T>(&bytes, &limits()).unwrap(), value, "{bytes:02x?}");
    }
}

/// Decoding is the scan and then decoding, though it is done in one pass.
#[track_caller]
fn ends_well<T: DeserializeOwned>(bytes: &Bytes, limits: &Limits) {
    match (scan::scan(bytes, limits), decode::<T>(bytes, limits)) {
        (Err(scan), Ok(_)) => panic!("{bytes:02x?} decodes, and the scan says: {scan}"),
        (Err(scan), Err(error)) => assert_eq!(error, scan.into(), "{bytes:02x?}"),
        (Ok(()), Err(error)) => assert!(!error.is_malformed(), "{bytes:02x?}: {error}"),
        (Ok(()), Ok(_)) => {}
    }
}

proptest! {
    #[test]
    fn structs_of_all_shapes_survive_the_trip(value in shapes::everything()) {
        survives(&value);
    }

    #[test]
    fn what_rmp_serde_writes_is_read(value in shapes::everything(), named: bool) {
        for mode in [BytesMode::Normal, BytesMode::ForceIterables, BytesMode::ForceAll] {
            let bytes = written_by_rmp_serde(&value, named, mode);
            prop_assert_eq!(&decode::<Everything>(&bytes.into(), &limits()).unwrap(), &value);
        }
    }

    #[test]
    fn what_we_write_is_read_by_rmp_serde(value in shapes::everything()) {
        for encoding in [Encoding::Maps, Encoding::Arrays] {
            let bytes = encode_with(&value, encoding).unwrap();
            prop_assert_eq!(&read_by_rmp_serde::<Everything>(&bytes), &value);
        }
    }

    #[test]
    fn dynamic_values_are_written_and_read_as_rmpv_does_itself(value in arbitrary::value(6)) {
        let bytes = Bytes::from(arbitrary::written_by_rmpv(&value));
        prop_assert_eq!(&encode(&value).unwrap(), &bytes);
        prop_assert_eq!(decode::<Value>(&bytes, &limits()).unwrap(), value);
    }

    #[test]
    fn whatever_passes_the_scan_decodes_as_a_dynamic_value(bytes in arbitrary::nearly_a_value()) {
        let bytes = Bytes::from(bytes);
        match (scan::scan(&bytes, &limits()), decode::<Value>(&bytes, &limits())) {
            (Ok(()), value) => {
                // The second trip changes nothing any more: forms are the shortest, texts that are not UTF-8 are bin.
                let value = value.unwrap();
                let again = encode(&value).unwrap();
                prop_assert_eq!(encode(&decode::<Value>(&again, &limits()).unwrap()).unwrap(), again);
            }
            (Err(scan), value) => prop_assert_eq!(value.unwrap_err(), scan.into()),
        }
    }

    #[test]
    fn bytes_that_are_nearly_a_value_end_in_the_error_of_the_scan_or_one_of_the_type(
        bytes in arbitrary::nearly_a_value(),
        depth in 0..=64u8,
        nodes in 1..100u32,
    ) {
        let bytes = Bytes::from(bytes);
        for limits in [limits(), Limits::new(depth, nodes)] {
            ends_well::<Everything>(&bytes, &limits);
            ends_well::<Vec<Shape>>(&bytes, &limits);
            ends_well::<Untagged>(&bytes, &limits);
            ends_well::<HashMap<String, Vec<Option<Pair>>>>(&bytes, &limits);
            ends_well::<(u8, String, Blob)>(&bytes, &limits);
            ends_well::<Value>(&bytes, &limits);
            ends_well::<IgnoredAny>(&bytes, &limits);
            ends_well::<Vec<IgnoredAny>>(&bytes, &limits);
            ends_well::<HashMap<u8, IgnoredAny>>(&bytes, &limits);
        }
    }

    #[test]
    fn numbers_are_read_from_every_form_that_holds_them(number: i64, form in 0..8usize) {
        let forms: [Option<Vec<u8>>; 8] = [
            u8::try_from(number).ok().map(|n| vec![0xcc, n]),
            u16::try_from(number).ok().map(|n| [&[0xcd][..], &n.to_be_bytes()].concat()),
            u32::try_from(number).ok().map(|n| [&[0xce][..], &n.to_be_bytes()].concat()),
            u64::try_from(number).ok().map(|n| [&[0xcf][..], &n.to_be_bytes()].concat()),
            i8::try_from(number).ok().map(|n| vec![0xd0, n as u8]),
            i16::try_from(number).ok().map(|n| [&[0xd1][..], &n.to_be_bytes()].concat()),
            i32::try_from(number).ok().map(|n| [&[0xd2][..], &n.to_be_bytes()].concat()),
            Some([&[0xd3][..], &number.to_be_bytes()].concat()),
        ];
        if let Some(bytes) = &forms[form] {
            prop_assert_eq!(decode_slice::<i64>(bytes, &limits()).unwrap(), number);
            prop_assert_eq!(decode_slice::<i128>(bytes, &limits()).unwrap(), i128::from(number));
            prop_assert_eq!(decode_slice::<u64>(bytes, &limits()).ok(), u64::try_from(number).ok());
            prop_assert_eq!(decode_slice::<u128>(bytes, &limits()).ok(), u128::try_from(number).ok());
            prop_assert_eq!(decode_slice::<u8>(bytes, &limits()).ok(), u8::try_from(number).ok());
            prop_assert_eq!(decode_slice::<i16>(bytes, &limits()).ok(), i16::try_from(number).ok());
            prop_assert_eq!(decode_slice::<f64>(bytes, &limits()).unwrap(), number as f64);
            prop_assert_eq!(decode_slice::<Value>(bytes, &limits()).unwrap(), Value::from(number));
        }
    }
}

#[test]
fn the_table_of_the_module_holds() {
    let table: [(Bytes, Bytes); 22] = [
        (encode(&Pair(7, 'x')).unwrap(), bytes([0x92, 7, 0xa1, b'x'])),
        (
            encode(&Flat {
                first: 1,
                rest: BTreeMap::new(),
            })
            .unwrap(),
            bytes(*b"\x81\xa5first\x01"),
        ),
        (encode(&Shape::Unit).unwrap(), bytes(*b"\xa4Unit")),
        (
            encode(&Shape::Newtype(-1)).unwrap(),
            bytes(*b"\x81\xa7Newtype\xff"),
        ),
        (
            encode(&Shape::Tuple(1, "a".into())).unwrap(),
            bytes(*b"\x81\xa5Tuple\x92\x01\xa1a"),
        ),
        (encode(&Some(7u8)).unwrap(), bytes([7])),
        (encode(&None::<u8>).unwrap(), nil()),
        (encode(&()).unwrap(), nil()),
        (encode(&Unit).unwrap(), nil()),
        (encode(&Newtype(7)).unwrap(), bytes([7])),
        (encode(&vec![1u8, 2]).unwrap(), bytes([0xc4, 2, 1, 2])),
        (encode(&[1u8, 2][..]).unwrap(), bytes([0xc4, 2, 1, 2])),
        (encode(&Vec::<u8>::new()).unwrap(), bytes([0x90])),
        (encode(&Blob::default()).unwrap(), bytes([0xc4, 0])),
        (encode(&vec![1u16, 2]).unwrap(), bytes([0x92, 1, 2])),
        (encode(&(1u8, 200u8)).unwrap(), bytes([0x92, 1, 0xcc, 200])),
        (
            encode(&[1u8; 15]).unwrap(),
            Bytes::from([vec![0x9f], vec![1; 15]].concat()),
        ),
        (
            encode(&[1u8; 16]).unwrap(),
            Bytes::from([vec![0xc4, 16], vec![1; 16]].concat()),
        ),
        (encode(&1.5f32).unwrap(), bytes([0xca, 0x3f, 0xc0, 0, 0])),
        (
            encode(&1.5f64).unwrap(),
            bytes([0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]),
        ),
        (
            encode(&-1i128).unwrap(),
            Bytes::from([vec![0xc4, 16], vec![0xff; 16]].concat()),
        ),
        (encode("plain").unwrap(), bytes(*b"\xa5plain")),
    ];
    for (i, (ours, expected)) in table.iter().enumerate() {
        assert_eq!(ours, expected, "row {i}");
    }
    let shape = Shape::Struct {
        width: 0.0,
        name: None,
    };
    let named = encode(&shape).unwrap();
    assert_eq!(
        named,
        Bytes::from_static(b"\x81\xa6Struct\x82\xa5width\xcb\0\0\0\0\0\0\0\0\xa4name\xc0")
    );
    let unnamed = encode_with(&shape, Encoding::Arrays).unwrap();
    assert_eq!(
        unnamed,
        Bytes::from_static(b"\x81\xa6Struct\x92\xcb\0\0\0\0\0\0\0\0\xc0")
    );
}

#[test]
fn types_of_the_standard_library_survive() {
    survives(&Duration::new(1, 2));
    survives(&IpAddr::V4(Ipv4Addr::LOCALHOST));
    survives(&IpAddr::V6(Ipv6Addr::LOCALHOST));
    survives(&SocketAddr::from(([10, 0, 0, 1], 7000)));
    survives(&Ok::<u8, String>(7));
    survives(&Err::<u8, String>("no".into()));
    survives(&Some(()).filter(|()| false));
    survives(&(1..5));
    survives(&std::num::NonZeroU32::MAX);
    survives(&HashMap::from([((1u8, 2u8), [vec![Some(1u8), None]])]));
    survives(&vec![(); 3]);
    survives(&std::collections::VecDeque::from([1u8, 2, 3]));
    survives(&Internal::C {
        x: 1,
        blob: Blob::from(vec![1; 9]),
    });
    survives(&Internal::A);
    let adjacent = vec![Adjacent::A, Adjacent::C { x: 255 }];
    assert_eq!(
        decode::<Vec<Adjacent>>(&encode(&adjacent).unwrap(), &limits()).unwrap(),
        adjacent
    );
    survives(&"\u{10ffff}".to_owned());
}

#[test]
fn a_sequence_that_begins_with_bytes_and_goes_on_otherwise_stays_a_sequence() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Mixed {
        Byte(u8),
        Text(String),
    }
    let mixed = vec![Mixed::Byte(200), Mixed::Byte(7), Mixed::Text("x".into())];
    let bytes = encode(&mixed).unwrap();
    assert_eq!(bytes, Bytes::from_static(&[0x93, 0xcc, 200, 7, 0xa1, b'x']));
    survives(&mixed);
    // The same where the number of elements is not known before the end.
    struct Unsized(Vec<Mixed>);
    impl Serialize for Unsized {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut sequence = serializer.serialize_seq(None)?;
            self.0
                .iter()
                .try_for_each(|element| sequence.serialize_element(element))?;
            sequence.end()
        }
    }
    assert_eq!(encode(&Unsized(mixed)).unwrap(), bytes);
    let octets = |len: usize| Unsized((0..len).map(|n| Mixed::Byte(n as u8)).collect());
    for len in [0, 1, 15, 255, 256, 70_000] {
        let bytes = encode(&octets(len)).unwrap();
        let expected: Vec<u8> = (0..len).map(|n| n as u8).collect();
        assert_eq!(decode::<Vec<u8>>(&bytes, &limits()).unwrap(), expected);
        assert_eq!(bytes, encode(&expected).unwrap());
    }
}

#[test]
fn structs_are_read_from_maps_in_any_order_with_fields_to_spare_and_from_arrays() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Point {
        x: i32,
        y: i32,
        #[serde(default)]
        label: Option<String>,
    }
    let point = Point {
        x: 1,
        y: -2,
        label: None,
    };
    for wire in [
        &b"\x82\xa1x\x01\xa1y\xfe"[..],
        b"\x82\xa1y\xfe\xa1x\x01",
        b"\x84\xa1z\x92\x01\x81\x02\x03\xa1y\xfe\xa3new\xc7\x01\x05\x00\xa1x\x01",
        b"\x83\xa1x\x01\xa1y\xfe\xa5label\xc0",
        b"\x83\xa1x\x01\xa2\xc3\x28\x00\xa1y\xfe",
        b"\x93\x01\xfe\xc0",
    ] {
        assert_eq!(
            decode_slice::<Point>(wire, &limits()).unwrap(),
            point,
            "{wire:02x?}"
        );
    }
}

#[test]
fn enums_are_read_by_name_by_index_and_from_maps() {
    let table: &[(&[u8], Shape)] = &[
        (b"\xa4Unit", Shape::Unit),
        (b"\x00", Shape::Unit),
        (b"\x81\xa4Unit\xc0", Shape::Unit),
        (b"\x81\x00\x90", Shape::Unit),
        (b"\x81\x01\x05", Shape::Newtype(5)),
        (b"\x81\xa7Newtype\x05", Shape::Newtype(5)),
        (b"\x81\x04\x92\x01\xa1b", Shape::Tuple(1, "b".into())),
        (
            b"\x81\x05\x81\xa5width\x01",
            Shape::Struct {
                width: 1.0,
                name: None,
            },
        ),
        (
            b"\x81\x05\x92\x01\xa1n",
            Shape::Struct {
                width: 1.0,
                name: Some("n".into()),
            },
        ),
    ];
    for (wire, shape) in table {
        assert_eq!(
            &decode_slice::<Shape>(wire, &limits()).unwrap(),
            shape,
            "{wire:02x?}"
        );
    }
}

#[test]
fn text_and_bytes_stand_in_for_each_other_where_that_is_safe() {
    let text = b"\xa2hi";
    let bin = b"\xc4\x02hi";
    assert_eq!(decode_slice::<String>(bin, &limits()).unwrap(), "hi");
    assert_eq!(decode_slice::<&str>(text, &limits()).unwrap(), "hi");
    assert_eq!(decode_slice::<&[u8]>(text, &limits()).unwrap(), b"hi");
    assert_eq!(decode_slice::<Vec<u8>>(bin, &limits()).unwrap(), b"hi");
    assert_eq!(decode_slice::<[u8; 2]>(bin, &limits()).unwrap(), *b"hi");
    assert_eq!(decode_slice::<(i64, u16)>(bin, &limits()).unwrap(), (0x68, 0x69));
    for wire in [&text[..], bin, b"\x92\x68\x69"] {
        assert_eq!(
            decode_slice::<Blob>(wire, &limits()).unwrap(),
            Blob::from(b"hi".to_vec())
        );
        assert_eq!(
            decode::<Blob>(&Bytes::copy_from_slice(wire), &limits()).unwrap(),
            Blob::from(b"hi".to_vec())
        );
    }
}

#[test]
fn a_blob_shares_the_memory_of_its_message_when_that_pays() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        name: String,
        content: Blob,
        parts: Vec<Option<Blob>>,
    }
    let shared = |blob: &Blob, message: &Bytes| {
        let range = message.as_ptr_range();
        blob.is_empty() || range.contains(&blob.as_ptr())
    };
    let file = File {
        name: "report".into(),
        content: Blob::from(vec![1; 100_000]),
        parts: vec![
            Some(Blob::from(vec![2; 4096])),
            None,
            Some(Blob::from(vec![3; 4095])),
            Some(Blob::from(vec![4; 8000])),
        ],
    };
    let message = encode(&file).unwrap();
    let read: File = decode(&message, &limits()).unwrap();
    assert_eq!(read, file);
    assert!(shared(&read.content, &message));
    // A sixteenth of this message is more than 4,096 bytes, and less than 8,000.
    let parts: Vec<bool> = read
        .parts
        .iter()
        .flatten()
        .map(|blob| shared(blob, &message))
        .collect();
    assert_eq!(parts, [false, false, true]);

    // Behind a copy that serde makes, and without a message to share, it is copied.
    let untagged: Internal = decode(
        &encode(&Internal::C {
            x: 1,
            blob: file.content.clone(),
        })
        .unwrap(),
        &limits(),
    )
    .unwrap();
    assert_eq!(
        untagged,
        Internal::C {
            x: 1,
            blob: file.content.clone()
        }
    );
    let copied: File = decode_slice(&message, &limits()).unwrap();
    assert!(!shared(&copied.content, &message));
    assert_eq!(copied, file);
}

#[test]
fn a_blob_reads_and_writes_other_formats_too() {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, SeqDeserializer, StrDeserializer, StringDeserializer};
    let sequence: SeqDeserializer<_, Error> = SeqDeserializer::new([1u8, 2].into_iter());
    assert_eq!(Blob::deserialize(sequence).unwrap(), Blob::from(vec![1, 2]));
    let text: StrDeserializer<'_, Error> = "hi".into_deserializer();
    assert_eq!(Blob::deserialize(text).unwrap(), Blob::from(b"hi".to_vec()));
    let text: StringDeserializer<Error> = "hi".to_owned().into_deserializer();
    assert_eq!(Blob::deserialize(text).unwrap(), Blob::from(b"hi".to_vec()));
    let blob = Blob::from(vec![7; 10_000]);
    assert_eq!(
        read_by_rmp_serde::<Blob>(&written_by_rmp_serde(&blob, true, BytesMode::Normal)),
        blob
    );
}

#[test]
fn text_that_is_not_utf8_is_binary_for_dynamic_values_both_ways() {
    let wire = bytes([0xa2, 0xc3, 0x28]);
    assert_eq!(
        decode::<Value>(&wire, &limits()).unwrap(),
        Value::Binary(vec![0xc3, 0x28])
    );
    let value = rmpv::decode::read_value(&mut &wire[..]).unwrap();
    assert!(matches!(value, Value::String(_)) && value.as_str().is_none());
    assert_eq!(encode(&value).unwrap(), bytes([0xc4, 2, 0xc3, 0x28]));
}

#[test]
fn ext_survives_within_everything() {
    let timestamp = Value::Ext(-1, vec![0, 0, 0, 7]);
    survives(&timestamp);
    survives(&vec![Some(timestamp.clone()), None]);
    let wire = bytes([0xd6, 0xff, 0, 0, 0, 7]);
    assert_eq!(encode(&timestamp).unwrap(), wire);
    for len in [0usize, 1, 2, 3, 4, 5, 8, 16, 17, 255, 256, 65_535, 65_536] {
        let ext = Value::Ext(5, vec![9; len]);
        assert_eq!(
            encode(&ext).unwrap(),
            arbitrary::written_by_rmpv(&ext),
            "{len} bytes"
        );
        survives(&ext);
    }
}

#[test]
fn lengths_take_the_shortest_form_around_every_border() {
    for len in [0usize, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
        let text = Value::from("x".repeat(len));
        let array = Value::Array(vec![Value::Nil; len]);
        let map = Value::Map(vec![(Value::Nil, Value::Nil); len]);
        let bin = Value::Binary(vec![0; len]);
        for value in [text, array, map, bin] {
            assert_eq!(
                encode(&value).unwrap(),
                arbitrary::written_by_rmpv(&value),
                "length {len}"
            );
        }
        survives(&vec![7u8; len]);
        survives(&(0..len as u32).map(|n| (n, n)).collect::<BTreeMap<u32, u32>>());
    }
}

#[test]
fn values_within_values_are_encoded_with_a_buffer_of_their_own() {
    struct Nested(u8);
    impl Serialize for Nested {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let inner = encode(&(self.0, "inner")).map_err(serde::ser::Error::custom)?;
            serializer.serialize_bytes(&inner)
        }
    }
    let inner = encode(&(1u8, "inner")).unwrap();
    let expected = encode(&("before", Blob(inner), "after")).unwrap();
    assert_eq!(encode(&("before", Nested(1), "after")).unwrap(), expected);
}

#[test]
fn a_type_that_miscounts_its_elements_is_refused() {
    struct Miscounts(usize);
    impl Serialize for Miscounts {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut sequence = serializer.serialize_seq(Some(self.0))?;
            sequence.serialize_element(&1)?;
            sequence.serialize_element(&2)?;
            sequence.end()
        }
    }
    assert_eq!(encode(&Miscounts(2)).unwrap(), bytes([0x92, 1, 2]));
    for announced in [1, 3, 1 << 30] {
        let error = EncodeError::WrongLength {
            announced: announced as u64,
            given: 2,
        };
        assert_eq!(encode(&Miscounts(announced)), Err(error));
    }
    // And the next value is none the worse for it.
    assert_eq!(encode(&7).unwrap(), bytes([7]));
}

#[test]
fn what_serialize_says_comes_through() {
    #[derive(Serialize)]
    struct Refuses(#[serde(serialize_with = "refuse")] u8);
    fn refuse<S: serde::Serializer>(_: &u8, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
    assert_eq!(encode(&Refuses(1)).unwrap_err().to_string(), "not today");
}

/// As a peer writes it that has no integers.
fn read_float<T: DeserializeOwned>(value: f64) -> Option<T> {
    let mut bytes = vec![0xcb];
    bytes.extend_from_slice(&value.to_be_bytes());
    picom_codec::value::decode(&bytes.into(), &Limits::default()).ok()
}

#[test]
fn a_float_that_is_an_integer_is_read_as_one_and_no_other_is() {
    assert_eq!(read_float::<i64>(-2_147_483_649.0), Some(-2_147_483_649));
    assert_eq!(read_float::<i64>(i64::MIN as f64), Some(i64::MIN));
    assert_eq!(read_float::<i64>(-(2f64.powi(63)) * 1.001), None);
    assert_eq!(read_float::<i64>(2f64.powi(63)), None, "one over the largest");
    assert_eq!(read_float::<u64>(2f64.powi(63)), Some(1 << 63));
    assert_eq!(read_float::<u64>(2f64.powi(64)), None);
    assert_eq!(read_float::<u64>(-1.0), None);
    assert_eq!(read_float::<u64>(-0.0), Some(0));
    assert_eq!(read_float::<i8>(-128.0), Some(-128));
    assert_eq!(read_float::<i8>(128.0), None);
    for value in [0.5, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
        assert_eq!(read_float::<i64>(value), None, "{value}");
        assert_eq!(read_float::<u32>(value), None, "{value}");
    }
    let short = picom_codec::value::decode::<i32>(
        &[&[0xca][..], &(-7f32).to_be_bytes()].concat().into(),
        &Limits::default(),
    );
    assert_eq!(short.unwrap(), -7);
    // Who asks for a float gets one, and who takes anything gets what stood there.
    assert_eq!(read_float::<f64>(5.0), Some(5.0));
    assert_eq!(read_float::<rmpv::Value>(5.0), Some(rmpv::Value::F64(5.0)));
}

proptest! {
    #[test]
    fn what_classic_makes_of_an_integer_is_read_as_that_integer(n: i64) {
        if let Ok(sent) = picom_codec::classic::readable(&picom_codec::value::encode(&n).unwrap()) {
            prop_assert_eq!(picom_codec::value::decode::<i64>(&sent, &Limits::default()).unwrap(), n);
        }
    }
}
