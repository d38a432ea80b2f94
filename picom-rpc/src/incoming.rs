//! The typed stream that comes in: replies on the caller's side, input on the handler's.

use crate::client::Reception;
use crate::context;
use crate::error::{CallError, Subject};
use crate::failure::CallFailure;
use crate::message::Receive;
use bytes::Bytes;
use futures_core::Stream;
use picom_codec::{Limits, value};
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
            limits,
            marker: PhantomData,
        }
    }

    pub(crate) fn input(call: Arc<context::Call>, limits: Limits) -> Self {
        In {
            source: Source::Input(call),
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

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, CallError>> {
        let received = match &mut self.source {
            Source::Reply(reception) => ready!(reception.poll_message(cx)),
            Source::Input(call) => {
                let received = match &mut *call.recv() {
                    Some(half) => ready!(half.poll_recv(cx)),
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
            Ok(None) => self.source = Source::Over(None),
            Err(error) => self.source = Source::Over(Some(error.clone())),
        }
        Poll::Ready(received)
    }

    /// What came cannot be used: the stream ends with that, because going on would be a gap.
    fn fail(&mut self, failure: CallFailure) -> CallError {
        let error = match &self.source {
            Source::Reply(reception) => reception.error(failure),
            Source::Input(call) => input_error(call, failure),
            Source::Over(_) => CallError::new(Subject::Handler { method: "".into() }, failure),
        };
        self.source = Source::Over(Some(error.clone()));
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
        poll_fn(|cx| self.poll_item(cx)).await
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, CallError>> {
        let Some(message) = ready!(self.poll_bytes(cx))? else {
            return Poll::Ready(Ok(None));
        };
        let decoded = value::decode(&message, &self.limits);
        Poll::Ready(
            decoded
                .map(Some)
                .map_err(|error| self.fail(CallFailure::Decode(error))),
        )
    }
}

impl<T: Receive> Stream for In<T> {
    type Item = Result<T, CallError>;

    /// As [`next`](In::next); behind an error the stream has ended.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
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
