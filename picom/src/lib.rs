//! Services that find each other in Consul and call each other by name.
//!
//! A service has a name, exposes methods, and is registered in Consul with a check of its life. Another calls it by
//! name: [`fetch`](Picom::fetch) for a value, [`stream`](Picom::stream) for streams in both directions. Connections,
//! balancing, retries, deadlines, cancellation and an orderly end come without wiring.
//!
//! ```no_run
//! use futures_util::stream;
//! use picom::{In, Methods, Out, Picom};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Add { a: i64, b: i64 }
//!
//! # async fn example() -> Result<(), picom::Error> {
//! let math = Picom::new("service1")?;
//! math.expose(
//!     Methods::new()
//!         .unary("add", |Add { a, b }: Add| async move { Ok(a + b) })
//!         .stream("count", |n: u64| async move { Ok(stream::iter((0..n).map(Ok))) })
//!         .bidi("double", |_: (), mut numbers: In<i64>, out: Out<i64>| async move {
//!             while let Some(number) = numbers.next().await? { out.send(2 * number).await?; }
//!             Ok(())
//!         }),
//! ).await?;
//!
//! let app = Picom::new("service2")?;
//! let sum: i64 = app.fetch("service1", "add", &Add { a: 2, b: 5 }).await?;
//! assert_eq!(sum, 7);
//! # Ok(())
//! # }
//! ```
//!
//! | what | where |
//! |---|---|
//! | one service and its calls | [`Picom`], [`Builder`]; [`Fetch`], [`StreamCall`] |
//! | what it offers | [`Methods`], [`Context`], [`In`], [`Out`], [`Fault`], [`RemoteError`] |
//! | what went wrong | [`Error`], [`CallError`], [`Outcome`] |
//! | every default, with its reason | [`defaults`] |
//!
//! This crate wires and names; the work is done in `picom-rpc`, `picom-discovery`, `picom-transport` and `picom-codec`.
//! Features: `dev-agent` adds `Builder::dev`, an embedded stand-in for a Consul agent; `testing` adds services in memory.

mod advertise;
mod builder;
pub mod defaults;
#[cfg(feature = "dev-agent")]
mod dev;
mod ending;
mod environment;
mod error;
mod exposure;
mod service;
mod settings;
mod status;

pub use builder::Builder;
pub use environment::EnvironmentError;
pub use error::{ConfigError, Error, ExposeError};
pub use service::{Fetch, FetchAll, FetchOpt, Picom, ReceiveCall, StreamCall};
pub use status::Status;

pub use picom_codec::classic::{ClassicDate, date};
pub use picom_codec::{Blob, Code, Limits};
pub use picom_discovery::{Discovery, FileError, FileSource, Fixed, consul};
#[cfg(feature = "dns")]
pub use picom_discovery::{Dns, DnsError};
pub use picom_rpc::{
    Attempt, Balance, CallError, CallFailure, Context, EndReport, EndpointState, EndpointStatus, Fault,
    Handler, In, Metadata, MetadataValue, Methods, MethodsError, MethodsWith, Out, Outcome, Receive,
    RemoteError, Sending, ServerStatus, ServiceStatus, Transmit,
};
pub use picom_transport::{Acceptor, ConnectionConfig, Connector};

/// The embedded stand-in for a Consul agent: see [`Builder::dev`].
#[cfg(feature = "dev-agent")]
pub use picom_discovery::dev_agent;

/// Services in memory, for tests of programs: see [`Builder::in_memory`].
#[cfg(feature = "testing")]
pub mod testing {
    pub use picom_discovery::Mock;
    pub use picom_rpc::testing::InMemory;
    pub use picom_transport::testing::MemoryNetwork;
}

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
