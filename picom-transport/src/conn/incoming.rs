//! The server's side of a stream: what the peer asked for, and the seam to those who answer.

use super::recv::RecvHalf;
use super::send::SendHalf;
use super::shared::PeerInfo;
use bytes::Bytes;
use picom_codec::Method;
use std::sync::Arc;
use std::time::Instant;
use tokio::time::Duration;

/// A call that has come, its args complete.
pub struct Incoming {
    /// What is called.
    pub method: Method,
    /// An encoded map within the bounds of PROTOCOL §3.5, or nothing.
    pub metadata: Option<Bytes>,
    /// When the caller's time has passed: the stream is then reset.
    pub deadline: Option<Instant>,
    /// The caller says that the call may run more than once.
    pub idempotent: bool,
    /// The args: one message, not scanned yet.
    pub args: Bytes,
    /// No input follows.
    pub input_ended: bool,
    /// Where the answer goes. Dropped unfinished, the call is reset.
    pub send: SendHalf,
    /// Further input, behind the args.
    pub recv: RecvHalf,
    /// Who calls.
    pub peer: Arc<PeerInfo>,
}

/// Answers the calls of a connection.
pub trait StreamHandler: Send + Sync + 'static {
    /// Takes a call. It runs on the task that drives the connection, so it must not block and must not take long: a
    /// handler that is not done at its first poll, or for which [`Turn::inline`] says no, gets a task of its own.
    ///
    /// The call's slot is free again when both halves have been dropped.
    fn handle(&self, incoming: Incoming, turn: &mut Turn);
}

/// How much may still run inline in this turn of the connection's driver: 50 µs, so that a slow handler holds up the
/// connection's other calls for no longer than that and its own time.
#[derive(Debug)]
pub struct Turn {
    ends: tokio::time::Instant,
}

const INLINE: Duration = Duration::from_micros(50);

impl Turn {
    pub(crate) fn begin() -> Self {
        Self {
            ends: tokio::time::Instant::now() + INLINE,
        }
    }

    /// Whether a handler may be polled here and now, once.
    pub fn inline(&mut self) -> bool {
        tokio::time::Instant::now() < self.ends
    }
}
