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
use picom_transport::{EndWatch, Incoming, SendError, SendHalf, StreamHandler, Turn};
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
        let now = tokio::time::Instant::now().into_std();
        let Some(handler) = self.router.find(&incoming.method) else {
            count(&self.counters.unknown);
            state(incoming.send, self.router.unknown(&incoming.method));
            return;
        };
        if deadline::passed(incoming.deadline, now) {
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
        let watch = incoming.send.watch_end();
        let (call, args) = Call::new(incoming);
        let span = tracing::debug_span!("call", method = %call.method, peer = %call.peer.address);
        let running = Running {
            stage: Stage::New(handler.clone(), args),
            call,
            watch,
            limits: self.limits,
            counters: self.counters.clone(),
            span,
            _permit: permit,
        };
        running.start(turn);
    }
}

/// A call being answered.
struct Running {
    stage: Stage,
    call: Arc<Call>,
    watch: EndWatch,
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
    /// Polls the handler here and now, if this turn of the connection's driver still has time; most handlers are done
    /// then, and a task for each would cost more than they do.
    fn start(mut self, turn: &mut Turn) {
        // What a waker of no task misses, the first poll on the task finds.
        if turn.inline()
            && self
                .advance(&mut task::Context::from_waker(Waker::noop()))
                .is_ready()
        {
            return;
        }
        tokio::spawn(self);
    }

    fn advance(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let span = self.span.clone();
        let _entered = span.enter();
        match self.poll_answer(cx) {
            Poll::Ready(outcome) => {
                self.finish(outcome);
                Poll::Ready(())
            }
            Poll::Pending => {
                if self.watch.poll_ended(cx).is_pending() {
                    return Poll::Pending;
                }
                count(&self.counters.cancelled);
                tracing::debug!("the call ended before its handler was done");
                self.drop_stage();
                self.release();
                Poll::Ready(())
            }
        }
    }

    fn poll_answer(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        let context = Context::of(self.call.clone());
        let (call, limits, stage) = (&self.call, self.limits, &mut self.stage);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            context.enter(|| {
                if let Stage::New(handler, args) = stage {
                    let answer = handler.answer(std::mem::take(args), Exchange::new(call.clone(), limits));
                    *stage = Stage::Answering(answer);
                }
                match stage {
                    Stage::Answering(answer) => answer.as_mut().poll(cx),
                    Stage::New(..) | Stage::Done => Poll::Pending,
                }
            })
        }));
        polled.unwrap_or_else(|_| {
            count(&self.counters.panicked);
            tracing::warn!(method = %self.call.method, "a handler panicked; its caller is told");
            Poll::Ready(Err(Fault::new(Code::PANIC, "the handler panicked")))
        })
    }

    /// The handler is done: its answer ends the call.
    fn finish(&mut self, outcome: Result<Option<Bytes>, Fault>) {
        // First, so that what the handler held is gone when its caller goes on.
        self.drop_stage();
        let half = self.call.send().take();
        if let Some(half) = half {
            let sent = match outcome {
                Ok(Some(message)) => half.finish_or_fault(message, |error| unsendable(error).into_reply()),
                Ok(None) => half.finish(),
                Err(fault) => half.fault(fault.into_reply()),
            };
            if let Err(error) = sent {
                tracing::debug!(%error, "nobody waits for the answer");
            }
        }
        self.release();
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

    /// Gives the call's slot back. The receiving half goes behind the answer: a caller told to stop before it would take
    /// the call for ended.
    fn release(&self) {
        drop(self.call.send().take());
        drop(self.call.recv().take());
        self.call.end();
    }
}

impl Future for Running {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        self.advance(cx)
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
