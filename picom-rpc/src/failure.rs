//! What can happen to an attempt of a call, or to one of its streams. To whom it happened, and after how many attempts, is
//! `error.rs`.

use crate::fault::Fault;
use crate::metadata::MetadataError;
use picom_codec::{DecodeError, EncodeError, MethodError};
use picom_discovery::{DiscoveryError, NameError};
use picom_transport::{DialError, OpenError, Outcome, SendError, StreamError};
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// What happened. New reasons may be added.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallFailure {
    /// Discovery knows no instance of that name.
    #[error(
        "the service is down: no instance of that name is registered; start one, check the name, or wait for it with `wait_for_ready`"
    )]
    UnknownService,
    /// Instances are registered, and none of them can be called.
    #[error(
        "the service is down: {failing} of its instances do not pass their checks, {foreign} do not speak this protocol"
    )]
    ServiceDown {
        /// How many do not pass their checks.
        failing: usize,
        /// How many pass their checks but do not say that they speak the native protocol.
        foreign: usize,
    },
    /// Discovery had not answered when the time of the call was over.
    #[error("it is not known yet which instances there are, and the time of the call is over")]
    Discovery(#[source] Option<Arc<DiscoveryError>>),
    /// All instances are ending, and no other one came in time.
    #[error("all instances of the service are ending")]
    AllDraining,
    /// No connection to the instance.
    #[error("the instance cannot be reached")]
    Unreachable(#[source] DialError),
    /// The call could not be sent: its arguments or its metadata are over a limit of the peer, or its connection was ending.
    #[error("the call could not be sent")]
    NotOpened(#[source] OpenError),
    /// The time of the call passed before it could be sent.
    #[error("the time of the call passed before it could be sent")]
    Overdue,
    /// The stream of the call ended without a proper end.
    #[error("{0}")]
    Stream(StreamError),
    /// The peer stated an error.
    #[error("{0}")]
    Fault(Fault),
    /// The name of the service cannot be one.
    #[error("that is not the name of a service")]
    Service(#[source] NameError),
    /// The name of the method cannot be one.
    #[error("that is not the name of a method")]
    Method(#[source] MethodError),
    /// The metadata is more than a call carries.
    #[error("the metadata cannot be sent")]
    Metadata(#[source] MetadataError),
    /// The arguments, or a message to be sent, cannot be encoded.
    #[error("the value cannot be encoded")]
    Encode(#[source] EncodeError),
    /// A message that came is not of the type that was asked for.
    #[error("the message that came is not of the type asked for")]
    Decode(#[source] DecodeError),
    /// A message could not be sent on the stream.
    #[error("{0}")]
    Send(SendError),
    /// The call ended without the value that was asked for.
    #[error("the call ended without a value; ask with `fetch_opt` if there may be none")]
    NoValue,
    /// More came than `fetch_all` holds.
    #[error("more came than is held in memory: {items} items of {bytes} bytes; read it with `stream`")]
    TooMuch {
        /// Items received.
        items: usize,
        /// Their length in bytes.
        bytes: u64,
    },
    /// The client has ended.
    #[error("this side has ended and makes no more calls")]
    Ended,
}

impl CallFailure {
    /// What the failure alone says about whether the call ran.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            CallFailure::Stream(error) | CallFailure::Send(SendError::Ended(error)) => error.outcome(),
            CallFailure::Fault(fault) if fault.started() => Outcome::Executed,
            CallFailure::Fault(_) => Outcome::Refused,
            CallFailure::Decode(_) | CallFailure::NoValue | CallFailure::TooMuch { .. } => Outcome::Executed,
            CallFailure::Send(_) => Outcome::MaybeExecuted,
            _ => Outcome::NeverSent,
        }
    }
}

/// A peer's text with its control characters spelled out, so that it cannot write to a terminal or forge a log line.
pub(crate) fn escaped(text: &str) -> impl fmt::Display + '_ {
    struct Escaped<'a>(&'a str);
    impl fmt::Display for Escaped<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for character in self.0.chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    f.write_char(character)?;
                }
            }
            Ok(())
        }
    }
    Escaped(text)
}
