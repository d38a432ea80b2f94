//! Any bytes, decoded as types of several shapes.

use bytes::Bytes;
use picom_codec::scan::scan;
use picom_codec::value::{decode, decode_slice, encode};
use picom_codec::{Blob, Limits};
use rmpv::Value;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Serialize, Deserialize)]
struct Plain {
    id: u64,
    name: String,
    tags: Vec<String>,
    score: Option<f64>,
    octets: Vec<u8>,
    pair: (i8, char),
}

#[derive(Debug, Serialize, Deserialize)]
enum Expr {
    Nothing,
    Lit(i64),
    Neg(Box<Expr>),
    Sum(Vec<Expr>),
    Both(Box<Expr>, Blob),
    Named { left: Option<Box<Expr>>, text: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    List(Vec<Untagged>),
    Map(BTreeMap<String, Untagged>),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Empty,
    Blob { blob: Blob },
    Deep { inner: Box<Tagged> },
}

#[derive(Debug, Serialize, Deserialize)]
struct Endless(Option<Box<Endless>>);

#[derive(Debug, Serialize, Deserialize)]
struct Flat {
    id: u32,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Decodes `data` as types of several shapes. Each ends in a value, which then survives the trip, or in an error.
pub fn values(data: &[u8]) {
    let message = Bytes::copy_from_slice(data);
    survives::<Value>(&message);
    survives::<Plain>(&message);
    survives::<Vec<Plain>>(&message);
    survives::<Expr>(&message);
    survives::<Untagged>(&message);
    survives::<Tagged>(&message);
    survives::<Endless>(&message);
    survives::<Flat>(&message);
    survives::<Blob>(&message);
    survives::<(i128, u128, f32)>(&message);
    survives::<BTreeMap<String, Option<Vec<u8>>>>(&message);
    survives::<Result<(), (u16, bool)>>(&message);
    let ignored = decode::<IgnoredAny>(&message, &Limits::default());
    assert_eq!(ignored.is_ok(), scan(data, &Limits::default()).is_ok());
    let _ = decode_slice::<(&str, &[u8])>(data, &Limits::default());
    agrees_with_rmp_serde(&message);
}

fn survives<T: Serialize + DeserializeOwned>(message: &Bytes) {
    let scanned = scan(message, &Limits::default());
    match decode::<T>(message, &Limits::default()) {
        Ok(value) => {
            assert_eq!(scanned, Ok(()), "it decodes");
            // What was decoded in 64 levels may need more to be written: text read as an array of bytes, for one.
            let Ok(written) = encode(&value) else { return };
            let again: T = decode(&written, &Limits::default())
                .unwrap_or_else(|error| panic!("{written:02x?}: {error}"));
            assert_eq!(encode(&again).as_ref(), Ok(&written));
        }
        Err(error) => {
            match scanned {
                Ok(()) => assert!(!error.is_malformed(), "{error}"),
                Err(scanned) => assert_eq!(error, scanned.into()),
            }
            assert!(error.offset() <= message.len());
            assert!(error.to_string().len() < 1000, "{error}");
        }
    }
}

/// For a type that does not recurse, rmp-serde is the oracle: what it reads we read, as the same.
#[expect(
    clippy::disallowed_methods,
    reason = "the oracle, behind the scan, for a type that does not recurse"
)]
fn agrees_with_rmp_serde(message: &Bytes) {
    if scan(message, &Limits::default()).is_err() {
        return;
    }
    let ours = decode::<Plain>(message, &Limits::default());
    match (ours, rmp_serde::from_slice::<Plain>(message)) {
        (Ok(ours), Ok(oracle)) => assert_eq!(encode(&ours).ok(), encode(&oracle).ok()),
        (Err(_), Err(_)) => {}
        (ours, oracle) => panic!("{ours:?} here, {oracle:?} there"),
    }
}
