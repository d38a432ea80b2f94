//! Texts that are read where they stand.

use picom_codec::Limits;
use picom_codec::value::{decode, decode_slice, encode};
use serde::Deserialize;

/// A text that borrows, though it is asked for as one to be owned.
#[derive(Debug, PartialEq)]
struct Borrowed<'a>(&'a str);

impl<'de> Deserialize<'de> for Borrowed<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Borrowed<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Borrowed<'de>, E> {
                Ok(Borrowed(text))
            }
        }
        deserializer.deserialize_string(Visitor)
    }
}

#[test]
fn what_is_decoded_from_a_slice_may_borrow_however_it_asks_for_its_text() {
    for text in ["", "short", &"long".repeat(50)] {
        let message = encode(text).unwrap();
        assert_eq!(decode_slice(&message, &Limits::default()), Ok(Borrowed(text)));
        assert_eq!(
            decode::<String>(&message, &Limits::default()).as_deref(),
            Ok(text)
        );
    }
}
