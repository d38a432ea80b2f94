//! The protocol without the socket: a machine of plain values (see [`Mux`]) whose parts stand in files of their own.
//! Nothing here names a runtime, reads a clock or draws a random number.

mod abuse;
mod arrival;
mod assembly;
mod backlog;
mod budget;
mod closing;
mod commands;
mod config;
mod drain;
mod error;
mod event;
mod handshake;
mod inbox;
mod keepalive;
mod line;
mod mux;
mod openings;
mod outbox;
mod pack;
mod packed;
mod pocket;
mod receive;
mod schedule;
mod stats;
mod stream;
mod streams;
mod timers;
mod transmit;
mod window;

pub use config::{ConfigError, ConnectionConfig};
pub use error::{ConnectionError, FaultReply, OpenError, Outcome, SendError, StreamError};
pub use event::Event;
pub use handshake::{Identity, PeerLimits, Role, VERSION};
pub use inbox::Delivery;
pub use mux::{Mux, Received};
pub use openings::Opening;
pub use pack::Pack;
pub use pocket::Pocket;
pub use stats::MuxStats;
pub use streams::Key;
