//! How streams and connections end badly, and what that says about the call: did it run? Small enums, one a verb.

use bytes::Bytes;
use picom_codec::Code;
use std::{io, sync::Arc, time::Duration};

/// Whether a call that failed has run at its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The peer cannot have seen the whole request: it has not run.
    NeverSent,
    /// The peer says that it did not begin.
    Refused,
    /// The request was sent and nothing is known of what became of it.
    MaybeExecuted,
    /// The handler was started.
    Executed,
}

impl Outcome {
    /// Whether the call has certainly not run, so that it may be tried elsewhere.
    pub fn has_not_run(self) -> bool {
        matches!(self, Outcome::NeverSent | Outcome::Refused)
    }
}

/// An error stated by the peer (PROTOCOL §3.2, fault).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultReply {
    /// What kind of error.
    pub code: Code,
    /// Whether the handler was started.
    pub started: bool,
    /// The caller should not try again.
    pub do_not_retry: bool,
    /// How long to wait before another attempt.
    pub delay: Option<Duration>,
    /// For people; cut to 4 KiB on the wire.
    pub text: String,
    /// Which application error `details` holds; at most 128 bytes.
    pub name: Option<String>,
    /// One MessagePack value; nil is the single byte `c0`.
    pub details: Bytes,
}

/// Why a stream ended without a proper end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StreamError {
    /// The peer stated an error.
    #[error("{}: {}", .0.code, .0.text)]
    Fault(Arc<FaultReply>),
    /// The peer ended the stream abruptly.
    #[error("the peer ended the call ({code})")]
    Reset {
        /// Why.
        code: Code,
    },
    /// This side ended the stream, by dropping or resetting a half.
    #[error("the call was given up on this side ({code})")]
    Cancelled {
        /// Why.
        code: Code,
        /// The request had been sent.
        sent: bool,
    },
    /// The time of the call has passed.
    #[error("the time of the call has passed")]
    Deadline {
        /// The request had been sent.
        sent: bool,
    },
    /// A message is over a limit. The call ends, the connection does not.
    #[error("a message of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its length in bytes.
        size: u64,
        /// What the receiver takes.
        limit: u64,
    },
    /// A frame of packed messages does not hold what it says.
    #[error("the peer sent packed messages that cannot be taken apart")]
    BadItems(#[source] Arc<picom_codec::ItemsError>),
    /// The connection is gone.
    #[error("the connection was lost")]
    ConnectionLost {
        /// Why.
        #[source]
        error: Arc<ConnectionError>,
        /// The socket had taken the whole request. If not, the peer cannot have begun.
        sent: bool,
    },
    /// The call waited for a slot of the connection, and none became free for a second: it was never written.
    #[error("the call waited for a free slot of the connection, and none became free for a second")]
    NoSlot,
    /// The connection was ending when the call was still in line: it was never written.
    #[error("the connection was ending before the call was sent")]
    NotTaken,
}

impl StreamError {
    /// Whether the call has run. For a stream that this side accepted it says nothing.
    pub fn outcome(&self) -> Outcome {
        match self {
            StreamError::Fault(fault) if fault.started => Outcome::Executed,
            StreamError::Fault(_) => Outcome::Refused,
            StreamError::Reset {
                code: Code::REFUSED | Code::DRAINING,
            } => Outcome::Refused,
            StreamError::Cancelled { sent: false, .. }
            | StreamError::Deadline { sent: false }
            | StreamError::ConnectionLost { sent: false, .. }
            | StreamError::NoSlot
            | StreamError::NotTaken => Outcome::NeverSent,
            StreamError::BadItems(_) => Outcome::Executed,
            _ => Outcome::MaybeExecuted,
        }
    }
}

/// Why a message was not taken for sending.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// The peer wants no more of this half; its reply, if there is one, can still be received.
    #[error("the peer takes no more messages ({code})")]
    Stopped {
        /// Why.
        code: Code,
    },
    /// The stream has ended.
    #[error("the stream has ended")]
    Ended(#[source] StreamError),
    /// The message can never be sent: it is over the peer's limit. The stream goes on.
    #[error("a message of {size} bytes is over the peer's limit of {limit}")]
    TooLarge {
        /// Its length in bytes.
        size: u64,
        /// What the peer takes.
        limit: u64,
    },
    /// The peer speaks classic and could not read the message (PROTOCOL §12.6). The stream goes on.
    #[error("a peer of the Node library could not read the message")]
    Unreadable(#[source] Box<picom_codec::classic::Unreadable>),
    /// Nothing at all is not a MessagePack value. The stream goes on.
    #[error("an empty message is no MessagePack value")]
    Empty,
    /// This half has already been finished.
    #[error("this half of the stream is already finished")]
    Finished,
}

/// Why a stream could not be opened. The call has not run, whatever the reason.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// The peer takes no more streams at present.
    #[error("all {limit} streams of the connection are in use")]
    Full {
        /// The peer's stream limit.
        limit: u32,
    },
    /// One of the sides is ending the connection.
    #[error("the connection is draining")]
    Draining,
    /// The args can never be sent.
    #[error("the arguments take {size} bytes: over the peer's limit of {limit}")]
    TooLarge {
        /// Their length in bytes.
        size: u64,
        /// What the peer takes.
        limit: u64,
    },
    /// The peer speaks classic and could not read the args (PROTOCOL §12.6).
    #[error("a peer of the Node library could not read the arguments")]
    Unreadable(#[source] Box<picom_codec::classic::Unreadable>),
    /// Nothing at all is not a MessagePack value.
    #[error("the arguments are empty: no MessagePack value")]
    Empty,
    /// The metadata breaks its bounds (PROTOCOL §3.5).
    #[error("the metadata cannot be sent")]
    Metadata(#[source] picom_codec::Unsendable),
    /// The connection is gone.
    #[error("the connection is closed")]
    Closed(#[source] Arc<ConnectionError>),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The byte stream failed.
    #[error("the byte stream failed")]
    Io(#[source] io::Error),
    /// The peer closed the byte stream without a goaway.
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The peer closed the byte stream within a frame.
    #[error("the peer closed the connection within a frame: {have} bytes of it had come")]
    Truncated {
        /// How many bytes of the frame had come, its prefix included.
        have: usize,
    },
    /// The peer gave no sign of life.
    #[error("the peer did not answer a ping within {0:?}")]
    PingTimeout(Duration),
    /// The socket took nothing, or a frame stayed incomplete, for too long.
    #[error("the connection stalled for {0:?}")]
    Stalled(Duration),
    /// A classic call was announced with so much that there was no room for it beside the others that are still arriving.
    #[error(
        "a header of which {have} bytes are held finds no room in the {limit} for all that are still arriving"
    )]
    HeaderBudget {
        /// What it holds, in bytes.
        have: u64,
        /// What all of the listener may hold beyond a frame each, in bytes.
        limit: u64,
    },
    /// The handshake took too long.
    #[error("no handshake within {0:?}")]
    HelloTimeout(Duration),
    /// What the peer speaks is not picom.
    #[error("the peer does not speak picom: {0}")]
    NotPicom(&'static str),
    /// The bytes are not frames.
    #[error("the peer sent a bad frame")]
    Frame(#[source] picom_codec::FrameError),
    /// The peer broke a rule; we ended the connection.
    #[error("the peer broke the protocol ({code}): {text}")]
    Violation {
        /// Which kind of rule.
        code: Code,
        /// Which rule.
        text: &'static str,
    },
    /// The peer said that we broke a rule, or that it is not the one we meant.
    #[error("the peer ended the connection ({code}): {text}")]
    Goaway {
        /// Why.
        code: Code,
        /// What the peer said; control characters are escaped.
        text: String,
    },
    /// An orderly end: drained, idle, or closed by this side.
    #[error("the connection was closed ({0})")]
    Closed(&'static str),
}

impl ConnectionError {
    /// Whether the end was an orderly one.
    pub fn is_orderly(&self) -> bool {
        matches!(
            self,
            ConnectionError::Closed(_) | ConnectionError::Goaway { code: Code::OK, .. }
        )
    }
}
