//! Calls that end in a value: the builder and its future. How attempts are made is `call.rs`.

use super::call::{Call, Tried, Wait, failure_of};
use super::config::ClientConfig;
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
    /// Made as it will be polled: it is large, and to move what was just written takes time.
    fetching: Fetching<C, E>,
}

impl<C: Collect, E> Fetch<C, E> {
    #[inline]
    pub(super) fn new(call: Call) -> Self {
        Fetch {
            fetching: Fetching {
                call: Some(call),
                state: State::New,
                input: None,
                reply: C::default(),
                marker: PhantomData,
            },
        }
    }

    /// One that cannot even begin.
    #[cold]
    pub(super) fn failed(error: CallError) -> Self {
        Fetch {
            fetching: Fetching {
                call: None,
                state: State::Failed(error),
                input: None,
                reply: C::default(),
                marker: PhantomData,
            },
        }
    }

    fn call_mut(&mut self) -> Option<&mut Call> {
        self.fetching.call.as_mut()
    }

    call_options!();

    /// Sends these items behind the arguments, to a method that takes a stream. The stream is polled when the call has been
    /// opened on a connection, not before, and only while the call is awaited. When it ends, the input ends.
    pub fn input<S>(mut self, input: S) -> Self
    where
        S: Stream + Send + 'static,
        S::Item: Serialize,
    {
        self.fetching.input = Some(Pump::new(input));
        self
    }
}

impl<C: Collect, E: From<CallError>> IntoFuture for Fetch<C, E> {
    type Output = Result<C::Output, E>;
    type IntoFuture = Fetching<C, E>;

    #[inline]
    fn into_future(self) -> Fetching<C, E> {
        self.fetching
    }
}

impl<C, E> fmt::Debug for Fetch<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch")
            .field("call", &self.fetching.call)
            .field("input", &self.fetching.input)
            .finish_non_exhaustive()
    }
}

/// A call under way that ends in a value. Dropped, it is cancelled.
#[must_use = "a call does nothing until it is awaited"]
pub struct Fetching<C, E = CallError> {
    /// Lent to the future that opens, while there is one.
    call: Option<Call>,
    state: State,
    input: Option<Box<Pump>>,
    reply: C,
    marker: PhantomData<fn() -> E>,
}

enum State {
    /// It cannot even begin.
    Failed(CallError),
    New,
    /// Something must be waited for: discovery, a dial, the pause before another attempt.
    Opening(Pin<Box<dyn Future<Output = Opened> + Send>>),
    Flying(Flight),
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
            match (&mut self.state, &mut self.call) {
                (State::Flying(flight), Some(call)) => {
                    let (input, reply) = (&mut self.input, &mut self.reply);
                    let landed = ready!(poll_flight(flight, input, reply, call.config(), cx));
                    let result = match landed {
                        Ok(value) => Ok(value),
                        Err(Landing::Final(failure)) => Err(call.rejected(flight.endpoint(), failure)),
                        Err(Landing::Attempt(error)) => {
                            self.state = self.again(error)?;
                            continue;
                        }
                    };
                    self.state = State::Done;
                    return Poll::Ready(result);
                }
                (State::New, Some(call)) => {
                    let ends = self.input.is_none();
                    call.begin(call.config().fetch_timeout, ends, true)?;
                    match call.try_open(ends.then_some(&*cx))? {
                        Tried::Opened(flight) => {
                            self.state = State::Flying(flight);
                            if ends {
                                // The reply wakes the task.
                                return Poll::Pending;
                            }
                        }
                        Tried::Must(wait) => self.state = self.opening(wait),
                    }
                }
                (State::Opening(opening), _) => {
                    let (call, flight) = ready!(opening.as_mut().poll(cx));
                    self.call = Some(call);
                    self.state = State::Done;
                    self.state = State::Flying(flight?);
                }
                _ => match std::mem::replace(&mut self.state, State::Done) {
                    State::Failed(error) => return Poll::Ready(Err(error)),
                    _ => panic!("a call was polled after it had ended"),
                },
            }
        }
    }

    /// The attempt came to nothing: begins the next, or gives the error of the call.
    fn again(&mut self, error: StreamError) -> Result<State, CallError> {
        let (State::Flying(flight), Some(call)) =
            (std::mem::replace(&mut self.state, State::Done), &mut self.call)
        else {
            return Ok(State::Done);
        };
        let wait = match error {
            // It waited where nothing moved: no attempt was made.
            StreamError::NoSlot => {
                flight.endpoint().forget_connection();
                Duration::ZERO
            }
            error => {
                let repeatable = self.input.as_ref().is_none_or(|input| input.is_repeatable());
                call.attempt_failed(flight.endpoint(), failure_of(error), repeatable)?
            }
        };
        drop(flight);
        self.reply = C::default();
        if let Some(input) = &mut self.input {
            input.rewind();
        }
        let tried = match wait {
            Duration::ZERO => call.try_open(None)?,
            _ => Tried::Must(Wait::Span(wait)),
        };
        match tried {
            Tried::Opened(flight) => Ok(State::Flying(flight)),
            Tried::Must(wait) => Ok(self.opening(wait)),
        }
    }

    /// Lends the call to a future that waits for what must be waited for.
    fn opening(&mut self, wait: Wait) -> State {
        let Some(mut call) = self.call.take() else {
            return State::Done;
        };
        State::Opening(Box::pin(async move {
            let flight = call.open(wait).await;
            (call, flight)
        }))
    }
}

fn poll_flight<C: Collect>(
    flight: &mut Flight,
    input: &mut Option<Box<Pump>>,
    reply: &mut C,
    config: &ClientConfig,
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

impl<C, E> fmt::Debug for Fetching<C, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Failed(_) => "failed",
            State::New => "new",
            State::Opening(_) => "opening",
            State::Flying(..) => "flying",
            State::Done => "done",
        };
        f.debug_struct("Fetching")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
