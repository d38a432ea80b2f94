//! Runs a handler for each call that comes: inline first, on a task of its own when that is not enough, dropped when the
//! call ends, contained when it panics.

use super::handler::{Answer, Exchange, Handler};
use super::limit::{Limit, Permit};
use super::router::Router;
use crate::context::{Call, Context};
use crate::deadline;
use crate::fault::Fault;
use bytes::Bytes;
use picom_codec::{Code, Limits};
use picom_transport::{EndWatch, Ending, Incoming, SendError, SendHalf, StreamHandler, Turn};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll, Waker};
use tracing::Span;

/// What happened to calls so far. Those under way are counted by the limit.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) started: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) overdue: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) panicked: AtomicU64,
    pub(super) cancelled: AtomicU64,
}

/// See the module.
pub(super) struct Dispatch {
    router: Router,
    limit: Arc<Limit>,
    limits: Limits,
    counters: Arc<Counters>,
}

impl Dispatch {
    pub(super) fn new(router: Router, limit: Arc<Limit>, limits: Limits, counters: Arc<Counters>) -> Self {
        Dispatch {
            router,
            limit,
            limits,
            counters,
        }
    }
}

impl StreamHandler for Dispatch {
    fn handle(&self, incoming: Incoming, turn: &mut Turn) {
        let Some(handler) = self.router.find(&incoming.method) else {
            count(&self.counters.unknown);
            state(incoming.send, self.router.unknown(&incoming.method));
            return;
        };
        let inline = turn.inline();
        if deadline::passed(incoming.deadline, turn.now()) {
            count(&self.counters.overdue);
            let fault = Fault::unstarted(Code::DEADLINE, "the time of the call had passed before it began");
            state(incoming.send, fault.do_not_retry());
            return;
        }
        let Some(permit) = self.limit.take() else {
            count(&self.counters.refused);
            incoming.send.reset(Code::REFUSED);
            return;
        };
        count(&self.counters.started);
        let (call, args) = Call::new(incoming);
        let mut running = Running {
            stage: Stage::New(handler.clone(), args),
            watch: None,
            limits: self.limits,
            counters: self.counters.clone(),
            span: tracing::debug_span!("call", method = %call.method, peer = %call.peer.address),
            call,
            _permit: permit,
        };
        // Most handlers are done at their first poll, and a task for each would cost more than they do. What a waker of no
        // task misses, the first poll on the task finds.
        if inline && running.poll_once(&mut task::Context::from_waker(Waker::noop())) {
            return;
        }
        tokio::spawn(running);
    }
}

/// A call being answered.
struct Running {
    stage: Stage,
    call: Arc<Call>,
    /// Tells of the end of the call, once its handler has been pending on a task of its own.
    watch: Option<EndWatch>,
    limits: Limits,
    counters: Arc<Counters>,
    span: Span,
    /// Dropped last: the place is free when the handler is gone.
    _permit: Permit,
}

enum Stage {
    New(Arc<dyn Handler>, Bytes),
    Answering(Answer),
    Done,
}

impl Running {
    /// Polls the handler. True when it is done and its answer is in line.
    fn poll_once(&mut self, cx: &mut task::Context<'_>) -> bool {
        // A span that nobody listens to is not worth two handles of it.
        let span = (!self.span.is_disabled()).then(|| self.span.clone());
        let _entered = span.as_ref().map(Span::enter);
        match self.poll_answer(cx) {
            Poll::Ready(outcome) => {
                self.finish(outcome);
                true
            }
            Poll::Pending => false,
        }
    }

    fn poll_answer(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        let context = Context::of(self.call.clone());
        let (call, limits, stage) = (&self.call, self.limits, &mut self.stage);
        let mut outcome = Poll::Pending;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            context.enter(|| {
                if let Stage::New(handler, args) = stage {
                    let answer = handler.answer(std::mem::take(args), Exchange::new(call.clone(), limits));
                    *stage = Stage::Answering(answer);
                }
                if let Stage::Answering(answer) = stage {
                    outcome = answer.as_mut().poll(cx);
                }
                if outcome.is_ready() {
                    // Here, so that what the handler held is gone when its caller goes on.
                    *stage = Stage::Done;
                }
            })
        }));
        if polled.is_err() {
            count(&self.counters.panicked);
            if outcome.is_pending() {
                tracing::warn!(method = %self.call.method, "a handler panicked; its caller is told");
                self.drop_stage();
                return Poll::Ready(Err(Fault::new(Code::PANIC, "the handler panicked")));
            }
            tracing::warn!(method = %self.call.method, "a handler panicked while it was dropped");
        }
        outcome
    }

    /// The handler is done: its answer ends the call, and the call's slot is free.
    fn finish(&mut self, outcome: Result<Option<Bytes>, Fault>) {
        let (send, recv) = self.call.take_halves();
        let ending = match outcome {
            Ok(message) => Ending::Reply(message),
            Err(fault) => Ending::Fault(fault.into_reply()),
        };
        let sent = match (send, recv) {
            (Some(send), Some(recv)) => send.conclude(recv, ending, |error| unsendable(error).into_reply()),
            // The handler ended its output itself: what it returns goes nowhere.
            _ => Ok(()),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "nobody waits for the answer");
        }
        self.call.end();
    }

    /// Drops what the handler left. Destructors of users may panic: not on the task that drives the connection.
    fn drop_stage(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Done);
        let context = Context::of(self.call.clone());
        if catch_unwind(AssertUnwindSafe(|| context.enter(|| drop(stage)))).is_err() {
            count(&self.counters.panicked);
            tracing::warn!(method = %self.call.method, "a handler panicked while it was dropped");
        }
    }

    /// Gives the call's slot back. The receiving half goes behind the sending one: a caller told to stop before its answer
    /// would take the call for ended.
    fn release(&self) {
        let (send, recv) = self.call.take_halves();
        drop(send);
        drop(recv);
        self.call.end();
    }
}

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let running = &mut *self;
        if running.poll_once(cx) {
            return Poll::Ready(());
        }
        let watch = match &running.watch {
            Some(watch) => watch,
            None => running.watch.insert(running.call.watch_end()),
        };
        if watch.poll_ended(cx).is_pending() {
            return Poll::Pending;
        }
        count(&running.counters.cancelled);
        tracing::debug!(parent: &running.span, "the call ended before its handler was done");
        running.drop_stage();
        running.release();
        Poll::Ready(())
    }
}

impl Drop for Running {
    /// The runtime drops its tasks at its end; whoever waits for the end of the call learns it then too.
    fn drop(&mut self) {
        if !matches!(self.stage, Stage::Done) {
            self.drop_stage();
            self.release();
        }
    }
}

/// What the caller is told whose reply cannot be sent.
fn unsendable(error: &SendError) -> Fault {
    let fault = match error {
        SendError::TooLarge { size, limit } => {
            let text = format!("the reply takes {size} bytes, the caller takes {limit}");
            Fault::new(Code::MESSAGE_TOO_LARGE, text)
        }
        SendError::Unreadable(reason) => {
            Fault::internal(format!("the caller cannot read the reply: {reason}"))
        }
        error => Fault::internal(error.to_string()),
    };
    fault.do_not_retry()
}

fn state(half: SendHalf, fault: Fault) {
    match half.fault(fault.into_reply()) {
        // The caller has gone: it needs no answer.
        Ok(()) | Err(SendError::Ended(_) | SendError::Stopped { .. } | SendError::Finished) => {}
        Err(error) => tracing::debug!(%error, "a fault could not be sent"),
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
