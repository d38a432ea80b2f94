//! Texts for types that own them. To check a text where it stands costs several instructions a byte, as nothing there is
//! aligned; the standard library checks words of an aligned one.

use serde::de::Visitor;
use std::str::Utf8Error;

/// Shorter texts are checked in a place of this size, longer ones in the memory they are to have.
const SHORT: usize = 32;

/// A place for a short text, zero behind it.
#[repr(align(16))]
struct Place([u8; SHORT]);

/// Gives the visitor the text that these bytes are: owned, unless it is short. Not for types that borrow.
#[inline]
pub(super) fn visit<'de, V: Visitor<'de>, E: serde::de::Error>(
    bytes: &[u8],
    visitor: V,
) -> Result<Result<V::Value, E>, Utf8Error> {
    if bytes.len() > SHORT {
        let text = String::from_utf8(bytes.to_vec()).map_err(|error| error.utf8_error())?;
        return Ok(visitor.visit_string(text));
    }
    let mut place = Place([0; SHORT]);
    if let Some(head) = place.0.get_mut(..bytes.len()) {
        head.copy_from_slice(bytes);
    }
    let place = match place.0.first_chunk::<{ SHORT / 2 }>() {
        Some(half) if bytes.len() <= SHORT / 2 => &half[..],
        _ => &place.0[..],
    };
    // A character that the end of the bytes cuts off is not made whole by a zero, so the end is one of a character.
    let text = std::str::from_utf8(place)?;
    Ok(visitor.visit_str(text.get(..bytes.len()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::value::Error;
    use std::fmt;

    /// Takes what it is given.
    struct Taken;

    impl Visitor<'_> for Taken {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E>(self, text: &str) -> Result<String, E> {
            Ok(text.to_owned())
        }
    }

    /// Bytes that often are a text, or nearly, of about the length at which the way changes.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let text = prop::collection::vec(prop_oneof![Just('a'), Just('\0'), any::<char>()], 0..2 * SHORT)
            .prop_map(|chars| String::from_iter(chars).into_bytes());
        (text, any::<prop::sample::Index>(), any::<Option<u8>>()).prop_map(|(mut bytes, at, change)| {
            bytes.truncate(at.index(bytes.len() + 1).max(bytes.len() / 2));
            if let (Some(byte), false) = (change, bytes.is_empty()) {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn what_is_a_text_is_given_whole_and_nothing_else_is(bytes in bytes()) {
            let given = visit::<_, Error>(&bytes, Taken).map(Result::unwrap);
            let expected = String::from_utf8(bytes).map_err(|error| error.utf8_error().valid_up_to());
            prop_assert_eq!(given.map_err(|error| error.valid_up_to()), expected);
        }
    }

    #[test]
    fn a_character_that_is_cut_off_is_no_text() {
        for len in 1..=SHORT {
            let mut bytes = vec![b'a'; len];
            bytes[len - 1] = 0xc3;
            assert!(visit::<_, Error>(&bytes, Taken).is_err(), "{len}");
        }
    }
}
