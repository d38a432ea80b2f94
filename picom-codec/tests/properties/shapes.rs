//! Types of every shape that serde knows, for round trips and for hostile input.

use picom_codec::Blob;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Shape {
    Unit,
    Newtype(i32),
    NewtypeNothing(()),
    NewtypeOption(Option<u8>),
    Tuple(u8, String),
    Struct { width: f64, name: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Newtype(pub(crate) u16);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pair(pub(crate) i64, pub(crate) char);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Untagged {
    // Not `u8`: a list of those would be written as bytes, which serde's copy for untagged types cannot turn back.
    Number(i64),
    Text(String),
    Many(Vec<Untagged>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "content")]
pub(crate) enum Adjacent {
    A,
    B(i32),
    C { x: u8 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Internal {
    A,
    C { x: u8, blob: Blob },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flat {
    pub(crate) first: u32,
    #[serde(flatten)]
    pub(crate) rest: BTreeMap<String, i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Everything {
    pub(crate) truth: bool,
    pub(crate) small: (u8, i8),
    pub(crate) wide: (u64, i64, u32, i32, u16, i16),
    pub(crate) floats: (f32, f64),
    pub(crate) huge: (i128, u128),
    pub(crate) letter: char,
    pub(crate) text: String,
    pub(crate) nothing: (),
    pub(crate) unit: Unit,
    pub(crate) newtype: Newtype,
    pub(crate) pair: Pair,
    pub(crate) maybe: Option<Newtype>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) untagged: Vec<Untagged>,
    pub(crate) adjacent: Adjacent,
    pub(crate) flat: Flat,
    pub(crate) by_number: BTreeMap<u16, Vec<Option<i8>>>,
    pub(crate) octets: Vec<u8>,
    pub(crate) hash: [u8; 32],
    pub(crate) address: [u8; 4],
    pub(crate) blob: Blob,
    pub(crate) boxed: Option<Box<Pair>>,
}

pub(crate) fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        Just(Shape::Unit),
        any::<i32>().prop_map(Shape::Newtype),
        Just(Shape::NewtypeNothing(())),
        any::<Option<u8>>().prop_map(Shape::NewtypeOption),
        (any::<u8>(), any::<String>()).prop_map(|(number, text)| Shape::Tuple(number, text)),
        (float(), any::<Option<String>>()).prop_map(|(width, name)| Shape::Struct { width, name }),
    ]
}

fn float() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("NaN is not itself", |float| !float.is_nan())
}

fn untagged() -> impl Strategy<Value = Untagged> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Untagged::Number),
        "\\PC{0,9}".prop_map(Untagged::Text)
    ];
    leaf.prop_recursive(3, 9, 4, |inner| vec(inner, 0..4).prop_map(Untagged::Many))
}

fn adjacent() -> impl Strategy<Value = Adjacent> {
    // The other two do not come back where structs are written as arrays: serde reads them from maps alone.
    any::<i32>().prop_map(Adjacent::B)
}

pub(crate) fn everything() -> impl Strategy<Value = Everything> {
    let numbers = any::<(
        bool,
        (u8, i8),
        (u64, i64, u32, i32, u16, i16),
        f32,
        (i128, u128),
        char,
    )>()
    .prop_filter("NaN is not itself", |numbers| !numbers.3.is_nan());
    let structs = (
        any::<u16>(),
        any::<(i64, char)>(),
        any::<Option<u16>>(),
        vec(shape(), 0..6),
        vec(untagged(), 0..5),
    );
    let flat = (any::<u32>(), btree_map("x[a-z]{0,5}", any::<i64>(), 0..4));
    let bytes = (
        vec(any::<u8>(), 0..300),
        any::<[u8; 32]>(),
        any::<[u8; 4]>(),
        vec(any::<u8>(), 0..20),
    );
    let by_number = btree_map(any::<u16>(), vec(any::<Option<i8>>(), 0..4), 0..20);
    let maps = (adjacent(), flat, by_number, option::of(any::<(i64, char)>()));
    (numbers, float(), "\\PC{0,50}", structs, bytes, maps).prop_map(
        |(numbers, float, text, structs, bytes, (adjacent, flat, by_number, boxed))| Everything {
            truth: numbers.0,
            small: numbers.1,
            wide: numbers.2,
            floats: (numbers.3, float),
            huge: numbers.4,
            letter: numbers.5,
            text,
            nothing: (),
            unit: Unit,
            newtype: Newtype(structs.0),
            pair: Pair(structs.1.0, structs.1.1),
            maybe: structs.2.map(Newtype),
            shapes: structs.3,
            untagged: structs.4,
            adjacent,
            flat: Flat {
                first: flat.0,
                rest: flat.1,
            },
            by_number,
            octets: bytes.0,
            hash: bytes.1,
            address: bytes.2,
            blob: bytes.3.into(),
            boxed: boxed.map(|(number, letter)| Box::new(Pair(number, letter))),
        },
    )
}
