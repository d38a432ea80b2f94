//! Streams over pooled connections.
//!
//! | what | where |
//! |---|---|
//! | the protocol without a socket: frames and time in, frames and events out | [`proto`] |
//! | a connection and the two halves of its streams | [`Connection`], [`SendHalf`], [`RecvHalf`] |
//! | connections per address, dialed once for all who wait | [`Pool`] |
//! | accepting connections, draining them | [`Listener`] |
//! | the seams to the network | [`Connector`], [`Acceptor`]; [`TcpConnector`], [`TcpAcceptor`] |
//! | doubles for tests (feature `testing`) | `testing` |
//!
//! This crate dials addresses. It knows nothing of services beyond the names that a handshake compares.

mod classic;
mod conn;
mod connector;
mod listener;
mod pool;
pub mod proto;
mod tcp;
#[cfg(feature = "testing")]
pub mod testing;
mod unready;

pub use classic::ClassicConnection;
pub use conn::{
    Connection, ConnectionStats, Ending, HandshakeError, Incoming, PeerInfo, RecvHalf, Request, SendHalf,
    StreamHandler, Turn,
};
pub use connector::{Acceptor, BoxIo, Connector, Io};
pub use listener::{DrainReport, Listener, ListenerConfig, ListenerStats};
pub use pool::{DialError, Pool, PoolConfig, PoolStats, Room, SlotStatus, Target};
pub use proto::{
    ConfigError, ConnectionConfig, ConnectionError, Delivery, FaultReply, Identity, OpenError, Outcome, Pack,
    Pocket, SendError, StreamError,
};
pub use tcp::{TcpAcceptor, TcpConnector};
