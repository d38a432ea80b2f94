//! The seam between a call and the code that answers it, and the four shapes that code comes in. Which handler a call gets
//! is `router.rs`; how it is run is `dispatch.rs`.

use crate::context::Call;
use crate::fault::Fault;
use crate::incoming::In;
use crate::message::{Receive, Transmit};
use crate::outgoing::Out;
use futures_core::Stream;
use picom_codec::{Body, Code, Limits, value};
use pin_project_lite::pin_project;
use std::fmt;
use std::future::{self, Future};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What a handler does, as a future: it ends with the last message of the reply, with none, or with an error. It is
/// dropped when the call ends first: the caller went away, its time has passed, or the connection was lost.
pub type Answer = Pin<Box<dyn Future<Output = Result<Option<Body>, Fault>> + Send>>;

/// Answers the calls of one method. The shapes of [`Methods`](super::Methods) implement it for async closures; implement
/// it yourself to answer without types, as a relay does.
pub trait Handler: Send + Sync + 'static {
    /// Begins to answer. `args` are one message, not scanned yet: [`value::decode_body`] does that.
    ///
    /// It may run on the task that drives a connection, so it must not block; work belongs into the future. Panics here
    /// and in the future end this call with a fault and nothing else.
    fn answer(&self, args: Body, exchange: Exchange) -> Answer;
}

/// The streams of a call, for its handler.
#[derive(Clone)]
pub struct Exchange {
    call: Arc<Call>,
    limits: Limits,
}

impl Exchange {
    pub(super) fn new(call: Arc<Call>, limits: Limits) -> Self {
        Exchange { call, limits }
    }

    /// The caller's input behind the arguments. Take it once: two would share the messages.
    pub fn input<T: Receive>(&self) -> In<T> {
        In::input(self.call.clone(), self.limits)
    }

    /// Items for the caller, before the value the handler ends with.
    pub fn output<T: Transmit>(&self) -> Out<T> {
        Out::items(self.call.clone())
    }

    /// What [`value::decode_body`] should be given.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("method", &self.call.method)
            .finish_non_exhaustive()
    }
}

/// A closure of one of the shapes. `M` carries the types of its arguments and results.
pub(super) struct Shape<F, M> {
    work: F,
    marker: PhantomData<fn() -> M>,
}

impl<F, M> Shape<F, M> {
    pub(super) fn new(work: F) -> Self {
        Shape {
            work,
            marker: PhantomData,
        }
    }
}

/// One value in, one out.
pub(super) struct Unary<A, T>(PhantomData<(A, T)>);
/// One value in, a stream out.
pub(super) struct Streaming<A, S>(PhantomData<(A, S)>);
/// One value and a stream in, one value out.
pub(super) struct Collecting<A, I, T>(PhantomData<(A, I, T)>);
/// A stream in each direction.
pub(super) struct Bidirectional<A, I, O>(PhantomData<(A, I, O)>);

impl<F, Fut, A, T> Handler for Shape<F, Unary<A, T>>
where
    F: Fn(A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, Fault>> + Send + 'static,
    A: Receive,
    T: Transmit,
{
    fn answer(&self, args: Body, exchange: Exchange) -> Answer {
        match decode(&args, &exchange) {
            Ok(args) => {
                let work = (self.work)(args);
                let end = |value| encode(&value);
                Box::pin(Ending { work, end })
            }
            Err(fault) => refused(fault),
        }
    }
}

impl<F, Fut, A, S, T> Handler for Shape<F, Streaming<A, S>>
where
    F: Fn(A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<S, Fault>> + Send + 'static,
    S: Stream<Item = Result<T, Fault>> + Send + 'static,
    A: Receive,
    T: Transmit,
{
    fn answer(&self, args: Body, exchange: Exchange) -> Answer {
        match decode(&args, &exchange) {
            Ok(args) => {
                let work = (self.work)(args);
                Box::pin(async move {
                    let output = exchange.output::<T>();
                    output.forward(work.await?).await?;
                    Ok(None)
                })
            }
            Err(fault) => refused(fault),
        }
    }
}

impl<F, Fut, A, I, T> Handler for Shape<F, Collecting<A, I, T>>
where
    F: Fn(A, In<I>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, Fault>> + Send + 'static,
    A: Receive,
    I: Receive,
    T: Transmit,
{
    fn answer(&self, args: Body, exchange: Exchange) -> Answer {
        match decode(&args, &exchange) {
            Ok(args) => {
                let work = (self.work)(args, exchange.input());
                let end = |value| encode(&value);
                Box::pin(Ending { work, end })
            }
            Err(fault) => refused(fault),
        }
    }
}

impl<F, Fut, A, I, O> Handler for Shape<F, Bidirectional<A, I, O>>
where
    F: Fn(A, In<I>, Out<O>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Fault>> + Send + 'static,
    A: Receive,
    I: Receive,
    O: Transmit,
{
    fn answer(&self, args: Body, exchange: Exchange) -> Answer {
        match decode(&args, &exchange) {
            Ok(args) => {
                let work = (self.work)(args, exchange.input(), exchange.output());
                let end = |()| Ok(None);
                Box::pin(Ending { work, end })
            }
            Err(fault) => refused(fault),
        }
    }
}

fn decode<A: Receive>(args: &Body, exchange: &Exchange) -> Result<A, Fault> {
    value::decode_body(args, exchange.limits()).map_err(|error| {
        let text = format!(
            "the arguments of {:?} are not what it takes: {error}",
            exchange.call.method.as_str()
        );
        Fault::unstarted(Code::BAD_ARGUMENT, text).do_not_retry()
    })
}

pin_project! {
    /// A handler's future and what becomes of its value. (An `async` block would hold the future twice: as it was captured,
    /// and as it is awaited.)
    struct Ending<Fut, E> {
        #[pin]
        work: Fut,
        end: E,
    }
}

impl<Fut, T, E> Future for Ending<Fut, E>
where
    Fut: Future<Output = Result<T, Fault>>,
    E: Fn(T) -> Result<Option<Body>, Fault>,
{
    type Output = Result<Option<Body>, Fault>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        Poll::Ready((this.end)(ready!(this.work.poll(cx))?))
    }
}

fn encode<T: Transmit>(value: &T) -> Result<Option<Body>, Fault> {
    Ok(Some(value::encode_body(value)?))
}

fn refused(fault: Fault) -> Answer {
    Box::pin(future::ready(Err(fault)))
}
