//! What can be wrong with a frame: one that arrives ([`FrameError`], [`HeadError`]) and one that was to be sent
//! ([`Unsendable`]).

use crate::{Code, LengthError, ScanError};
use std::io;

/// Why the byte stream cannot be cut into frames any further. Each is an error of the connection (PROTOCOL §3.4).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length prefix is not one, or is over the limit; or the stream ended within a frame.
    #[error("bad length of a frame")]
    Length(#[from] LengthError),
    /// The payload does not begin with the head of a frame.
    #[error("bad frame")]
    Head(#[from] HeadError),
    /// The frame handed over for sending breaks a rule.
    #[error("a frame cannot be sent")]
    Unsendable(#[from] Unsendable),
    /// An earlier error stands: after it nothing is known about where frames begin.
    #[error("decoding ended with an earlier error")]
    Failed,
    /// The byte stream itself failed. Never from the codec; `tokio-util` puts it here.
    #[error("the byte stream failed")]
    Io(#[from] io::Error),
}

impl From<Box<HeadError>> for FrameError {
    #[cold]
    fn from(error: Box<HeadError>) -> Self {
        FrameError::Head(*error)
    }
}

impl FrameError {
    /// What a goaway says of it.
    pub const fn code(&self) -> Code {
        match self {
            FrameError::Length(_) | FrameError::Head(_) | FrameError::Failed => Code::PROTOCOL,
            FrameError::Unsendable(_) | FrameError::Io(_) => Code::INTERNAL,
        }
    }

    /// Where in the payload the error is, in bytes, if it is in a payload.
    pub const fn offset(&self) -> Option<usize> {
        match self {
            FrameError::Head(error) => Some(error.offset),
            _ => None,
        }
    }
}

/// A payload that does not begin with the head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the payload: {fault}")]
pub struct HeadError {
    /// Where, in bytes from the first of the payload.
    pub offset: usize,
    /// What.
    pub fault: HeadFault,
}

/// What is wrong with the head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadFault {
    /// Nothing in it (PROTOCOL §1.3).
    #[error("the payload is empty")]
    Empty,
    /// It ends within the head, or where the body should begin.
    #[error("the payload ends before its {element}")]
    Truncated {
        /// The element that is cut off or missing.
        element: &'static str,
    },
    /// An element of another type stands there.
    #[error("expected {element} ({expected}), found the type {found:#04x}")]
    WrongType {
        /// The element.
        element: &'static str,
        /// What it may be.
        expected: &'static str,
        /// The first byte of what stands there.
        found: u8,
    },
    /// A shorter form exists (PROTOCOL §3.2).
    #[error("{element} is not in its shortest form")]
    NotShortest {
        /// The element.
        element: &'static str,
    },
    /// A number outside its bounds (PROTOCOL §3.5, §4.4, §7.2).
    #[error("{element} is {found}, allowed are {lowest} to {highest}")]
    OutOfRange {
        /// The element.
        element: &'static str,
        /// The number.
        found: u64,
        /// The least it may be.
        lowest: u64,
        /// The most.
        highest: u64,
    },
    /// A text or map outside its bounds (PROTOCOL §3.5).
    #[error("{element} is {found} bytes long, allowed are {shortest} to {longest}")]
    WrongLength {
        /// The element.
        element: &'static str,
        /// Its length in bytes.
        found: u64,
        /// The least it may have.
        shortest: u64,
        /// The most.
        longest: u64,
    },
    /// No kind of this version, and not an ignorable one (PROTOCOL §3.3).
    #[error("unknown kind {kind}")]
    UnknownKind {
        /// The kind.
        kind: u64,
    },
    /// The array is longer or shorter than the kind says (PROTOCOL §3.4).
    #[error("{kind} has {expected} elements, the array has {found}")]
    WrongCount {
        /// The kind.
        kind: &'static str,
        /// How many elements it has, kind included.
        expected: u32,
        /// How many the array has.
        found: u32,
    },
    /// A text that is not UTF-8.
    #[error("{element} is not UTF-8")]
    NotUtf8 {
        /// The element.
        element: &'static str,
    },
    /// A hello of something else: its first word is not `picom`.
    #[error("the hello does not say \"picom\"")]
    NotPicom,
    /// A map in the head (metadata, extensions) is not well-formed or over its bounds. The offset says where.
    #[error("{element}: {error}")]
    Map {
        /// The element.
        element: &'static str,
        /// What the scan says; its offsets count from the map's first byte.
        error: ScanError,
    },
    /// Bytes behind the last element.
    #[error("trailing bytes behind the last element: {left}")]
    Trailing {
        /// How many.
        left: usize,
    },
}

/// Why a frame cannot be sent: the peer would end the connection over it. A mistake of the caller, never of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsendable {
    /// A number, or a length in bytes, outside its bounds.
    #[error("{element} is {found}, allowed are {lowest} to {highest}")]
    OutOfRange {
        /// The element.
        element: &'static str,
        /// The number.
        found: u64,
        /// The least it may be.
        lowest: u64,
        /// The most.
        highest: u64,
    },
    /// The metadata is not a map within the bounds of PROTOCOL §3.5.
    #[error("the metadata is not within its bounds: {0}")]
    Metadata(ScanError),
    /// The metadata is well-formed, but something else than a map.
    #[error("the metadata is not a map but begins with {found:#04x}")]
    MetadataNotMap {
        /// The first byte.
        found: u8,
    },
    /// The args are to follow as parts, and others stand in the frame (PROTOCOL §3.6).
    #[error("args stand in the frame though they are to follow as parts")]
    ArgsTwice,
    /// An [`Ignored`](crate::Frame::Ignored) frame only ever arrives.
    #[error("an ignored frame cannot be sent")]
    Ignored,
    /// The payload is over the limit of the encoder (PROTOCOL §1.4).
    #[error("the payload is {len} bytes long, the limit is {limit}")]
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The limit.
        limit: u32,
    },
}
