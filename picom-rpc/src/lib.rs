//! Calls by service and method name.
//!
//! | what | where |
//! |---|---|
//! | calling: `fetch`, `fetch_opt`, `fetch_all`, `stream` | [`Client`] |
//! | answering: methods of four shapes, run, limited, ended in order | [`Methods`], [`Server`] |
//! | typed streams | [`In`], [`Out`] |
//! | what a handler may know of its call | [`Context`], [`Metadata`] |
//! | what a handler states, and what goes wrong otherwise | [`Fault`], [`RemoteError`]; [`CallError`] |
//! | services in memory, for tests (feature `testing`) | `testing` |
//!
//! This is the one place where the name of a service meets an address: discovery below knows no calls, the transport below
//! no services. Balancing, retries, ejection and load are small values that take the time and random numbers as arguments;
//! the tasks around them are few.

mod client;
mod context;
mod deadline;
mod error;
mod failure;
mod fault;
mod incoming;
mod message;
mod metadata;
mod outgoing;
mod packing;
mod sending;
mod server;
#[cfg(feature = "testing")]
pub mod testing;
mod turns;

pub use client::{
    All, Balance, Client, ClientConfig, Collect, EndpointState, EndpointStatus, Fetch, Fetching, One,
    Optional, ReceiveCall, ServiceStatus, StreamCall,
};
pub use context::Context;
pub use error::{Attempt, CallError};
pub use failure::CallFailure;
pub use fault::{Fault, RemoteError};
pub use incoming::In;
pub use message::{Receive, Transmit};
pub use metadata::{MAX_METADATA, Metadata, MetadataError, MetadataValue};
pub use outgoing::Out;
pub use picom_transport::Outcome;
pub use sending::Sending;
pub use server::{
    Answer, EndReport, Exchange, Handler, Methods, MethodsError, MethodsWith, ServeError, Server,
    ServerConfig, ServerStatus,
};
