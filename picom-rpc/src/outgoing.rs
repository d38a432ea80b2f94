//! The typed stream that goes out: input on the caller's side, items on the handler's.

use crate::context;
use crate::error::{CallError, Subject};
use crate::failure::CallFailure;
use crate::message::Transmit;
use bytes::Bytes;
use futures_core::Stream;
use picom_codec::value;
use picom_transport::{SendError, SendHalf};
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

/// Messages that go out, in order.
///
/// [`send`](Self::send) waits while the other side does not read: at most 64 KiB are in line, and what the peer's credit
/// covers is on its way.
///
/// **Dropped on the caller's side** without [`finish`](Self::finish), the call is reset: what was cut short never looks
/// complete to the handler. **In a handler** the return value ends the stream: `Ok(())` properly, an error with that
/// error; an `Out` kept beyond that sends nothing any more.
pub struct Out<T> {
    half: Half,
    marker: PhantomData<fn(T)>,
}

enum Half {
    /// The input of a call of ours.
    Input(Box<Input>),
    /// The items of a call we answer.
    Items(Arc<context::Call>),
}

struct Input {
    half: Mutex<Option<SendHalf>>,
    /// Held by the one that sends: the half remembers one waiting task.
    sender: tokio::sync::Mutex<()>,
    subject: Subject,
    host: Arc<str>,
}

impl<T> Out<T> {
    pub(crate) fn input(half: SendHalf, subject: Subject, host: Arc<str>) -> Self {
        let input = Input {
            half: Mutex::new(Some(half)),
            sender: tokio::sync::Mutex::new(()),
            subject,
            host,
        };
        Out {
            half: Half::Input(Box::new(input)),
            marker: PhantomData,
        }
    }

    pub(crate) fn items(call: Arc<context::Call>) -> Self {
        Out {
            half: Half::Items(call),
            marker: PhantomData,
        }
    }

    /// Ends the stream properly, behind what was sent. In a handler this comes by itself with `Ok(())`.
    ///
    /// # Errors
    ///
    /// When the other side wants no more or the call has ended; its reply, or the other stream, says why.
    pub fn finish(self) -> Result<(), CallError> {
        let half = self.half().take();
        match half.map_or(Err(SendError::Finished), SendHalf::finish) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.error(CallFailure::Send(error))),
        }
    }

    fn half(&self) -> MutexGuard<'_, Option<SendHalf>> {
        match &self.half {
            Half::Input(input) => input.half.lock().unwrap_or_else(PoisonError::into_inner),
            Half::Items(call) => call.send(),
        }
    }

    async fn send_bytes(&self, message: Bytes) -> Result<(), SendError> {
        let sender = match &self.half {
            Half::Input(input) => &input.sender,
            Half::Items(call) => &call.sender,
        };
        let _turn = sender.lock().await;
        poll_fn(|cx| match &mut *self.half() {
            Some(half) => half.poll_ready(cx),
            None => Poll::Ready(Err(SendError::Finished)),
        })
        .await?;
        match &mut *self.half() {
            Some(half) => half.start_send(message),
            None => Err(SendError::Finished),
        }
    }

    fn error(&self, failure: CallFailure) -> CallError {
        match &self.half {
            Half::Input(input) => CallError::new(input.subject.clone(), failure).at(input.host.clone()),
            Half::Items(call) => CallError::new(
                Subject::Handler {
                    method: call.method.as_str().into(),
                },
                failure,
            )
            .at(call.peer.address.as_str().into()),
        }
    }
}

impl<T: Transmit> Out<T> {
    /// Sends one item. Returns when it is in line, which says nothing of its arrival. Several tasks may send through one
    /// `Out`; their items go out in the order in which they began to wait.
    ///
    /// Cancel safe: dropped before it is ready, the item was not sent.
    ///
    /// # Errors
    ///
    /// When the item cannot be encoded or is over the peer's limit: the stream goes on without it. When the peer wants no
    /// more or the call has ended: nothing more can be sent.
    pub async fn send(&self, item: T) -> Result<(), CallError> {
        // Encoded before the wait: the future then holds bytes, whatever the item holds.
        let message = value::encode(&item).map_err(|error| self.error(CallFailure::Encode(error)))?;
        drop(item);
        self.send_bytes(message)
            .await
            .map_err(|error| self.error(CallFailure::Send(error)))
    }

    /// Sends all items of a stream, one after the other.
    ///
    /// Not cancel safe: dropped before it is ready, an item that came out of the stream may be lost.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); at the first one it stops.
    pub async fn send_all(&self, items: impl Stream<Item = T>) -> Result<(), CallError> {
        let mut items = pin!(items);
        while let Some(item) = poll_fn(|cx| Pin::as_mut(&mut items).poll_next(cx)).await {
            self.send(item).await?;
        }
        Ok(())
    }
}

impl<T> fmt::Debug for Out<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match &self.half {
            Half::Input(input) => &*input.host,
            Half::Items(call) => &call.peer.address,
        };
        f.debug_struct("Out").field("host", &host).finish_non_exhaustive()
    }
}
