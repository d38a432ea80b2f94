//! Values as bodies: the same as values as bytes, wherever the bytes stand.

use crate::arbitrary;
use bytes::Bytes;
use picom_codec::value::{decode, decode_body, encode, encode_body};
use picom_codec::{Blob, Body, Limits};
use proptest::prelude::*;
use rmpv::Value;

proptest! {
    #[test]
    fn a_body_is_decoded_as_its_bytes_are_wherever_they_stand(
        bytes in prop_oneof![
            arbitrary::nearly_a_value(),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|blob| encode(&Blob::from(blob)).unwrap().to_vec()),
        ],
        cut: prop::sample::Index,
    ) {
        let limits = Limits::default();
        let bytes = Bytes::from(bytes);
        let at = cut.index(bytes.len() + 1);
        let pieces = Body::of_pieces(vec![bytes.slice(..at), bytes.slice(at..)]);
        for body in [Body::copy_from_slice(&bytes), bytes.clone().into(), pieces] {
            prop_assert_eq!(decode_body::<Value>(&body, &limits), decode::<Value>(&bytes, &limits));
            prop_assert_eq!(decode_body::<Blob>(&body, &limits), decode::<Blob>(&bytes, &limits));
        }
    }

    #[test]
    fn a_value_is_the_same_as_bytes_and_as_a_body(text in "[a-z]{0,40}", number: i64) {
        let value = (text, number);
        prop_assert_eq!(&encode_body(&value).unwrap(), &encode(&value).unwrap()[..]);
    }
}
