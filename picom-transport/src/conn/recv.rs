//! The receiving half of a stream.

use super::send::poll_ended;
use super::shared::Shared;
use super::wakers::register;
use crate::classic::ClassicRecv;
use crate::proto::{Delivery, Key, Received, StreamError};
use picom_codec::{Body, Code, Items, ItemsError};
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// Receives the messages of a stream, in order, and grants the peer credit for more as they are taken.
///
/// Dropped before the peer's half has ended, it tells the peer to stop; if our own half has ended as well (so that the call
/// is of no use to anybody any more) the stream is reset. A reply that has come by then is dropped with it.
pub struct RecvHalf {
    line: Line,
    /// The rest of a frame of packed messages; at most one frame is held here beyond the window.
    items: Option<Box<Items>>,
    /// The frame was not what it said.
    bad_items: Option<Arc<ItemsError>>,
    /// Behind what is here, the peer's half has ended.
    last: bool,
    /// The multiplexer knows it as let go of already.
    released: bool,
}

/// What carries the stream.
enum Line {
    Native { shared: Arc<Shared>, key: Key },
    Classic(ClassicRecv),
}

impl RecvHalf {
    pub(super) fn new(shared: Arc<Shared>, key: Key) -> Self {
        Self::over(Line::Native { shared, key })
    }

    pub(crate) fn classic(half: ClassicRecv) -> Self {
        Self::over(Line::Classic(half))
    }

    fn over(line: Line) -> Self {
        Self {
            line,
            items: None,
            bad_items: None,
            last: false,
            released: false,
        }
    }

    /// Whoever has told the multiplexer that the half is gone says so here.
    pub(super) fn let_go(&mut self) {
        self.released = true;
    }

    /// Ready when there is no point in going on, as [`SendHalf::poll_ended`](super::SendHalf::poll_ended) says; one task at a
    /// time can wait for the end of a stream.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match &self.line {
            Line::Native { shared, key } => poll_ended(shared, *key, cx),
            Line::Classic(half) => half.poll_ended(cx),
        }
    }

    /// When the connection last looked at what had come: for who has waited for a message, about when that came. Known without
    /// a look at the clock. `None`: it is not a native stream.
    pub fn last_heard(&self) -> Option<Instant> {
        match &self.line {
            Line::Native { shared, .. } => Some(shared.heard()),
            Line::Classic(_) => None,
        }
    }

    /// The next message: one MessagePack value, not scanned. `None` when the peer's half has ended properly; asking
    /// again gives the same end, or the same error, again.
    ///
    /// Cancel safe: no message is lost.
    ///
    /// # Errors
    ///
    /// A fault that the peer stated behind its messages, or why the stream ended otherwise.
    pub async fn recv(&mut self) -> Result<Option<Body>, StreamError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// As [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Body>, StreamError>> {
        loop {
            let mut items = match ready!(self.poll_delivery(cx))? {
                Some(Delivery::One(message)) => return Poll::Ready(Ok(Some(message))),
                Some(Delivery::Many(items)) => items,
                None => return Poll::Ready(Ok(None)),
            };
            match items.next() {
                Some(Ok(message)) => {
                    self.items = Some(items);
                    return Poll::Ready(Ok(Some(message.into())));
                }
                Some(Err(error)) => return Poll::Ready(Err(self.bad_items(error))),
                None => {}
            }
        }
    }

    /// As [`recv`](Self::recv), but messages that came in one frame come together, to be taken apart by the reader. Who
    /// finds them malformed says so by [`bad_items`](Self::bad_items).
    pub fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Delivery>, StreamError>> {
        let (shared, key) = match &self.line {
            Line::Native { shared, key } => (shared, *key),
            Line::Classic(half) => {
                return half
                    .poll_recv(cx)
                    .map_ok(|message| message.map(|message| Delivery::One(message.into())));
            }
        };
        if let Some(error) = &self.bad_items {
            return Poll::Ready(Err(StreamError::BadItems(error.clone())));
        }
        if let Some(items) = self.items.take() {
            return Poll::Ready(Ok(Some(Delivery::Many(items))));
        }
        if self.last {
            return Poll::Ready(Ok(None));
        }
        let (received, _replaced) = shared.with(|state| match state.mux.read(key) {
            Received::Pending => (Received::Pending, register(&mut state.wakers(key).recv, cx)),
            Received::Delivery { delivery, last: true } => {
                // Nothing more will be asked for: the half is let go of under the same lock.
                state.mux.release_recv(key);
                (Received::Delivery { delivery, last: true }, None)
            }
            received => (received, None),
        });
        Poll::Ready(match received {
            Received::Pending => return Poll::Pending,
            Received::Delivery { delivery, last } => {
                self.last = last;
                self.released = last;
                Ok(Some(delivery))
            }
            Received::End => Ok(None),
            Received::Failed(error) => Err(error),
        })
    }

    /// The messages of a frame are not what the frame said: resets the stream, and gives the error that it ended with.
    pub fn bad_items(&mut self, error: ItemsError) -> StreamError {
        match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.reset(*key, Code::BAD_MESSAGE)),
            Line::Classic(half) => half.reset(Code::BAD_MESSAGE),
        }
        let error = Arc::new(error);
        self.bad_items = Some(error.clone());
        StreamError::BadItems(error)
    }

    /// Wants no more, and says why. The other half is not concerned.
    pub fn stop(self, code: Code) {
        match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.stop(*key, code)),
            // There is nothing to tell the peer with: what still comes is dropped.
            Line::Classic(_) => {}
        }
    }

    /// Ends both halves at once.
    pub fn reset(self, code: Code) {
        match &self.line {
            Line::Native { shared, key } => shared.with(|state| state.mux.reset(*key, code)),
            Line::Classic(half) => half.reset(code),
        }
    }
}

impl Drop for RecvHalf {
    fn drop(&mut self) {
        if self.released {
            return;
        }
        // A classic half has a drop of its own.
        if let Line::Native { shared, key } = &self.line {
            let _waker = shared.with(|state| {
                state.mux.release_recv(*key);
                state.wakers(*key).recv.take()
            });
        }
    }
}

impl fmt::Debug for RecvHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut named = f.debug_struct("RecvHalf");
        if let Line::Native { key, .. } = &self.line {
            named.field("key", key);
        }
        named.finish_non_exhaustive()
    }
}
