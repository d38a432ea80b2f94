//! tonic with prost. Messages are derived and the service is written by hand, as generated code would have it, so that
//! nobody needs protoc.

pub mod client;
pub mod server;

use bytes::Bytes;

use crate::service::{NAME, value};

/// Where the methods are.
mod path {
    pub(super) const ADD: &str = "/bench.Bench/Add";
    pub(super) const ECHO: &str = "/bench.Bench/Echo";
    pub(super) const SIZE: &str = "/bench.Bench/Size";
    pub(super) const BURN: &str = "/bench.Bench/Burn";
    pub(super) const SLOW: &str = "/bench.Bench/Slow";
    pub(super) const ITEMS: &str = "/bench.Bench/Items";
    pub(super) const CHUNKS: &str = "/bench.Bench/Chunks";
    pub(super) const MIRROR: &str = "/bench.Bench/Mirror";
}

/// Messages up to this, where large ones are allowed; tonic takes 4 MiB otherwise.
const LARGE: usize = 128 * 1024 * 1024;

#[derive(Clone, PartialEq, prost::Message)]
struct Pair {
    #[prost(int64, tag = "1")]
    a: i64,
    #[prost(int64, tag = "2")]
    b: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(int64, tag = "1")]
    value: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    body: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(double, tag = "3")]
    value: f64,
}

impl Row {
    fn numbered(id: u64) -> Self {
        Row {
            id,
            name: NAME.to_owned(),
            value: value(id),
        }
    }
}
