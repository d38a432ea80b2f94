//! The sending half of a stream.

use super::shared::Shared;
use super::wakers::register;
use crate::proto::{FaultReply, Key, Pack, SendError, StreamError};
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
    shared: Arc<Shared>,
    key: Key,
    /// The multiplexer knows it as let go of already.
    released: bool,
}

impl SendHalf {
    pub(super) fn new(shared: Arc<Shared>, key: Key) -> Self {
        Self {
            shared,
            key,
            released: false,
        }
    }

    /// The half of a call whose input ended with its args.
    pub(super) fn released(shared: Arc<Shared>, key: Key) -> Self {
        Self {
            shared,
            key,
            released: true,
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
        self.poll_room(cx).map_ok(drop)
    }

    /// Waits for room, as [`send`](Self::send) does, and says how much there is: what may be sent in bytes before it has
    /// to be asked for again. The last message may be over.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, SendError>> {
        let key = self.key;
        let (ready, _replaced) = self.shared.with(|state| match state.mux.room(key) {
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
        self.shared.with(|state| state.mux.room(self.key))
    }

    /// Sends the messages of a pack, which is empty then, without waiting for room, and says how much room is left.
    ///
    /// # Errors
    ///
    /// When the peer wants no more or the stream has ended. The messages are then forgotten.
    pub fn send_pack(&mut self, pack: &mut Pack) -> Result<usize, SendError> {
        let sent = self.shared.with(|state| state.mux.send_pack(self.key, pack));
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
        let sent = self.shared.with(|state| state.mux.try_send_pack(self.key, pack));
        if !matches!(sent, Ok(false)) {
            pack.clear();
        }
        sent
    }

    /// Sends without waiting for room. Memory is bounded only for those who ask [`poll_ready`](Self::poll_ready) first.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn start_send(&mut self, message: Bytes) -> Result<(), SendError> {
        self.shared.with(|state| state.mux.send(self.key, message))
    }

    /// Ends the half behind what is in line.
    ///
    /// # Errors
    ///
    /// When the peer wants no more or the stream has ended.
    pub fn finish(self) -> Result<(), SendError> {
        self.shared.with(|state| state.mux.finish(self.key, None))
    }

    /// Sends a last message and ends the half.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); the stream is then reset.
    pub fn finish_with(self, message: Bytes) -> Result<(), SendError> {
        self.shared
            .with(|state| state.mux.finish(self.key, Some(message)))
    }

    /// Ends the half with an error, as the acceptor of the stream.
    ///
    /// # Errors
    ///
    /// When the peer wants no more or the stream has ended.
    pub fn fault(self, fault: FaultReply) -> Result<(), SendError> {
        self.shared.with(|state| state.mux.fault(self.key, fault))
    }

    /// Ends the half with an error, or, if the first attempt to end it failed for its size, with that error instead.
    ///
    /// # Errors
    ///
    /// When the peer wants no more or the stream has ended.
    pub fn finish_or_fault(
        self,
        message: Bytes,
        too_large: impl FnOnce(u64, u64) -> FaultReply,
    ) -> Result<(), SendError> {
        self.shared
            .with(|state| match state.mux.finish(self.key, Some(message)) {
                Err(SendError::TooLarge { size, limit }) => state.mux.fault(self.key, too_large(size, limit)),
                other => other,
            })
    }

    /// Ends both halves at once.
    pub fn reset(self, code: Code) {
        self.shared.with(|state| state.mux.reset(self.key, code));
    }

    /// Ready when there is no point in going on: the stream was reset, its deadline has passed, the connection is lost,
    /// or the peer wants no more of this half.
    pub fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<StreamError> {
        poll_ended(&self.shared, self.key, cx)
    }

    /// Waits until there is no point in going on: see [`poll_ended`](Self::poll_ended). Cancel safe.
    pub async fn ended(&mut self) -> StreamError {
        poll_fn(|cx| Poll::Ready(ready!(self.poll_ended(cx)))).await
    }

    /// Watches for the end of the stream from another place than the half itself.
    pub fn watch_end(&self) -> EndWatch {
        EndWatch {
            shared: Arc::downgrade(&self.shared),
            key: self.key,
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        let _wakers = self.shared.with(|state| {
            state.mux.release_send(self.key);
            let wakers = state.wakers(self.key);
            (wakers.send.take(), wakers.ended.take())
        });
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
        f.debug_struct("SendHalf")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Tells when there is no point in going on with a stream, as [`SendHalf::poll_ended`] does, while the half itself is in
/// other hands. Holds neither the stream nor the connection.
#[derive(Clone)]
pub struct EndWatch {
    shared: std::sync::Weak<Shared>,
    key: Key,
}

impl EndWatch {
    /// As [`SendHalf::poll_ended`]; one task at a time can wait for the end of a stream. Pending for ever when the stream's
    /// halves are gone.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match self.shared.upgrade() {
            Some(shared) => poll_ended(&shared, self.key, cx),
            None => Poll::Pending,
        }
    }
}

impl fmt::Debug for EndWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndWatch")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
