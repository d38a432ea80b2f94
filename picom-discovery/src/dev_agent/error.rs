//! Why a dev agent could not be had.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A dev agent could not be started or joined.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DevAgentError {
    /// It serves this machine only, and was told to listen elsewhere.
    #[error("a dev agent listens on loopback only, not on {addr}")]
    NotLoopback {
        /// The address refused.
        addr: SocketAddr,
    },
    /// The address could not be bound.
    #[error("could not listen on {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        #[source]
        source: Arc<io::Error>,
    },
    /// A shared agent needs a port that the other processes know.
    #[error("a shared dev agent needs a fixed port, not 0")]
    NoPort,
    /// Something that is no dev agent listens there.
    #[error("what listens on {addr} is not a picom dev agent")]
    Foreign {
        /// The address.
        addr: SocketAddr,
    },
    /// The address is taken, but whoever holds it did not answer.
    #[error("{addr} is taken and gave no answer within {waited:?}")]
    Unresponsive {
        /// The address.
        addr: SocketAddr,
        /// How long it was tried.
        waited: Duration,
    },
    /// The thread or its runtime could not be made.
    #[error("could not start the dev agent's thread")]
    Thread(#[source] Arc<io::Error>),
    /// The thread ended before it had started to serve.
    #[error("the dev agent ended while it was starting")]
    Ended,
}
