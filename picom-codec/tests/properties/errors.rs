//! What errors of decoding say: what was expected, where, which limit; never what was received in full.

use bytes::Bytes;
use picom_codec::value::{DecodeFault, decode, decode_slice};
use picom_codec::{Blob, Limits};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::marker::PhantomData;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its errors are of interest")]
struct Order {
    id: u32,
    tags: Vec<String>,
    kind: Option<Kind>,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "only its errors are of interest")]
enum Kind {
    Plain,
    Weighted(f64),
    Sized { width: u8 },
}

#[track_caller]
fn text<T: DeserializeOwned>(bytes: &[u8]) -> String {
    match decode::<T>(&Bytes::copy_from_slice(bytes), &Limits::new(8, 100)) {
        Ok(_) => panic!("it decodes"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn errors_say_what_was_expected_and_where() {
    assert_eq!(
        text::<u32>(b"\xa5hello"),
        "byte 0: expected u32, found a string of 5 bytes"
    );
    assert_eq!(
        text::<String>(b"\x07"),
        "byte 0: expected a string, found the integer 7"
    );
    assert_eq!(
        text::<String>(b"\xa2\xc3\x28"),
        "byte 0: expected a string, found bytes that are not UTF-8"
    );
    assert_eq!(
        text::<String>(b"\xc4\x02\xc3\x28"),
        "byte 0: expected a string, found the value binary of 2 bytes"
    );
    assert_eq!(
        text::<u8>(b"\xcd\x01\x00"),
        "byte 0: expected u8, found the value the integer 256"
    );
    assert_eq!(
        text::<u64>(b"\xff"),
        "byte 0: expected u64, found the value the integer -1"
    );
    assert_eq!(
        text::<i64>(b"\xcb\x3f\xf8\0\0\0\0\0\0"),
        "byte 0: expected i64, found the float 1.5"
    );
    assert_eq!(
        text::<u8>(b"\xcb\x40\x70\0\0\0\0\0\0"),
        "byte 0: expected u8, found the value the integer 256"
    );
    assert_eq!(
        text::<bool>(b"\x01"),
        "byte 0: expected a boolean, found the integer 1"
    );
    assert_eq!(text::<()>(b"\x01"), "byte 0: expected unit, found the integer 1");
    assert_eq!(
        text::<char>(b"\xa2ab"),
        "byte 0: expected a character, found the value a string of 2 bytes"
    );
    assert_eq!(
        text::<Vec<u8>>(b"\x80"),
        "byte 0: expected a sequence, found a map"
    );
    assert_eq!(
        text::<BTreeMap<u8, u8>>(b"\x90"),
        "byte 0: expected a map, found an array"
    );
    assert_eq!(
        text::<(u8, u8)>(b"\x91\x01"),
        "byte 0: expected a tuple of size 2, found 1 elements"
    );
    assert_eq!(
        text::<(u8, u8)>(b"\x93\x01\x02\x03"),
        "byte 3: elements more than expected: 1"
    );
    assert_eq!(
        text::<[u8; 2]>(b"\xc4\x03abc"),
        "byte 0: elements more than expected: 1"
    );
    assert_eq!(
        text::<i128>(b"\xc4\x01a"),
        "byte 0: expected an i128 as binary of 16 bytes, found 1 elements"
    );
    assert_eq!(
        text::<u128>(b"\xff"),
        "byte 0: expected u128, found the value the integer -1"
    );
    assert_eq!(
        text::<Blob>(b"\x07"),
        "byte 0: expected bytes, found the integer 7"
    );
    assert_eq!(text::<u8>(b"\xd4\x05\x00"), "byte 0: expected u8, found an ext");
}

#[test]
fn errors_within_structs_say_the_place_of_the_field() {
    assert_eq!(text::<Order>(b"\x81\xa2id\x01"), "byte 0: missing field `tags`");
    assert_eq!(
        text::<Order>(b"\x82\xa2id\x01\xa2id\x02"),
        "byte 0: duplicate field `id`"
    );
    let unknown = "byte 1: unknown field `ix`, expected one of id, tags, kind";
    assert_eq!(text::<Order>(b"\x81\xa2ix\x01"), unknown);
    assert_eq!(
        text::<Order>(b"\x81\xa2id\xa1x"),
        "byte 4: expected u32, found a string of 1 bytes"
    );
    let inner = b"\x82\xa2id\x01\xa4tags\x93\xa1a\xa1b\x07";
    assert_eq!(
        text::<Order>(inner),
        "byte 15: expected a string, found the integer 7"
    );
    assert_eq!(
        text::<Order>(b"\x92\x01\x90"),
        "byte 0: expected struct Order with 3 elements, found 2 elements"
    );
    assert_eq!(
        text::<Order>(b"\x07"),
        "byte 0: expected struct Order, found the integer 7"
    );
}

#[test]
fn errors_of_enums_say_the_variants() {
    let variants = "expected one of Plain, Weighted, Sized";
    assert_eq!(
        text::<Kind>(b"\xa3Odd"),
        format!("byte 0: unknown variant `Odd`, {variants}")
    );
    assert_eq!(
        text::<Kind>(b"\x81\xa3Odd\x01"),
        format!("byte 1: unknown variant `Odd`, {variants}")
    );
    assert_eq!(
        text::<Kind>(b"\x09"),
        "byte 0: expected variant index 0 <= i < 3, found the value the integer 9"
    );
    assert_eq!(
        text::<Kind>(b"\xa8Weighted"),
        "byte 0: expected a variant with data, found unit variant"
    );
    assert_eq!(
        text::<Kind>(b"\x81\xa8Weighted\xa1x"),
        "byte 10: expected f64, found a string of 1 bytes"
    );
    assert_eq!(
        text::<Kind>(b"\x81\xa5Plain\x01"),
        "byte 7: expected unit, found the integer 1"
    );
    assert_eq!(
        text::<Kind>(b"\x80"),
        "byte 0: expected an enum as a map of one entry, found 0 elements"
    );
    assert_eq!(
        text::<Kind>(b"\xc0"),
        "byte 0: expected an enum as a string, an index or a map of one entry, found nil"
    );
    assert_eq!(
        text::<Kind>(b"\x81\xa5Sized\x81\xa5width\xcd\x01\x00"),
        "byte 14: expected u8, found the value the integer 256"
    );
}

#[test]
fn malformed_messages_name_the_limit() {
    assert_eq!(
        text::<u8>(b""),
        "byte 0: at least 1 more bytes are announced, 0 are left"
    );
    assert_eq!(
        text::<u8>(b"\x01\x02"),
        "byte 1: trailing bytes behind the value: 1"
    );
    assert_eq!(text::<u8>(b"\xc1"), "byte 0: the reserved byte c1");
    let deep = [vec![0x91; 9], vec![0]].concat();
    assert_eq!(text::<u8>(&deep), "byte 8: nested deeper than the limit of 8");
    let wide = [vec![0xdc, 0, 100], vec![0; 100]].concat();
    assert_eq!(
        text::<u8>(&wide),
        "byte 0: 101 values are announced up to here, the limit is 100"
    );
}

#[test]
fn errors_stay_short_whatever_was_received() {
    let long = [&[0x81, 0xda, 0xff, 0xff][..], &[b'k'; 65_535], &[0x01]].concat();
    let unknown = text::<Order>(&long);
    assert!(unknown.len() < 500, "{} bytes", unknown.len());
    assert!(unknown.contains("kkk…`, expected one of"), "{unknown}");
    let string = [&[0xda, 0xff, 0xff][..], &[b's'; 65_535]].concat();
    assert_eq!(
        text::<u8>(&string),
        "byte 0: expected u8, found a string of 65535 bytes"
    );
    assert_eq!(
        text::<char>(&string),
        "byte 0: expected a character, found the value a string of 65535 bytes"
    );

    struct Talkative;
    impl<'de> Deserialize<'de> for Talkative {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            Err(serde::de::Error::custom(format_args!("{text}{text}")))
        }
    }
    let umlauts = [&[0xda, 0x01, 0x00][..], "ä".repeat(128).as_bytes()].concat();
    let said = text::<Talkative>(&umlauts);
    assert_eq!(said, format!("byte 0: {}…", "ä".repeat(100)));
}

#[test]
fn bytes_behind_a_copy_of_serdes_are_told_what_they_need() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "type")]
    enum Event {
        Data { payload: Vec<u8> },
    }
    let event = picom_codec::value::encode(&Event::Data {
        payload: vec![1, 2, 3],
    })
    .unwrap();
    assert_eq!(
        text::<Event>(&event),
        "byte 0: expected a sequence, found binary of 3 bytes \
         (within tagged, untagged and flattened types bytes must be a `Blob`, or in `serde_bytes`)"
    );
}

#[test]
fn a_type_that_hides_an_error_within_it_does_not_decode() {
    /// Goes on with a default, though nobody knows where the next value begins.
    struct Hides<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Deserialize<'de> for Hides<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let _ = T::deserialize(deserializer);
            Ok(Hides(PhantomData))
        }
    }
    let limits = Limits::default();
    let hidden = |error: picom_codec::DecodeError| {
        assert_eq!(
            error.fault(),
            &DecodeFault::Other("the type hid an error within it".into())
        );
    };
    // An element of another type, an array where none may be, a map that is no enum.
    hidden(
        decode_slice::<(Hides<(u8, u8)>, u8)>(b"\x92\x92\xa1x\x02\x03", &limits)
            .err()
            .unwrap(),
    );
    hidden(
        decode_slice::<(Hides<String>, u8, u8)>(b"\x93\x92\x05\x02\x03\x04", &limits)
            .err()
            .unwrap(),
    );
    hidden(
        decode_slice::<(Hides<Kind>, u8, u8)>(b"\x93\x82\x05\x02\x03\x04\x06\x07", &limits)
            .err()
            .unwrap(),
    );
    // A scalar was read whole, so nothing is lost with it.
    let (_, next) = decode_slice::<(Hides<String>, u8)>(b"\x92\x05\x02", &limits).unwrap();
    assert_eq!(next, 2);
}

#[test]
fn a_type_that_reads_nothing_does_not_decode() {
    struct Lazy;
    impl<'de> Deserialize<'de> for Lazy {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Lazy)
        }
    }
    let error = decode_slice::<(Lazy, u8)>(b"\x92\x01\x02", &Limits::default())
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "byte 1: the type did not read the value meant for it"
    );
    assert!(decode_slice::<Lazy>(b"\x01", &Limits::default()).is_err());
}
