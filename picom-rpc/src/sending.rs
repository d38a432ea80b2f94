//! One item on its way out: at once if it is small and there is room, or else when there is.

use crate::error::CallError;
use crate::message::Transmit;
use crate::outgoing::Out;
use picom_codec::Body;
use picom_transport::SendError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// An item on its way into the line; see [`Out::send`].
// Not an `async fn`: it would move the item before it looks at it, and what was just written takes time to move.
#[must_use = "an item is not sent until this is awaited"]
pub struct Sending<'a, T> {
    out: &'a Out<T>,
    /// Encoded and dropped before it waits: then it holds bytes, whatever the item held.
    item: Option<T>,
    counted: bool,
    waiting: Option<Waiting<'a>>,
}

/// What could not go at once, on its way.
type Waiting<'a> = Pin<Box<dyn Future<Output = Result<(), SendError>> + Send + 'a>>;

// The item is never pinned.
impl<T> Unpin for Sending<'_, T> {}

impl<'a, T> Sending<'a, T> {
    #[inline]
    pub(crate) fn new(out: &'a Out<T>, item: T) -> Self {
        Sending {
            out,
            item: Some(item),
            counted: false,
            waiting: None,
        }
    }
}

impl<T: Transmit> Future for Sending<'_, T> {
    type Output = Result<(), CallError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let out = self.out;
        if !self.counted {
            ready!(out.turns().poll_count(cx));
            self.counted = true;
        }
        if let Some(item) = &self.item {
            let sent = out.try_send(item);
            self.item = None;
            match sent {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(not_sent) => match *not_sent {
                    NotSent::Never(error) => return Poll::Ready(Err(error)),
                    NotSent::Yet(message) => self.waiting = Some(Box::pin(out.send_body(message))),
                },
            }
        }
        match &mut self.waiting {
            Some(waiting) => {
                let sent = ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
                Poll::Ready(sent.map_err(|error| out.send_error(error)))
            }
            None => panic!("an item was polled after it had been sent"),
        }
    }
}

impl<T> fmt::Debug for Sending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}

/// Why an item is not sent.
pub(crate) enum NotSent {
    /// It is to be sent by itself, or when there is room.
    Yet(Body),
    /// It cannot be.
    Never(CallError),
}
