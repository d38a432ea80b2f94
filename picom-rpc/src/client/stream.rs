//! Calls that end in streams: the builders, and the caller's side of the reply.

use super::call::{Call, Tried, failure_of};
use super::flight::Flight;
use super::options::call_options;
use super::pump::{Pump, PumpError};
use crate::error::{CallError, Subject};
use crate::failure::CallFailure;
use crate::incoming::In;
use crate::message::{Receive, Transmit};
use crate::outgoing::Out;
use futures_core::Stream;
use picom_codec::ItemsError;
use picom_transport::Delivery;
use serde::Serialize;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A call that is a stream in both directions: awaited, it gives the sender of the input and the receiver of the reply.
///
/// It is ready when the call has been opened on a connection; that the handler has begun is not waited for. Dropping
/// either half has a meaning: see [`Out`] and [`In`]. Attempts are repeated until it is open, not afterwards.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct StreamCall<I, O, E = CallError> {
    call: Result<Call, CallError>,
    marker: PhantomData<fn(I) -> (O, E)>,
}

/// A call being opened. A stream lives long enough for a box not to matter.
type Opening<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A call whose reply is a stream, and whose input, if there is any, is given with it: awaited, it gives the receiver.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct ReceiveCall<O, E = CallError> {
    call: Result<Call, CallError>,
    input: Option<Box<Pump>>,
    marker: PhantomData<fn() -> (O, E)>,
}

impl<I: Transmit, O: Receive, E> StreamCall<I, O, E> {
    pub(super) fn new(call: Result<Call, CallError>) -> Self {
        StreamCall {
            call,
            marker: PhantomData,
        }
    }

    fn call_mut(&mut self) -> Option<&mut Call> {
        self.call.as_mut().ok()
    }

    call_options!();

    /// The same call, failing in an error of another type: for layers above that have one of their own. The streams it
    /// gives keep theirs.
    pub fn with_error<F: From<CallError>>(self) -> StreamCall<I, O, F> {
        StreamCall {
            call: self.call,
            marker: PhantomData,
        }
    }

    /// There is no input beyond the arguments: gives the receiver alone.
    pub fn receive(self) -> ReceiveCall<O, E> {
        ReceiveCall {
            call: self.call,
            input: None,
            marker: PhantomData,
        }
    }

    /// Sends these items as input and gives the receiver alone. The items are polled while the receiver is, not by
    /// themselves, and not before the call has been opened on a connection.
    pub fn input<S>(self, input: S) -> ReceiveCall<O, E>
    where
        S: Stream + Send + 'static,
        S::Item: Serialize,
    {
        ReceiveCall {
            call: self.call,
            input: Some(Pump::new(input)),
            marker: PhantomData,
        }
    }
}

impl<O: Receive, E> ReceiveCall<O, E> {
    fn call_mut(&mut self) -> Option<&mut Call> {
        self.call.as_mut().ok()
    }

    call_options!();
}

impl<I: Transmit, O: Receive, E: From<CallError> + Send + 'static> IntoFuture for StreamCall<I, O, E> {
    type Output = Result<(Out<I>, In<O>), E>;
    type IntoFuture = Opening<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut call = self.call?;
            let limits = call.config().limits;
            let (subject, mut flight) = open(&mut call, false).await?;
            let host = flight.endpoint().target.authority.clone();
            let ended = || CallError::new(subject.clone(), CallFailure::Ended);
            let half = flight.send.take().ok_or_else(ended)?;
            let sender = Out::input(half, subject.clone(), host);
            let reception = Reception {
                flight,
                subject,
                input: None,
            };
            Ok((sender, In::reply(reception, limits)))
        })
    }
}

impl<O: Receive, E: From<CallError> + Send + 'static> IntoFuture for ReceiveCall<O, E> {
    type Output = Result<In<O>, E>;
    type IntoFuture = Opening<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let mut call = self.call?;
            let limits = call.config().limits;
            let (subject, flight) = open(&mut call, self.input.is_none()).await?;
            let reception = Reception {
                flight,
                subject,
                input: self.input,
            };
            Ok(In::reply(reception, limits))
        })
    }
}

async fn open(call: &mut Call, ends: bool) -> Result<(Subject, Flight), CallError> {
    call.begin(call.config().stream_timeout, ends, false)?;
    let flight = match call.try_open(None)? {
        Tried::Opened(flight) => flight,
        Tried::Must(wait) => call.open(wait).await?,
    };
    Ok((call.subject(), flight))
}

/// The caller's side of a reply that is read as a stream.
#[derive(Debug)]
pub(crate) struct Reception {
    flight: Flight,
    subject: Subject,
    input: Option<Box<Pump>>,
}

impl Reception {
    pub(crate) fn host(&self) -> &str {
        &self.flight.endpoint().target.authority
    }

    /// Whether there is nothing to be done for the input before an item of the reply is taken.
    #[inline]
    pub(crate) fn input_is_quiet(&self, cx: &Context<'_>) -> bool {
        self.input.as_ref().is_none_or(|input| input.is_quiet(cx.waker()))
    }

    /// Sends what can be sent of the input. An error of it is one of the call.
    #[inline]
    pub(crate) fn pump(&mut self, cx: &mut Context<'_>) -> Result<(), CallError> {
        match &mut self.input {
            None => Ok(()),
            Some(_) => self.pump_input(cx),
        }
    }

    fn pump_input(&mut self, cx: &mut Context<'_>) -> Result<(), CallError> {
        if let Some(input) = &mut self.input
            && let Poll::Ready(pumped) = input.poll(&mut self.flight.send, cx)
        {
            self.input = None;
            pumped.map_err(|error| {
                self.error(match error {
                    PumpError::Encode(error) => CallFailure::Encode(error),
                    PumpError::Send(error) => CallFailure::Send(error),
                })
            })?;
        }
        Ok(())
    }

    /// What came next of the reply. To be asked behind [`pump`](Self::pump).
    pub(crate) fn poll_delivery(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Delivery>, CallError>> {
        let received = ready!(self.flight.poll_delivery(cx));
        Poll::Ready(received.map_err(|error| self.error(failure_of(error))))
    }

    /// The messages that came together are malformed.
    pub(crate) fn bad_items(&mut self, error: ItemsError) -> CallError {
        let error = self.flight.bad_items(error);
        self.error(failure_of(error))
    }

    pub(crate) fn error(&self, failure: CallFailure) -> CallError {
        let host: Arc<str> = self.flight.endpoint().target.authority.clone();
        let opened = matches!(failure, CallFailure::Encode(_));
        let error = CallError::new(self.subject.clone(), failure).at(host);
        if opened {
            error.with_outcome(picom_transport::Outcome::MaybeExecuted)
        } else {
            error
        }
    }
}
