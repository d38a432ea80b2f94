//! The vocabulary of the native dialect: one variant a kind (PROTOCOL §3). How a frame looks in bytes is known to
//! `head/layout.rs` alone; what a frame means is for the multiplexer.

use crate::{Body, Code, Method, StreamId};
use bytes::Bytes;

/// One native frame. The enum is exhaustive on purpose: a new kind must break the build where frames are handled.
///
/// Bodies are single MessagePack values, not looked into yet: [`value::decode`](crate::value::decode) checks what it
/// decodes, and whoever else looks into one runs [`scan`](crate::scan::scan) first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// First frame in each direction.
    Hello(Hello),
    /// Opens a stream; more input may follow.
    Open(Open),
    /// Opens a stream and ends the opener's half.
    Call(Open),
    /// One message.
    Data {
        /// The stream it belongs to.
        stream: StreamId,
        /// The message.
        body: Body,
    },
    /// One message, and the half ends.
    Last {
        /// The stream it belongs to.
        stream: StreamId,
        /// The message.
        body: Body,
    },
    /// A fragment of a message.
    Part {
        /// The stream it belongs to.
        stream: StreamId,
        /// On the first fragment, the length of the whole message.
        total: Option<u64>,
        /// The message is complete with this fragment, and so is the half.
        end: bool,
        /// The fragment: the content of the `bin`, without its header.
        body: Body,
    },
    /// Small messages packed together.
    Items {
        /// The stream they belong to.
        stream: StreamId,
        /// How many messages there are, as the array's header says: 1 to 65,535.
        count: u32,
        /// The messages one behind the other, without the array's header.
        body: Bytes,
    },
    /// The half ends.
    End {
        /// The stream whose half ends.
        stream: StreamId,
    },
    /// The acceptor's half ends with an error.
    Fault(Fault),
    /// Both halves end at once.
    Reset {
        /// The stream that ends.
        stream: StreamId,
        /// Why.
        code: Code,
    },
    /// The sender of this wants no more of the peer's half.
    Stop {
        /// The stream meant.
        stream: StreamId,
        /// Why.
        code: Code,
    },
    /// The sender of this allows so many bytes more.
    Credit {
        /// The stream meant.
        stream: StreamId,
        /// Bytes, never 0.
        bytes: u32,
    },
    /// Are you there?
    Ping {
        /// Comes back in the pong.
        token: u64,
    },
    /// I am.
    Pong {
        /// The token of the ping.
        token: u64,
    },
    /// The sender wants to end: open no more streams.
    Drain {
        /// How long it will wait for open streams, in milliseconds.
        grace_ms: u64,
    },
    /// The answer to drain.
    DrainAck {
        /// The last stream the sender opened, or `None`.
        last: Option<StreamId>,
    },
    /// The last frame of its sender.
    Goaway(Goaway),
    /// A frame of an ignorable kind that this version does not know (PROTOCOL §3.3). Never sent.
    Ignored {
        /// Its kind, 32 to 63.
        kind: u8,
    },
}

/// What a peer says of itself when a connection begins (PROTOCOL §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The lowest protocol version it speaks.
    pub min_version: u16,
    /// The highest protocol version it speaks.
    pub max_version: u16,
    /// From a client: the service it believes it reached. From a server: the service it is. At most 256 bytes.
    pub service: Option<String>,
    /// The instance, likewise.
    pub instance: Option<String>,
    /// It drains: streams will be refused.
    pub draining: bool,
    /// The largest payload it takes, in bytes.
    pub frame_limit: u32,
    /// The largest message it takes, in bytes.
    pub message_limit: u64,
    /// The credit each stream starts with towards it, in bytes.
    pub first_window: u32,
    /// How many streams the peer may have open at a time.
    pub stream_limit: u32,
    /// After so long without streams it may close; 0 is never. Milliseconds.
    pub idle_ms: u64,
}

/// What opens a stream: a call of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The new stream.
    pub stream: StreamId,
    /// The method, 1 to 128 bytes of UTF-8.
    pub method: Method,
    /// Microseconds the caller still gives, or `None` for no deadline.
    pub micros_left: Option<u64>,
    /// The call may safely run more than once.
    pub idempotent: bool,
    /// The args follow as parts; `args` is then nil (`c0`).
    pub args_follow: bool,
    /// A MessagePack map, within the bounds of PROTOCOL §3.5.
    pub metadata: Option<Bytes>,
    /// The args: one MessagePack value.
    pub args: Body,
}

/// An error that ends the acceptor's half (PROTOCOL §3.2, §5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The stream that ends.
    pub stream: StreamId,
    /// What kind of error.
    pub code: Code,
    /// Whether the handler was started.
    pub started: bool,
    /// The caller should not try again, here or elsewhere.
    pub do_not_retry: bool,
    /// How long to wait before another attempt, in milliseconds.
    pub delay_ms: Option<u64>,
    /// For people. The encoder cuts it to 4 KiB at a character.
    pub text: String,
    /// Which application error `details` holds. At most 128 bytes.
    pub name: Option<String>,
    /// One MessagePack value, nil (`c0`) if there is none.
    pub details: Bytes,
}

/// The last frame of its sender (PROTOCOL §9.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goaway {
    /// The last stream it accepted: streams above have not run. `None`: it accepted none.
    pub last: Option<StreamId>,
    /// Why it ends.
    pub code: Code,
    /// For people. The encoder cuts it to 4 KiB at a character.
    pub text: String,
}
