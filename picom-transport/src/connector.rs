//! The two seams to the world: who opens a byte stream to an address, and who accepts one. TCP is in `tcp.rs`.

use async_trait::async_trait;
use std::any::Any;
use std::fmt::Debug;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + Any {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// Any byte stream.
pub type BoxIo = Box<dyn Io>;

/// Opens byte streams to addresses.
#[async_trait]
pub trait Connector: Send + Sync + Debug + 'static {
    /// Opens one to `authority`: `host:port`, IPv6 in brackets. The pool bounds the time. Cancel safe: dropped before it is
    /// ready, nothing stays open.
    ///
    /// # Errors
    ///
    /// What the network says.
    async fn connect(&self, authority: &str) -> io::Result<BoxIo>;
}

/// Accepts byte streams.
#[async_trait]
pub trait Acceptor: Send + Sync + Debug + 'static {
    /// The next one, and the peer's address as text. Cancel safe.
    ///
    /// # Errors
    ///
    /// What the network says; the listener waits a little and goes on.
    async fn accept(&self) -> io::Result<(BoxIo, String)>;

    /// Where it accepts, as `host:port`.
    fn local_addr(&self) -> String;
}
