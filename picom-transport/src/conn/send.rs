//! The sending half of a stream.

use super::recv::RecvHalf;
use super::shared::Shared;
use super::wakers::register;
use crate::classic::{ClassicSend, ClassicWatch};
use crate::proto::{FaultReply, Key, SendError, StreamError};
use bytes::Bytes;
use picom_codec::Code;
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

    /// Sends one MessagePack value. Waits while 64 KiB or more are waiting for credit or for the socket; returns when
    /// the message is in line, which says nothing of its arrival.
    ///
    /// Cancel safe: dropped before it is ready, nothing was sent.
    ///
    /// # Errors
    ///
    /// When the peer wants no more, when the stream has ended, or when the message is over the peer's limit; the last leaves
    /// the stream as it was.
    pub async fn send(&mut self, message: Bytes) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_ready(cx)).await?;
        self.start_send(message)
    }

    /// Waits for room, as [`send`](Self::send) does.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let (shared, key) = match &self.line {
            Line::Native { shared, key } => (shared, *key),
            Line::Classic(half) => return half.poll_ready(cx),
        };
        let (ready, _replaced) = shared.with(|state| match state.mux.can_send(key) {
            Ok(true) => (Poll::Ready(Ok(())), None),
            Ok(false) => (Poll::Pending, register(&mut state.wakers(key).send, cx)),
            Err(error) => (Poll::Ready(Err(error)), None),
        });
        ready
    }

    /// Sends without waiting for room. Memory is bounded only for those who ask [`poll_ready`](Self::poll_ready) first.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn start_send(&mut self, message: Bytes) -> Result<(), SendError> {
        match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.send(*key, message)),
            Line::Classic(half) => half.start_send(&message),
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
    pub fn finish_with(self, message: Bytes) -> Result<(), SendError> {
        match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.finish(*key, Some(message))),
            Line::Classic(half) => half.finish(Some(&message)),
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
        // A classic half has a drop of its own.
        if self.released {
            return;
        }
        if let Line::Native { shared, key } = &self.line {
            let _wakers = shared.with(|state| {
                state.mux.release_send(*key);
                let wakers = state.wakers(*key);
                (wakers.send.take(), wakers.ended.take())
            });
        }
    }
}

fn poll_ended(shared: &Shared, key: Key, cx: &mut Context<'_>) -> Poll<StreamError> {
    let (ended, _replaced) = shared.with(|state| match state.mux.end_of(key) {
        Some(error) => (Poll::Ready(error), None),
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
    Reply(Option<Bytes>),
    /// With an error.
    Fault(FaultReply),
}

/// Tells when there is no point in going on with a stream, as [`SendHalf::poll_ended`] does, while the halves are in other
/// hands. Does not keep the stream, nor the connection open. The default is for no stream: never ready.
#[derive(Clone, Default)]
pub struct EndWatch(Watched);

#[derive(Clone, Default)]
enum Watched {
    #[default]
    Nothing,
    Native(Arc<Shared>, Key),
    Classic(ClassicWatch),
}

impl EndWatch {
    pub(super) fn new(shared: &Arc<Shared>, key: Key) -> Self {
        EndWatch(Watched::Native(shared.clone(), key))
    }

    pub(super) fn classic(watch: ClassicWatch) -> Self {
        EndWatch(Watched::Classic(watch))
    }

    /// As [`SendHalf::poll_ended`]; one task at a time can wait for the end of a stream. Pending for ever when the stream's
    /// halves are gone.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match &self.0 {
            Watched::Native(shared, key) => poll_ended(shared, *key, cx),
            Watched::Classic(watch) => watch.poll_ended(cx),
            Watched::Nothing => Poll::Pending,
        }
    }
}

impl fmt::Debug for EndWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndWatch").finish_non_exhaustive()
    }
}
