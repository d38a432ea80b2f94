//! The tasks around the multiplexer: a driver between it and the byte stream, and the halves and handles in users' hands.

mod blocks;
mod connection;
mod driver;
mod held_slot;
mod incoming;
mod recv;
mod send;
mod shared;
mod staged;
mod vacancy;
mod wakers;

pub use connection::{Connection, ConnectionStats, HandshakeError, Request};
pub(crate) use held_slot::HeldSlot;
pub use incoming::{Incoming, StreamHandler, Turn};
pub use recv::RecvHalf;
pub use send::{Ending, SendHalf};
pub use shared::PeerInfo;
pub(crate) use vacancy::{Place, Vacancy};
