//! Calls that end in a value: the builder and its future. How attempts are made is `call.rs`.

use super::Client;
use super::call::{Call, Setup, failure_of};
use super::flight::Flight;
use super::options::call_options;
use super::pump::{Pump, PumpError};
use super::reply::Collect;
use crate::error::CallError;
use crate::failure::CallFailure;
use futures_core::Stream;
use picom_transport::StreamError;
use serde::Serialize;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// A call that ends in a value: `.await` it, or set options first. `C` says which value, `E` in what error it fails.
///
/// The arguments are encoded already, so the future holds no reference and is `Send + 'static`. Nothing happens before
/// it is awaited. Dropped before it is ready, the call is cancelled at the peer: its handler is dropped there.
#[must_use = "a call does nothing until it is awaited"]
pub struct Fetch<C, E = CallError> {
    setup: Setup,
    input: Option<Pump>,
    marker: PhantomData<fn() -> (C, E)>,
}

impl<C: Collect, E> Fetch<C, E> {
    pub(super) fn new(setup: Setup) -> Self {
        Fetch {
            setup,
            input: None,
            marker: PhantomData,
        }
    }

    call_options!();

    /// Sends these items behind the arguments, to a method that takes a stream. The stream is polled when the call has been
    /// opened on a connection, not before, and only while the call is awaited. When it ends, the input ends.
    pub fn input<S>(mut self, input: S) -> Self
    where
        S: Stream + Send + 'static,
        S::Item: Serialize,
    {
        self.input = Some(Pump::new(input));
        self
    }
}

impl<C, E> Fetch<C, E> {
    /// The same call, failing in an error of another type: for layers above that have one of their own.
    pub fn with_error<F: From<CallError>>(self) -> Fetch<C, F> {
        Fetch {
            setup: self.setup,
            input: self.input,
            marker: PhantomData,
        }
    }
}

impl<C: Collect, E: From<CallError>> IntoFuture for Fetch<C, E> {
    type Output = Result<C::Output, E>;
    type IntoFuture = Fetching<C, E>;

    fn into_future(self) -> Fetching<C, E> {
        let client = self.setup.client.clone();
        Fetching {
            state: State::New(self.setup),
            client,
            input: self.input,
            reply: C::default(),
            marker: PhantomData,
        }
    }
}

impl<C, E> fmt::Debug for Fetch<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch")
            .field("setup", &self.setup)
            .field("input", &self.input)
            .finish_non_exhaustive()
    }
}

/// A call under way that ends in a value. Dropped, it is cancelled.
#[must_use = "a call does nothing until it is awaited"]
pub struct Fetching<C, E = CallError> {
    state: State,
    client: Client,
    input: Option<Pump>,
    reply: C,
    marker: PhantomData<fn() -> E>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly every call is in the large states; a box would cost each of them"
)]
enum State {
    New(Setup),
    /// Something must be waited for: discovery, a dial, the pause before another attempt.
    Opening(Pin<Box<dyn Future<Output = Opened> + Send>>),
    Flying(Call, Flight),
    Done,
}

impl<C: Collect, E: From<CallError>> Future for Fetching<C, E> {
    type Output = Result<C::Output, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_result(cx).map_err(E::from)
    }
}

impl<C: Collect, E> Fetching<C, E> {
    fn poll_result(&mut self, cx: &mut Context<'_>) -> Poll<Result<C::Output, CallError>> {
        loop {
            // In place: the state of a call under way is some hundred bytes, and this is its every poll.
            if let State::Flying(call, flight) = &mut self.state {
                let landed = ready!(poll_flight(
                    flight,
                    &mut self.input,
                    &mut self.reply,
                    &self.client,
                    cx
                ));
                let next = match landed {
                    Ok(value) => Ok(value),
                    Err(Landing::Final(failure)) => Err(call.rejected(flight.endpoint(), failure)),
                    Err(Landing::Attempt(error)) => {
                        self.state = self.again(error)?;
                        continue;
                    }
                };
                self.state = State::Done;
                return Poll::Ready(next);
            }
            self.state = match std::mem::replace(&mut self.state, State::Done) {
                State::New(setup) => {
                    let ends = self.input.is_none();
                    let default = self.client.config().fetch_timeout;
                    let mut call = Call::begin(setup, default, ends)?;
                    match call.try_open(ends.then_some(&*cx)) {
                        Some(flight) => {
                            self.state = State::Flying(call, flight?);
                            if ends {
                                // The reply wakes the task.
                                return Poll::Pending;
                            }
                            continue;
                        }
                        None => opening(call, Duration::ZERO),
                    }
                }
                State::Opening(mut opening) => match opening.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Opening(opening);
                        return Poll::Pending;
                    }
                    Poll::Ready((call, flight)) => State::Flying(call, flight?),
                },
                State::Flying(..) | State::Done => panic!("a call was polled after it had ended"),
            };
        }
    }

    /// The attempt came to nothing: begins the next, or gives the error of the call.
    fn again(&mut self, error: StreamError) -> Result<State, CallError> {
        let State::Flying(mut call, flight) = std::mem::replace(&mut self.state, State::Done) else {
            return Ok(State::Done);
        };
        let repeatable = self.input.as_ref().is_none_or(Pump::is_repeatable);
        let wait = call.attempt_failed(flight.endpoint(), failure_of(error), repeatable)?;
        drop(flight);
        self.reply = C::default();
        if let Some(input) = &mut self.input {
            input.rewind();
        }
        Ok(match wait.is_zero().then(|| call.try_open(None)).flatten() {
            Some(flight) => State::Flying(call, flight?),
            None => opening(call, wait),
        })
    }
}

fn poll_flight<C: Collect>(
    flight: &mut Flight,
    input: &mut Option<Pump>,
    reply: &mut C,
    client: &Client,
    cx: &mut Context<'_>,
) -> Poll<Result<C::Output, Landing>> {
    if let Some(input) = input
        && let Poll::Ready(Err(error)) = input.poll(&mut flight.send, cx)
    {
        return Poll::Ready(Err(Landing::Final(match error {
            PumpError::Encode(error) => CallFailure::Encode(error),
            PumpError::Send(error) => CallFailure::Send(error),
        })));
    }
    let config = client.config();
    loop {
        match ready!(flight.poll_message(cx)) {
            Ok(Some(message)) => reply.take(message, config).map_err(Landing::Final)?,
            Ok(None) => return Poll::Ready(reply.finish(config).map_err(Landing::Final)),
            Err(error) => return Poll::Ready(Err(Landing::Attempt(error))),
        }
    }
}

type Opened = (Call, Result<Flight, CallError>);

/// How an attempt ended without a value.
enum Landing {
    /// The stream did not end properly: perhaps another attempt is made.
    Attempt(StreamError),
    /// Another attempt would end the same.
    Final(CallFailure),
}

fn opening(mut call: Call, wait: Duration) -> State {
    State::Opening(Box::pin(async move {
        let flight = call.open(wait).await;
        (call, flight)
    }))
}

impl<C, E> fmt::Debug for Fetching<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::New(_) => "new",
            State::Opening(_) => "opening",
            State::Flying(..) => "flying",
            State::Done => "done",
        };
        f.debug_struct("Fetching")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
