//! The sending half of a stream.

use super::recv::RecvHalf;
use super::shared::Shared;
use super::wakers::register;
use crate::classic::ClassicSend;
use crate::proto::{FaultReply, Key, Pack, Pocket, SendError, StreamError};
use picom_codec::{Body, Code};
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Sends messages on a stream, in order.
///
/// Dropped before it was finished, it resets the stream (`incomplete`), so that what was cut short never looks complete
/// to the peer. This holds for every interleaving: the reset is queued under the same lock that queues messages, so no
/// message can follow it, and messages that were taken before it may be lost with it.
pub struct SendHalf {
    line: Line,
    /// The multiplexer knows it as let go of already.
    released: bool,
}

/// What carries the stream.
enum Line {
    Native { shared: Arc<Shared>, key: Key },
    Classic(ClassicSend),
}

impl SendHalf {
    pub(super) fn new(shared: Arc<Shared>, key: Key) -> Self {
        Self {
            line: Line::Native { shared, key },
            released: false,
        }
    }

    pub(crate) fn classic(half: ClassicSend) -> Self {
        Self {
            line: Line::Classic(half),
            released: false,
        }
    }

    /// Sends one MessagePack value. Waits while 64 KiB or more are waiting for credit or for the socket (256 KiB of
    /// messages from 16 KiB on, where no more than 16 streams are open); returns when the message is in line, which says
    /// nothing of its arrival.
    ///
    /// Cancel safe: dropped before it is ready, nothing was sent.
    ///
    /// # Errors
    ///
    /// When the peer wants no more, when the stream has ended, or when the message is over the peer's limit; the last leaves
    /// the stream as it was.
    pub async fn send(&mut self, message: impl Into<Body>) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_ready(cx)).await?;
        self.start_send(message)
    }

    /// Waits for room, as [`send`](Self::send) does.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_room(cx).map_ok(drop)
    }

    /// Waits for room, as [`send`](Self::send) does, and says how much there is: what may be sent in bytes before it has
    /// to be asked for again. The last message may be over.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, SendError>> {
        let (shared, key) = match &self.line {
            Line::Native { shared, key } => (shared, *key),
            Line::Classic(half) => return half.poll_room(cx),
        };
        let (ready, _replaced) = shared.with(|state| match state.mux.room(key) {
            Ok(0) => (Poll::Pending, register(&mut state.wakers(key).send, cx)),
            room => (Poll::Ready(room), None),
        });
        ready
    }

    /// How much room there is now.
    ///
    /// # Errors
    ///
    /// When the peer wants no more or the stream has ended.
    pub fn room(&self) -> Result<usize, SendError> {
        match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.room(*key)),
            Line::Classic(half) => half.room(),
        }
    }

    /// Sends the messages of a pack, which is empty then, without waiting for room, and says how much room is left.
    ///
    /// # Errors
    ///
    /// When the peer wants no more or the stream has ended. The messages are then forgotten; so are those behind one that a
    /// peer of the Node library could not read.
    pub fn send_pack(&mut self, pack: &mut Pack) -> Result<usize, SendError> {
        let sent = match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.send_pack(*key, pack)),
            Line::Classic(half) => half.send_pack(pack),
        };
        pack.clear();
        sent
    }

    /// Sends the messages of a pack, which is empty then, if there is room; otherwise they stay and the answer is
    /// `false`.
    ///
    /// # Errors
    ///
    /// As [`send_pack`](Self::send_pack).
    pub fn try_send_pack(&mut self, pack: &mut Pack) -> Result<bool, SendError> {
        let sent = match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.try_send_pack(*key, pack)),
            Line::Classic(half) => half.try_send_pack(pack),
        };
        if !matches!(sent, Ok(false)) {
            pack.clear();
        }
        sent
    }

    /// Where other senders than the one who holds the half may leave small messages. Open behind a
    /// [`try_send_pack`](Self::try_send_pack), until the driver has been there. `None`: the stream has none.
    pub fn pocket(&self) -> Option<Arc<Pocket>> {
        match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.pocket(*key)),
            Line::Classic(_) => None,
        }
    }

    /// Sends without waiting for room. Memory is bounded only for those who ask [`poll_ready`](Self::poll_ready) first.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn start_send(&mut self, message: impl Into<Body>) -> Result<(), SendError> {
        let message = message.into();
        match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.send(*key, message)),
            Line::Classic(half) => half.start_send(&message.into_bytes()),
        }
    }

    /// Ends the half behind what is in line.
    ///
    /// # Errors
    ///
    /// When the peer wants no more or the stream has ended.
    pub fn finish(self) -> Result<(), SendError> {
        match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.finish(*key, None)),
            Line::Classic(half) => half.finish(None),
        }
    }

    /// Sends a last message and ends the half.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); the stream is then reset.
    pub fn finish_with(self, message: impl Into<Body>) -> Result<(), SendError> {
        let message = message.into();
        match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.finish(*key, Some(message))),
            Line::Classic(half) => half.finish(Some(&message.into_bytes())),
        }
    }

    /// Ends the half with an error, as the acceptor of the stream.
    ///
    /// # Errors
    ///
    /// When the peer wants no more or the stream has ended.
    pub fn fault(self, fault: FaultReply) -> Result<(), SendError> {
        match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.fault(*key, fault)),
            Line::Classic(half) => half.fault(&fault),
        }
    }

    /// Ends the call as its acceptor: answers, and lets go of both halves, all at once. An answer that can never be sent
    /// becomes the fault that `otherwise` makes of the reason: it is over the caller's limit, or a caller of the Node library
    /// could not read it.
    ///
    /// # Errors
    ///
    /// When the peer wants no more or the stream has ended; the halves are gone all the same.
    pub fn conclude(
        mut self,
        mut recv: RecvHalf,
        ending: Ending,
        otherwise: impl FnOnce(&SendError) -> FaultReply,
    ) -> Result<(), SendError> {
        let (shared, key) = match &self.line {
            Line::Native { shared, key } => (shared, *key),
            Line::Classic(half) => return half.conclude(ending, otherwise),
        };
        self.released = true;
        recv.let_go();
        let (sent, _wakers) = shared.with(|state| {
            let sent = match ending {
                Ending::Reply(message) => match state.mux.finish(key, message) {
                    Err(error @ SendError::TooLarge { .. }) => state.mux.fault(key, otherwise(&error)),
                    sent => sent,
                },
                Ending::Fault(fault) => state.mux.fault(key, fault),
            };
            state.mux.release_send(key);
            state.mux.release_recv(key);
            (sent, std::mem::take(state.wakers(key)))
        });
        sent
    }

    /// Ends both halves at once.
    pub fn reset(self, code: Code) {
        match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.reset(*key, code)),
            Line::Classic(half) => half.reset(code),
        }
    }

    /// Ready when there is no point in going on: the stream was reset, its deadline has passed, the connection is lost,
    /// or the peer wants no more of this half.
    pub fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match &self.line {
            Line::Native { shared, key } => poll_ended(shared, *key, cx),
            Line::Classic(half) => half.poll_ended(cx),
        }
    }

    /// Waits until there is no point in going on: see [`poll_ended`](Self::poll_ended). Cancel safe.
    pub async fn ended(&mut self) -> StreamError {
        poll_fn(|cx| Poll::Ready(ready!(self.poll_ended(cx)))).await
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        // A classic half has a drop of its own.
        if let Line::Native { shared, key } = &self.line {
            let _wakers = shared.with(|state| {
                state.mux.release_send(*key);
                let wakers = state.wakers(*key);
                (wakers.send.take(), wakers.ended.take())
            });
        }
    }
}

pub(super) fn poll_ended(shared: &Shared, key: Key, cx: &mut Context<'_>) -> Poll<StreamError> {
    let (ended, _replaced) = shared.with(|state| match state.mux.end_of(key) {
        Some(error) => (Poll::Ready(error), None),
        // Of a stream that is gone nothing will be told, and its place may be another's.
        None if !state.mux.holds(key) => (Poll::Pending, None),
        None => (Poll::Pending, register(&mut state.wakers(key).ended, cx)),
    });
    ended
}

impl fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut named = f.debug_struct("SendHalf");
        if let Line::Native { key, .. } = &self.line {
            named.field("key", key);
        }
        named.finish_non_exhaustive()
    }
}

/// How an acceptor ends a call.
#[derive(Debug)]
pub enum Ending {
    /// With a last message, or with none.
    Reply(Option<Body>),
    /// With an error.
    Fault(FaultReply),
}
