//! Rust values ↔ MessagePack bytes, by serde. This is the one room that knows how serde's data model looks on the wire;
//! everything outside it handles `Bytes`.
//!
//! | serde | MessagePack |
//! |---|---|
//! | struct | map from names, or array with [`Encoding::Arrays`]; both are read |
//! | enum variant without data | its name; read by index as well |
//! | enum variant with data | map of one entry, name to data |
//! | `Option` | nil, or the value itself |
//! | unit, unit struct | nil; an empty array is read as well |
//! | bytes, and sequences of nothing but `u8` (arrays and tuples from 16 on) | bin |
//! | map, sequence, tuple | map, array, array |
//! | integers up to 64 bits | integers; a float that is exactly one is read as well |
//! | floats | floats; integers are read as well |
//! | `i128`, `u128` | bin of 16 bytes, big-endian; integers are read as well |
//! | [`Blob`] | bin, and a slice of the frame when read; sent without a copy if large |
//! | [`rmpv::Value`] | whatever it holds, ext included |
//!
//! An empty sequence of `u8` cannot be told from others and becomes an empty array; use [`Blob`] or `serde_bytes` where
//! that matters to the reader. A string of [`rmpv::Value`] that is not UTF-8 has no place in serde's data model: it is
//! written as bin, and one that arrives is read as `Value::Binary`.
//!
//! What arrives is checked as by the [scan](crate::scan) while it is decoded, within a recursion budget of 64 that every
//! array, map, enum, newtype and `Some` is charged to, so that types which recurse, with or without consuming input, end
//! in an error. A message that does not pass the scan is refused with the scan's error, whatever the type.
//!
//! Types that serde reads through a copy of the data (`#[serde(untagged)]`, `#[serde(tag = "…")]`, `#[serde(flatten)]`)
//! need care:
//!
//! - A `Vec<u8>` within one is written as bin like any other, and the copy does not give it back as a sequence: use
//!   [`Blob`] or `serde_bytes`. The error says so.
//! - The cost of untagged types multiplies with their levels: keep them out of what peers that are not trusted can call,
//!   or decode with [`Limits::untrusted`](crate::Limits::untrusted).
//! - The budget cannot see into the copy: a type that is untagged and recurses without consuming input
//!   (`enum E { A(Box<E>), … }`) has no end for serde, whatever the input.

mod apart;
mod blob;
mod compound;
mod decode;
mod decode_error;
mod deserializer;
mod elements;
mod encode;
mod ext;
mod narrow;
mod serializer;
mod text;
mod token;
mod variant;

pub use apart::Apart;
pub use blob::Blob;
pub(crate) use decode::decode_prefix;
pub use decode::{decode, decode_body, decode_slice};
pub use decode_error::{DecodeError, DecodeFault};
pub use encode::{EncodeError, Encoding, encode, encode_apart, encode_body, encode_into, encode_with, nil};

/// The name by which `rmpv` marks an ext to serde.
pub(crate) const EXT: &str = rmpv::MSGPACK_EXT_STRUCT_NAME;

/// The name by which [`Blob`] asks our own deserializer for a slice of the frame.
const BLOB: &str = "$picom::Blob";
