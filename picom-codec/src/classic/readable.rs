//! Which values a peer of the Node library can read, and the same value in a form that it can (PROTOCOL §12.6).

use super::date::DATE;
use super::record::looks_like_a_record;
use super::walk::head;
use crate::{Limits, ScanError, scan};
use bytes::{BufMut, Bytes, BytesMut};

/// The largest map such a peer reads, in entries: a longer form kills its process.
const MOST_ENTRIES: u64 = 65_535;

/// Why a value cannot be sent to a peer of the Node library. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// It is not one MessagePack value.
    #[error("it is not one well-formed value")]
    Malformed(#[from] ScanError),
    /// An integer that a double cannot hold: it would arrive as another one.
    #[error("the integer {0} is beyond what JavaScript's numbers hold exactly")]
    Integer(i128),
    /// A map with too many entries.
    #[error("a map of {0} entries: its reader knows no more than {MOST_ENTRIES}")]
    Map(u64),
    /// An ext other than a date.
    #[error("an ext of type {0}: its reader knows dates (0x42) alone")]
    Ext(i8),
    /// Nil as an item, which ends a stream there.
    #[error("nil as an item of a stream, which its reader takes for the end")]
    Nil,
    /// A map that the reader would take for the end of the stream or for an error.
    #[error("a map whose \"_type_\" its reader would take for the end of the stream or an error")]
    Record,
}

/// The same value in a form that a peer of the Node library reads: 64-bit integers as 32-bit ones or doubles, maps with
/// short headers. The message itself if nothing is to be changed.
///
/// # Errors
///
/// When there is no such form.
pub fn readable(message: &Bytes) -> Result<Bytes, Unreadable> {
    scan::scan(message, &Limits::new(Limits::MAX_DEPTH, u32::MAX))?;
    let mut changed: Option<BytesMut> = None;
    let (mut at, mut copied) = (0, 0);
    while let Some(head) = message.get(at..).and_then(head) {
        if let Some(other) = other_form(head.marker, head.children, message.get(at..).unwrap_or_default())? {
            let changed = changed.get_or_insert_with(|| BytesMut::with_capacity(message.len()));
            changed.put_slice(message.get(copied..at).unwrap_or_default());
            other.put(changed);
            copied = at + head.len;
        }
        at += head.len;
    }
    Ok(match changed {
        None => message.clone(),
        Some(mut changed) => {
            changed.put_slice(message.get(copied..).unwrap_or_default());
            changed.freeze()
        }
    })
}

/// The same for an item of a stream. From a server, which is where records come from, `_type_` is looked at.
///
/// # Errors
///
/// When there is no such form, or the item would be taken for something else.
pub fn readable_item(message: &Bytes, from_server: bool) -> Result<Bytes, Unreadable> {
    let item = readable(message)?;
    if item.first() == Some(&0xc0) {
        return Err(Unreadable::Nil);
    }
    if from_server && looks_like_a_record(&item) {
        return Err(Unreadable::Record);
    }
    Ok(item)
}

/// The same value with integers below -2³¹ as integers again: [`readable`] sends them as doubles, which code that first takes
/// what comes, as behind serde's `untagged` and `flatten`, could not tell from fractions. A number of JavaScript has
/// no kind that could be lost. The message itself if nothing is to be changed.
pub fn with_integers(message: &Bytes) -> Bytes {
    // Most messages are passed over at the speed of memory.
    if !message.contains(&0xcb) {
        return message.clone();
    }
    let mut changed: Option<BytesMut> = None;
    let mut at = 0;
    while let Some(head) = message.get(at..).and_then(head) {
        if head.marker == 0xcb
            && let Some(digits) = message.get(at + 1..).and_then(<[u8]>::first_chunk)
            && let Some(integer) = far_integer(f64::from_be_bytes(*digits))
        {
            let changed = changed.get_or_insert_with(|| BytesMut::from(&message[..]));
            if let Some(place) = changed.get_mut(at..at + 9) {
                place[0] = 0xd3;
                place[1..].copy_from_slice(&integer.to_be_bytes());
            }
        }
        at += head.len;
    }
    changed.map_or_else(|| message.clone(), BytesMut::freeze)
}

/// The integer below -2³¹ that this is exactly.
fn far_integer(number: f64) -> Option<i64> {
    let far = (-9_223_372_036_854_775_808.0..-2_147_483_648.0).contains(&number);
    (far && number.fract() == 0.0).then_some(number as i64)
}

enum Other {
    Int32(i32),
    Uint64(u64),
    Double(f64),
    Map(u16),
}

impl Other {
    fn put(self, to: &mut BytesMut) {
        match self {
            Other::Int32(number) => {
                to.put_u8(0xd2);
                to.put_i32(number);
            }
            Other::Uint64(number) => {
                to.put_u8(0xcf);
                to.put_u64(number);
            }
            Other::Double(number) => {
                to.put_u8(0xcb);
                to.put_f64(number);
            }
            Other::Map(entries) => {
                to.put_u8(0xde);
                to.put_u16(entries);
            }
        }
    }
}

/// The form that the value must have instead, if it must have another.
fn other_form(marker: u8, children: u64, bytes: &[u8]) -> Result<Option<Other>, Unreadable> {
    let eight = || bytes.get(1..).and_then(<[u8]>::first_chunk).copied();
    match marker {
        0xcf => match eight().map(u64::from_be_bytes) {
            Some(number) if (number as f64) as u128 != u128::from(number) => {
                Err(Unreadable::Integer(number.into()))
            }
            _ => Ok(None),
        },
        0xd3 => Ok(match eight().map(i64::from_be_bytes) {
            None => None,
            Some(number) if (number as f64) as i128 != i128::from(number) => {
                return Err(Unreadable::Integer(number.into()));
            }
            Some(number) => Some(match (i32::try_from(number), u64::try_from(number)) {
                (Ok(number), _) => Other::Int32(number),
                (_, Ok(number)) => Other::Uint64(number),
                _ => Other::Double(number as f64),
            }),
        }),
        0xdf => {
            let entries = children / 2;
            match u16::try_from(entries) {
                Ok(entries) => Ok(Some(Other::Map(entries))),
                Err(_) => Err(Unreadable::Map(entries)),
            }
        }
        0xd7 if bytes.get(1) == Some(&DATE) => Ok(None),
        0xc7 if bytes.get(1..3) == Some(&[8, DATE]) => Ok(None),
        0xc7..=0xc9 | 0xd4..=0xd8 => {
            let kind = match marker {
                0xc7 => bytes.get(2),
                0xc8 => bytes.get(3),
                0xc9 => bytes.get(5),
                _ => bytes.get(1),
            };
            Err(Unreadable::Ext(kind.copied().unwrap_or_default() as i8))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value;

    fn hex(text: &str) -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn integers_take_a_form_that_can_be_read_or_none() {
        let table = [
            ("7f", "7f"),
            ("d2 80 00 00 00", "d2 80 00 00 00"),
            ("d3 ff ff ff ff 80 00 00 00", "d2 80 00 00 00"),
            ("d3 ff ff ff ff 7f ff ff ff", "cb c1 e0 00 00 00 20 00 00"),
            ("d3 00 00 00 01 00 00 00 00", "cf 00 00 00 01 00 00 00 00"),
            ("cf 00 20 00 00 00 00 00 00", "cf 00 20 00 00 00 00 00 00"),
            ("92 01 d3 ff ff ff ff ff ff ff ff", "92 01 d2 ff ff ff ff"),
            (
                "81 a1 61 92 df 00 00 00 01 01 02 c3",
                "81 a1 61 92 de 00 01 01 02 c3",
            ),
        ];
        for (given, expected) in table {
            assert_eq!(readable(&hex(given)), Ok(hex(expected)), "{given}");
        }
    }

    #[test]
    fn integers_that_travelled_as_doubles_come_back_as_what_they_were() {
        for number in [i64::MIN, -(1 << 53), -(1 << 31) - 1, -(1 << 31), -1, 0, 1 << 40] {
            let message = value::encode(&(number, "\u{cb}", Some(number))).unwrap();
            let sent = readable(&message).unwrap();
            let back = with_integers(&sent);
            assert_eq!(back.len(), sent.len());
            let read: (i64, String, Option<i64>) = value::decode(&back, &Limits::default()).unwrap();
            assert_eq!((read.0, read.2), (number, Some(number)));
            if number < -(1 << 31) {
                assert_eq!(back, message);
                assert_eq!(
                    value::decode::<f64>(&back.slice(1..10), &Limits::default()),
                    Ok(number as f64)
                );
            }
        }
        for number in [-3e9 - 0.5, -1e300, -2e9, 3e9, 0.5, f64::NAN, f64::NEG_INFINITY] {
            let message = value::encode(&number).unwrap();
            assert_eq!(with_integers(&message), message, "{number}");
        }
        // Within texts and bytes it is no number, and what is cut off is left as it is.
        for other in ["a9 cb c1 e0 00 00 00 20 00 00", "92 cb c1 e0 00", "cb"] {
            assert_eq!(with_integers(&hex(other)), hex(other));
        }
    }

    #[test]
    fn what_a_peer_cannot_read_is_refused_by_name() {
        let table = [
            ("cf 00 20 00 00 00 00 00 01", Unreadable::Integer((1 << 53) + 1)),
            ("cf ff ff ff ff ff ff ff ff", Unreadable::Integer(u64::MAX.into())),
            (
                "d3 80 00 00 00 00 00 00 01",
                Unreadable::Integer(i128::from(i64::MIN) + 1),
            ),
            ("91 d4 00 00", Unreadable::Ext(0)),
            ("d6 ff 00 00 00 00", Unreadable::Ext(-1)),
            ("c7 09 42 00 00 00 00 00 00 00 00 00", Unreadable::Ext(0x42)),
        ];
        for (given, expected) in table {
            assert_eq!(readable(&hex(given)), Err(expected), "{given}");
        }
        let many: std::collections::BTreeMap<u32, u8> = (0..65_536).map(|key| (key, 0)).collect();
        let error = readable(&value::encode(&many).unwrap()).unwrap_err();
        assert_eq!(error, Unreadable::Map(65_536));
        assert!(matches!(readable(&hex("c1")), Err(Unreadable::Malformed(_))));
        assert!(readable(&hex("d7 42 00 b0 c7 39 9b fb 74 42")).is_ok());
        assert!(readable(&hex("c7 08 42 00 b0 c7 39 9b fb 74 42")).is_ok());
    }

    #[test]
    fn items_that_mean_something_else_are_refused() {
        let map = |kind: &str| value::encode(&std::collections::BTreeMap::from([("_type_", kind)])).unwrap();
        assert_eq!(readable_item(&map("end"), true), Err(Unreadable::Record));
        assert_eq!(readable_item(&map("error"), true), Err(Unreadable::Record));
        assert_eq!(readable_item(&map("other"), true), Ok(map("other")));
        // The other direction has no records.
        assert_eq!(readable_item(&map("end"), false), Ok(map("end")));
        assert_eq!(readable_item(&value::nil(), false), Err(Unreadable::Nil));
    }

    #[test]
    fn a_type_counts_wherever_javascript_finds_it_and_only_as_a_text() {
        let (kind, end, proto) = (
            "a6 5f 74 79 70 65 5f",
            "a3 65 6e 64",
            "a9 5f 5f 70 72 6f 74 6f 5f 5f",
        );
        let bytes = "c4 06 5f 74 79 70 65 5f";
        let refused = [
            // Bytes and arrays of one become the same key.
            format!("81 {bytes} {end}"),
            format!("81 91 {kind} {end}"),
            format!("81 dc 00 01 91 {bytes} {end}"),
            // What is inherited is found as well, at any depth.
            format!("81 {proto} 81 {kind} {end}"),
            format!("82 01 02 91 {proto} 81 {proto} 81 {kind} a5 65 72 72 6f 72"),
            // The last of one key counts.
            format!("82 {kind} 01 {kind} {end}"),
        ];
        for item in refused {
            assert_eq!(
                readable_item(&hex(&item), true),
                Err(Unreadable::Record),
                "{item}"
            );
        }
        let taken = [
            format!("81 {kind} 91 {end}"),
            format!("81 {kind} c4 03 65 6e 64"),
            format!("81 92 {kind} 01 {end}"),
            format!("81 81 {kind} {end} {kind}"),
            format!("82 {kind} {end} {kind} 01"),
            format!("82 {proto} 81 {kind} {end} {kind} 01"),
            format!("81 {proto} {end}"),
            format!("81 a1 61 81 {kind} {end}"),
        ];
        for item in taken {
            assert_eq!(readable_item(&hex(&item), true), Ok(hex(&item)), "{item}");
        }
    }
}
