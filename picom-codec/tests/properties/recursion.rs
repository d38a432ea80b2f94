//! Types that recurse, on the stack that tokio gives its workers, in whatever profile this is built: typed errors, no crash.

use bytes::Bytes;
use picom_codec::value::{DecodeFault, decode, encode};
use picom_codec::{DecodeError, EncodeError, Limits, ScanError};
use rmpv::Value;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// As many levels as an attacker may care to send.
const LEVELS: usize = 100_000;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Expr {
    Lit(i64),
    Neg(Box<Expr>),
    Pair(Box<Expr>, Box<Expr>),
    Named { inner: Box<Expr> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Endless(Option<Box<Endless>>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Transparent {
    inner: Option<Box<Transparent>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Newtypes(Box<Newtypes>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Tree(Vec<Tree>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Node {
    id: u64,
    name: String,
    children: Vec<Node>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chain {
    next: Option<Box<Chain>>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Maps(BTreeMap<String, Maps>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    List(Vec<Untagged>),
}

/// Runs `test` on a stack of 2 MiB, as tokio's workers have, and hands its panic on.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(2 * 1024 * 1024)
        .spawn(test)
        .unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn nested(level: &[u8], levels: usize, leaf: &[u8]) -> Bytes {
    [level.repeat(levels), leaf.to_vec()].concat().into()
}

#[track_caller]
fn error<T: DeserializeOwned>(bytes: &Bytes) -> DecodeError {
    match decode::<T>(bytes, &Limits::default()) {
        Ok(_) => panic!("it decodes"),
        Err(error) => error,
    }
}

#[test]
fn a_hundred_thousand_levels_are_refused_by_the_scan_for_every_type() {
    on_a_small_stack(|| {
        let arrays = nested(&[0x91], LEVELS, &[0xc0]);
        for error in [
            error::<Value>(&arrays),
            error::<IgnoredAny>(&arrays),
            error::<Tree>(&arrays),
            error::<Node>(&arrays),
            error::<Untagged>(&arrays),
            error::<Endless>(&arrays),
        ] {
            let too_deep = ScanError::TooDeep {
                offset: 64,
                limit: 64,
            };
            assert_eq!(error.fault(), &DecodeFault::Malformed(too_deep));
            assert_eq!(error.to_string(), "byte 64: nested deeper than the limit of 64");
        }
        for level in [&b"\x81\xa3Neg"[..], &[0x81, 1]] {
            let error = error::<Expr>(&nested(level, LEVELS, &[0x81, 0, 7]));
            assert_eq!(error.offset(), 64 * level.len());
            assert!(error.is_malformed());
        }
        assert!(error::<Chain>(&nested(b"\x81\xa4next", LEVELS, &[0xc0])).is_malformed());
        assert!(error::<Maps>(&nested(b"\x81\xa1k", LEVELS, &[0x80])).is_malformed());
    });
}

#[test]
fn types_that_recurse_without_consuming_input_end_in_an_error() {
    on_a_small_stack(|| {
        for bytes in [&[0x01][..], &[0x90], &[0x91, 0xc0], b"\xa1x"] {
            let bytes = Bytes::copy_from_slice(bytes);
            for error in [
                error::<Endless>(&bytes),
                error::<Newtypes>(&bytes),
                error::<Transparent>(&bytes),
            ] {
                assert_eq!(error.fault(), &DecodeFault::TooDeep { limit: 64 });
                assert_eq!(
                    error.to_string(),
                    "byte 0: the type nests deeper here than the limit of 64"
                );
            }
        }
        // Within other values the offset says where.
        let error = error::<(u8, Endless)>(&Bytes::from_static(&[0x92, 0x01, 0x02]));
        assert_eq!(
            (error.offset(), error.fault()),
            (2, &DecodeFault::TooDeep { limit: 64 })
        );
        let none = decode::<Endless>(&Bytes::from_static(&[0xc0]), &Limits::default());
        assert_eq!(none.unwrap(), Endless(None));
    });
}

#[test]
fn what_passes_the_scan_decodes_on_a_small_stack() {
    on_a_small_stack(|| {
        let limits = Limits::default();
        let arrays = nested(&[0x91], 63, &[0x90]);
        let value: Value = decode(&arrays, &limits).unwrap();
        assert_eq!(encode(&value).unwrap(), arrays);
        decode::<IgnoredAny>(&arrays, &limits).unwrap();
        decode::<Untagged>(&arrays, &limits).unwrap();
        // Each level of these takes two of the budget: a newtype or `Some`, and the array or map within.
        decode::<Tree>(&nested(&[0x91], 31, &[0x90]), &limits).unwrap();
        assert_eq!(
            error::<Tree>(&arrays).fault(),
            &DecodeFault::TooDeep { limit: 64 }
        );
        decode::<Maps>(&nested(b"\x81\xa1k", 31, &[0x80]), &limits).unwrap();
        decode::<Chain>(&nested(b"\x81\xa4next", 32, &[0xc0]), &limits).unwrap();
        assert_eq!(
            error::<Chain>(&nested(b"\x81\xa4next", 33, &[0xc0])).fault(),
            &DecodeFault::TooDeep { limit: 64 }
        );
        // A variant takes one, and so does the array that holds several.
        decode::<Expr>(&nested(b"\x81\xa3Neg", 63, &[0x81, 0, 7]), &limits).unwrap();
        decode::<Expr>(&nested(b"\x81\xa5Named\x81\xa5inner", 31, &[0x81, 0, 7]), &limits).unwrap();
        decode::<Node>(
            &nested(b"\x83\xa2id\x01\xa4name\xa0\xa8children\x91", 32, &[]).slice(..0),
            &limits,
        )
        .unwrap_err();
    });
}

#[test]
fn what_cannot_be_decoded_is_not_encoded_either() {
    on_a_small_stack(|| {
        let too_deep = EncodeError::TooDeep { limit: 64 };
        let mut expr = Expr::Lit(1);
        let mut tree = Tree(Vec::new());
        let mut chain = Chain { next: None };
        for _ in 0..500 {
            expr = Expr::Neg(Box::new(expr));
            tree = Tree(vec![tree]);
            chain = Chain {
                next: Some(Box::new(chain)),
            };
        }
        assert_eq!(encode(&expr), Err(too_deep.clone()));
        assert_eq!(encode(&tree), Err(too_deep.clone()));
        assert_eq!(encode(&chain), Err(too_deep.clone()));
        assert_eq!(
            too_deep.to_string(),
            "the value nests deeper than the limit of 64"
        );

        // Up to the same level both agree.
        let mut expr = Expr::Lit(1);
        let mut deepest = 0;
        while let Ok(bytes) = encode(&expr) {
            assert_eq!(decode::<Expr>(&bytes, &Limits::default()).unwrap(), expr);
            deepest += 1;
            expr = if deepest % 2 == 0 {
                Expr::Neg(Box::new(expr))
            } else {
                Expr::Named {
                    inner: Box::new(expr),
                }
            };
        }
        // A literal takes one level of 64, and each pair of wrappers three: 1 + 21 · 3.
        assert_eq!(deepest, 1 + 2 * 21);
    });
}

#[test]
fn untagged_types_cost_no_more_than_the_limits_allow() {
    on_a_small_stack(|| {
        // serde copies what is below an untagged type once for each level and each variant tried; the depth bounds the
        // levels. Packed as tightly as it goes into 64 KiB:
        let chain = nested(&[0x91], 60, &[0x90]);
        let count = 1000u16;
        let mut bytes = vec![0xdc];
        bytes.extend(count.to_be_bytes());
        bytes.extend(chain.repeat(count.into()));
        let bytes = Bytes::from(bytes);
        let (done, waiting) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .stack_size(2 * 1024 * 1024)
            .spawn(move || done.send(decode::<Untagged>(&bytes, &Limits::untrusted()).is_ok()))
            .unwrap();
        // Far above what it takes (under a second here); without a bound on the depth it would take minutes.
        let decoded = waiting.recv_timeout(Duration::from_secs(60)).expect("it ends");
        assert!(decoded);

        let too_deep = nested(&[0x91], 1000, &[0x90]);
        assert!(error::<Untagged>(&too_deep).is_malformed());
    });
}
