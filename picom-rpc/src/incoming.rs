//! The typed stream that comes in: replies on the caller's side, input on the handler's.

use crate::client::Reception;
use crate::context;
use crate::error::{CallError, Subject};
use crate::failure::CallFailure;
use crate::message::Receive;
use futures_core::Stream;
use picom_codec::{ItemError, Items, ItemsError, Limits, value};
use picom_transport::{Delivery, StreamError};
use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Messages that come in, in order, without gaps or repeats: until the proper end, or an error.
///
/// Read it with [`next`](Self::next), or as a `futures` stream of `Result`s. Nothing is read ahead beyond the credit the
/// peer has: who does not read slows the sender down.
///
/// **Dropped on the caller's side** before the end, the call is cancelled: the handler is dropped. **Dropped in a
/// handler**, nothing happens yet: what the caller still sends is not read, and the caller is told to stop when the
/// handler has answered.
pub struct In<T> {
    source: Source,
    /// The rest of the messages that came together last.
    items: Option<Box<Items>>,
    limits: Limits,
    marker: PhantomData<fn() -> T>,
}

enum Source {
    /// The reply to a call of ours.
    Reply(Box<Reception>),
    /// The input of a call we answer.
    Input(Arc<context::Call>),
    /// It is over, and how.
    Over(Option<CallError>),
}

impl<T> In<T> {
    pub(crate) fn reply(reception: Reception, limits: Limits) -> Self {
        In {
            source: Source::Reply(Box::new(reception)),
            items: None,
            limits,
            marker: PhantomData,
        }
    }

    pub(crate) fn input(call: Arc<context::Call>, limits: Limits) -> Self {
        In {
            source: Source::Input(call),
            items: None,
            limits,
            marker: PhantomData,
        }
    }

    /// The host and port at the other end; `None` once it is over.
    pub fn host(&self) -> Option<&str> {
        match &self.source {
            Source::Reply(reception) => Some(reception.host()),
            Source::Input(call) => Some(&call.peer.address),
            Source::Over(_) => None,
        }
    }

    /// What the call itself has to do while its reply is read.
    #[inline]
    fn pump(&mut self, cx: &mut Context<'_>) -> Result<(), CallError> {
        if let Source::Reply(reception) = &mut self.source
            && let Err(error) = reception.pump(cx)
        {
            self.end(Some(error.clone()));
            return Err(error);
        }
        Ok(())
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Delivery>, CallError>> {
        let received = match &mut self.source {
            Source::Reply(reception) => ready!(reception.poll_delivery(cx)),
            Source::Input(call) => {
                let received = match &mut *call.recv() {
                    Some(half) => ready!(half.poll_delivery(cx)),
                    // The handler has answered, and this was carried out of it.
                    None => Ok(None),
                };
                received.map_err(|error| input_error(call, CallFailure::Stream(error)))
            }
            Source::Over(None) => return Poll::Ready(Ok(None)),
            Source::Over(Some(error)) => return Poll::Ready(Err(error.clone())),
        };
        match &received {
            Ok(Some(_)) => {}
            Ok(None) => self.end(None),
            Err(error) => self.end(Some(error.clone())),
        }
        Poll::Ready(received)
    }

    fn end(&mut self, error: Option<CallError>) {
        self.source = Source::Over(error);
        self.items = None;
    }

    /// Messages that came together are malformed: so much for the stream.
    #[cold]
    fn bad_items(&mut self, error: ItemsError) -> CallError {
        let error = match &mut self.source {
            Source::Reply(reception) => reception.bad_items(error),
            Source::Input(call) => {
                let error = match &mut *call.recv() {
                    Some(half) => half.bad_items(error),
                    None => StreamError::BadItems(Arc::new(error)),
                };
                input_error(call, CallFailure::Stream(error))
            }
            Source::Over(_) => return self.fail(CallFailure::Stream(StreamError::BadItems(Arc::new(error)))),
        };
        self.end(Some(error.clone()));
        error
    }

    /// What came cannot be used: the stream ends with that, because going on would be a gap.
    fn fail(&mut self, failure: CallFailure) -> CallError {
        let error = match &self.source {
            Source::Reply(reception) => reception.error(failure),
            Source::Input(call) => input_error(call, failure),
            Source::Over(_) => CallError::new(Subject::Handler { method: "".into() }, failure),
        };
        self.end(Some(error.clone()));
        error
    }
}

impl<T: Receive> In<T> {
    /// The next message; `None` at the proper end. Asking again behind the end gives the end again, and behind an error
    /// the same error.
    ///
    /// Cancel safe: no message is lost.
    ///
    /// # Errors
    ///
    /// On the caller's side: the fault the handler stated, or why the stream ended otherwise. In a handler: the caller
    /// went away (the handler is about to be dropped), or sent something that is not a `T`; returned with `?` the caller
    /// gets it as its own bad argument. A message that does not decode ends the stream.
    pub async fn next(&mut self) -> Result<Option<T>, CallError> {
        poll_fn(|cx| {
            // Handed on as it was made, here and in `poll_next`: what was just made takes time to move.
            if let Some(items) = self.at_hand(cx)
                && let Ok(item) = items.decode_quickly()
            {
                return Poll::Ready(Ok(Some(item)));
            }
            self.poll_item(cx)
        })
        .await
    }

    /// The messages that came together, if there is one left and the call itself has nothing to do before it is taken. Input
    /// goes on as soon as it can: what feeds it may wait for that before it asks for the next.
    #[inline(always)]
    fn at_hand(&mut self, cx: &Context<'_>) -> Option<&mut Items> {
        if let Source::Reply(reception) = &self.source
            && !reception.input_is_quiet(cx)
        {
            return None;
        }
        self.items.as_deref_mut().filter(|items| items.remaining() > 0)
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, CallError>> {
        self.pump(cx)?;
        loop {
            if let Some(items) = &mut self.items {
                match items.decode_next(&self.limits) {
                    Some(Ok(item)) => return Poll::Ready(Ok(Some(item))),
                    Some(Err(ItemError::Items(error))) => return Poll::Ready(Err(self.bad_items(error))),
                    Some(Err(ItemError::Value(error))) => {
                        return Poll::Ready(Err(self.fail(CallFailure::Decode(error))));
                    }
                    None => self.items = None,
                }
            }
            match ready!(self.poll_delivery(cx))? {
                None => return Poll::Ready(Ok(None)),
                Some(Delivery::One(message)) => {
                    let decoded = value::decode_body(&message, &self.limits);
                    return Poll::Ready(
                        decoded
                            .map(Some)
                            .map_err(|error| self.fail(CallFailure::Decode(error))),
                    );
                }
                Some(Delivery::Many(mut items)) => {
                    items.tighten(&self.limits);
                    self.items = Some(items);
                }
            }
        }
    }
}

impl<T: Receive> Stream for In<T> {
    type Item = Result<T, CallError>;

    /// As [`next`](In::next); behind an error the stream has ended.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(items) = self.at_hand(cx)
            && let Ok(item) = items.decode_quickly()
        {
            return Poll::Ready(Some(Ok(item)));
        }
        if let Source::Over(_) = self.source {
            return Poll::Ready(None);
        }
        self.poll_item(cx).map(Result::transpose)
    }
}

impl<T> fmt::Debug for In<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("In")
            .field("host", &self.host())
            .finish_non_exhaustive()
    }
}

fn input_error(call: &context::Call, failure: CallFailure) -> CallError {
    CallError::new(
        Subject::Handler {
            method: call.method.as_str().into(),
        },
        failure,
    )
    .at(call.peer.address.as_str().into())
}
