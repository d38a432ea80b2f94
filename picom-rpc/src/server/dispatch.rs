//! Runs a handler for each call that comes: inline first, on a task of its own when that is not enough or the call may take
//! long, dropped when the call ends, contained when it panics.

use super::handler::{Answer, Exchange, Handler};
use super::limit::Limit;
use super::router::{Route, Router};
use crate::context::{Call, Context};
use crate::deadline;
use crate::fault::Fault;
use picom_codec::{Body, Code, Limits};
use picom_transport::{Ending, Incoming, RecvHalf, SendError, SendHalf, StreamHandler, Turn};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{self, Poll, Waker};
use tokio::time;
use tracing::Span;

/// Calls with longer args are not answered on the task that drives the connection: to read them, and even to give their
/// memory back (milliseconds for 64 MiB), would hold up the small ones.
const LIGHT: usize = 1024 * 1024;

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
pub(super) struct Dispatch(Arc<Desk>);

/// What all calls of a service share.
struct Desk {
    router: Router,
    limit: Arc<Limit>,
    limits: Limits,
    counters: Arc<Counters>,
}

impl Dispatch {
    pub(super) fn new(router: Router, limit: Arc<Limit>, limits: Limits, counters: Arc<Counters>) -> Self {
        Dispatch(Arc::new(Desk {
            router,
            limit,
            limits,
            counters,
        }))
    }
}

impl StreamHandler for Dispatch {
    fn handle(&self, incoming: Incoming, turn: &mut Turn) {
        let polled = self.0.begin(incoming, turn);
        // Whatever came of it: the time of one call is not to be taken for that of the next.
        let took = turn.lap();
        if let Some(route) = polled {
            route.pace.took(took);
        }
    }
}

impl Desk {
    /// Refuses the call, polls its handler or gives it a task; says whose handler was polled.
    fn begin(self: &Arc<Self>, incoming: Incoming, turn: &Turn) -> Option<&Route> {
        let Some(route) = self.router.find(&incoming.method) else {
            count(&self.counters.unknown);
            state(incoming.send, self.router.unknown(&incoming.method));
            return None;
        };
        if deadline::passed(incoming.deadline, turn.now()) {
            count(&self.counters.overdue);
            state(incoming.send, overdue());
            return None;
        }
        let Some(place) = self.limit.take() else {
            count(&self.counters.refused);
            incoming.send.reset(Code::REFUSED);
            return None;
        };
        let light = incoming.args.len() <= LIGHT && route.pace.is_quick();
        let (call, args) = Call::new(incoming);
        let span = tracing::debug_span!("call", method = %call.method, peer = %call.peer.address);
        let mut running = Running {
            stage: Stage::New(args),
            span: (!span.is_disabled()).then(|| Box::new(span)),
            call: Some(call),
        };
        // Most handlers are done at their first poll, and a task for each would cost more than they do. What a waker of no
        // task misses, the first poll on the task finds.
        let inline = light && turn.inline();
        let noop = &mut task::Context::from_waker(Waker::noop());
        if !inline || !running.poll_once(self, Some(&route.handler), noop) {
            place.keep();
            tokio::spawn(Task {
                running,
                desk: self.clone(),
                steps_aside: !light,
            });
        }
        inline.then_some(route)
    }
}

/// A call being answered.
struct Running {
    stage: Stage,
    /// Lent to the context while the handler is polled.
    call: Option<Arc<Call>>,
    /// None when nobody listens.
    span: Option<Box<Span>>,
}

enum Stage {
    New(Body),
    Answering(Answer),
    Done,
}

impl Running {
    /// Polls the handler. True when it is done and its answer is in line. `handler` is looked up by the method if it is not
    /// at hand.
    fn poll_once(
        &mut self,
        desk: &Desk,
        handler: Option<&Arc<dyn Handler>>,
        cx: &mut task::Context<'_>,
    ) -> bool {
        let span = self.span.clone();
        let _entered = span.as_deref().map(Span::enter);
        match self.poll_answer(desk, handler, cx) {
            Poll::Ready(outcome) => {
                self.finish(outcome);
                true
            }
            Poll::Pending => false,
        }
    }

    fn poll_answer(
        &mut self,
        desk: &Desk,
        handler: Option<&Arc<dyn Handler>>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<Option<Body>, Fault>> {
        let Some(call) = self.call.take() else {
            return Poll::Pending;
        };
        let stage = &mut self.stage;
        let begin = match stage {
            Stage::New(args) => match handler.or_else(|| Some(&desk.router.find(&call.method)?.handler)) {
                Some(handler) => {
                    count(&desk.counters.started);
                    Some((
                        handler,
                        std::mem::take(args),
                        Exchange::new(call.clone(), desk.limits),
                    ))
                }
                None => None,
            },
            _ => None,
        };
        let mut outcome = Poll::Pending;
        let (context, polled) = Context::of(call).within(|| {
            catch_unwind(AssertUnwindSafe(|| {
                if let Some((handler, args, exchange)) = begin {
                    *stage = Stage::Answering(handler.answer(args, exchange));
                }
                if let Stage::Answering(answer) = stage {
                    outcome = answer.as_mut().poll(cx);
                }
                if outcome.is_ready() {
                    // Here, so that what the handler held is gone when its caller goes on.
                    *stage = Stage::Done;
                }
            }))
        });
        self.call = context.into_call();
        if polled.is_err() {
            count(&desk.counters.panicked);
            if outcome.is_pending() {
                tracing::warn!(method = %self.method(), "a handler panicked; its caller is told");
                self.drop_stage(desk);
                return Poll::Ready(Err(Fault::new(Code::PANIC, "the handler panicked")));
            }
            tracing::warn!(method = %self.method(), "a handler panicked while it was dropped");
        }
        outcome
    }

    /// The handler is done: its answer ends the call, and the call's slot is free.
    fn finish(&mut self, outcome: Result<Option<Body>, Fault>) {
        let (send, recv) = self.end();
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
    }

    /// Drops what the handler left. Destructors of users may panic: not on the task that drives the connection.
    fn drop_stage(&mut self, desk: &Desk) {
        let stage = std::mem::replace(&mut self.stage, Stage::Done);
        let Some(call) = self.call.take() else { return };
        let (context, dropped) = Context::of(call).within(|| catch_unwind(AssertUnwindSafe(|| drop(stage))));
        self.call = context.into_call();
        if dropped.is_err() {
            count(&desk.counters.panicked);
            tracing::warn!(method = %self.method(), "a handler panicked while it was dropped");
        }
    }

    /// The call ended before its handler was done.
    fn give_up(&mut self, desk: &Desk) {
        count(&desk.counters.cancelled);
        tracing::debug!(method = %self.method(), "the call ended before its handler was done");
        self.drop_stage(desk);
        self.release();
    }

    /// Gives the call's slot back. The receiving half goes behind the sending one: a caller told to stop before its answer
    /// would take the call for ended.
    fn release(&mut self) {
        let (send, recv) = self.end();
        drop(send);
        drop(recv);
    }

    /// The call is over, for all who look at it; gives what is left of its halves.
    fn end(&mut self) -> (Option<SendHalf>, Option<RecvHalf>) {
        match &mut self.call {
            Some(call) => Call::end(call),
            None => (None, None),
        }
    }

    fn method(&self) -> &str {
        self.call.as_ref().map_or("", |call| call.method.as_str())
    }
}

/// A call on a task of its own, because its handler waits, the turn was over, or it may take long.
struct Task {
    running: Running,
    desk: Arc<Desk>,
    /// It may take long, and has not let others go first.
    steps_aside: bool,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.steps_aside) {
            // Behind the connection's own task in the queue. And a runtime with other workers wakes one for what stands in a
            // queue, which attends to the sockets while this one works; for a single new task it does not.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Task { running, desk, .. } = &mut *self;
        if let (Stage::New(_), Some(call)) = (&running.stage, &running.call) {
            // While it was in the queue its time may have passed, or its caller gone: the handler does not begin.
            if deadline::passed(call.deadline, time::Instant::now().into_std()) {
                count(&desk.counters.overdue);
                running.stage = Stage::Done;
                running.finish(Err(overdue()));
                return Poll::Ready(());
            }
            if call.poll_cut(cx).is_ready() {
                running.give_up(desk);
                return Poll::Ready(());
            }
        }
        if running.poll_once(desk, None, cx) {
            return Poll::Ready(());
        }
        match &running.call {
            Some(call) if call.poll_cut(cx).is_ready() => {}
            _ => return Poll::Pending,
        }
        running.give_up(desk);
        Poll::Ready(())
    }
}

impl Drop for Task {
    /// The runtime drops its tasks at its end; whoever waits for the end of the call learns it then too.
    fn drop(&mut self) {
        if !matches!(self.running.stage, Stage::Done) {
            self.running.drop_stage(&self.desk);
            self.running.release();
        }
        // Last: the place is free when the handler is gone.
        self.desk.limit.give_back();
    }
}

/// What the caller is told whose call comes too late.
fn overdue() -> Fault {
    Fault::unstarted(Code::DEADLINE, "the time of the call had passed before it began").do_not_retry()
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
