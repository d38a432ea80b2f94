//! What a handler may know of the call it answers, wherever in it the code stands: the caller, the time left, metadata,
//! and whether anybody still waits. Calls made within a handler inherit its deadline from here.

use crate::deadline;
use crate::metadata::Metadata;
use crate::turns::Turns;
use bytes::Bytes;
use picom_codec::{Body, Method};
use picom_transport::{PeerInfo, RecvHalf, SendHalf};
use std::cell::RefCell;
use std::fmt;
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{self, Poll};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

thread_local! {
    /// The context of the handler that this thread polls at the moment.
    static CURRENT: RefCell<Context> = const { RefCell::new(Context(None)) };
}

/// The call that the code around answers. A cheap handle.
///
/// [`Context::current`] finds it in a handler and in everything the handler awaits. A task that a handler spawns is not
/// part of the call: it has no context unless it is given one with [`scope`](Self::scope).
#[derive(Clone, Default)]
pub struct Context(Option<Arc<Call>>);

/// One call as its handler's side holds it. The halves are taken out when the handler is done, so that handles which
/// live longer keep no slot of the connection.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) peer: Arc<PeerInfo>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) idempotent: bool,
    /// Few calls have any.
    metadata: Option<Box<Sent>>,
    over: AtomicBool,
    /// Made when somebody first waits for the end: few calls have anybody who does.
    ended: OnceLock<Box<Notify>>,
    send: Mutex<Option<SendHalf>>,
    recv: Mutex<Option<RecvHalf>>,
    /// Of those who wait for room to send.
    pub(crate) turns: Turns,
}

/// Metadata as it came, and decoded once somebody asks.
struct Sent {
    encoded: Bytes,
    decoded: OnceLock<Metadata>,
}

impl Context {
    /// The context of the handler that runs this code. Outside of one: no caller, no deadline, no metadata, never
    /// cancelled.
    pub fn current() -> Context {
        CURRENT
            .try_with(|current| current.borrow().clone())
            .unwrap_or_default()
    }

    pub(crate) fn of(call: Arc<Call>) -> Context {
        Context(Some(call))
    }

    pub(crate) fn into_call(self) -> Option<Arc<Call>> {
        self.0
    }

    /// Runs a future within this context, as for a task that works for the call. The task does not end with the call:
    /// ask [`cancelled`](Self::cancelled).
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        Scoped {
            context: self,
            future: Some(Box::pin(future)),
        }
    }

    /// Polls or computes something within this context, and gives the context back: no handle is copied for it.
    pub(crate) fn within<R>(self, work: impl FnOnce() -> R) -> (Context, R) {
        let replaced = Replaced(Some(replace(self)));
        let result = work();
        (replaced.put_back(), result)
    }

    /// Who calls: its address, and the service and instance it reached for. `None` outside of a handler.
    pub fn peer(&self) -> Option<&PeerInfo> {
        self.0.as_ref().map(|call| &*call.peer)
    }

    /// The method that is answered. `None` outside of a handler.
    pub fn method(&self) -> Option<&str> {
        self.0.as_ref().map(|call| call.method.as_str())
    }

    /// The moment at which the caller stops waiting. `None`: it waits for as long as it takes.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.as_ref().and_then(|call| call.deadline)
    }

    /// How long the caller still waits; zero when that has passed. `None`: for as long as it takes.
    pub fn deadline_left(&self) -> Option<Duration> {
        deadline::left(self.deadline(), tokio::time::Instant::now().into_std())
    }

    /// Whether the caller says that the call may run more than once.
    pub fn is_idempotent(&self) -> bool {
        self.0.as_ref().is_some_and(|call| call.idempotent)
    }

    /// What the caller sent beside the arguments.
    pub fn metadata(&self) -> &Metadata {
        static NONE: OnceLock<Metadata> = OnceLock::new();
        let call = self.0.as_ref();
        match call.and_then(|call| call.metadata.as_ref()) {
            Some(sent) => sent.decoded.get_or_init(|| Metadata::decode(&sent.encoded)),
            None => NONE.get_or_init(Metadata::new),
        }
    }

    /// Whether the call is over: the caller went away, its time has passed, its connection was lost, or it was answered.
    pub fn is_cancelled(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|call| call.over.load(Ordering::Acquire))
    }

    /// Waits until the call is over, for whatever reason. For tasks that work for a handler; a handler itself is dropped
    /// then. Never ready outside of a handler. Cancel safe.
    pub async fn cancelled(&self) {
        let Some(call) = &self.0 else {
            return pending().await;
        };
        let mut ended = pin!(call.ended.get_or_init(Box::default).notified());
        // Enlisted before the flag is read: an end between the two is not missed.
        ended.as_mut().enable();
        if !call.over.load(Ordering::SeqCst) {
            ended.await;
        }
    }
}

/// The deadline of the handler that runs this code, if it has one.
pub(crate) fn deadline() -> Option<Instant> {
    let deadline = CURRENT.try_with(|current| current.borrow().deadline());
    deadline.ok().flatten()
}

/// Makes a context the thread's own and gives the one it had. At the end of a thread there is none any more.
fn replace(context: Context) -> Context {
    let replaced = CURRENT.try_with(|current| {
        current
            .try_borrow_mut()
            .map(|mut slot| std::mem::replace(&mut *slot, context))
    });
    replaced.map(Result::unwrap_or_default).unwrap_or_default()
}

/// The context that a thread had before, put back also when a panic passes by.
struct Replaced(Option<Context>);

impl Replaced {
    fn put_back(mut self) -> Context {
        self.0.take().map(replace).unwrap_or_default()
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            replace(before);
        }
    }
}

/// A future and the context it runs in, to its drop.
struct Scoped<F> {
    context: Context,
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let Scoped { context, future } = &mut *self;
        let Some(future) = future else {
            return Poll::Pending;
        };
        let (back, polled) = std::mem::take(context).within(|| future.as_mut().poll(cx));
        *context = back;
        polled
    }
}

impl<F> Drop for Scoped<F> {
    fn drop(&mut self) {
        let future = self.future.take();
        std::mem::take(&mut self.context).within(|| drop(future));
    }
}

impl Call {
    pub(crate) fn new(incoming: picom_transport::Incoming) -> (Arc<Call>, Body) {
        let call = Call {
            method: incoming.method,
            peer: incoming.peer,
            deadline: incoming.deadline,
            idempotent: incoming.idempotent,
            metadata: incoming.metadata.map(|encoded| {
                Box::new(Sent {
                    encoded,
                    decoded: OnceLock::new(),
                })
            }),
            over: AtomicBool::new(false),
            ended: OnceLock::new(),
            send: Mutex::new(Some(incoming.send)),
            recv: Mutex::new(Some(incoming.recv)),
            turns: Turns::default(),
        };
        (Arc::new(call), incoming.args)
    }

    /// The sending half, until the handler is done.
    pub(crate) fn send(&self) -> MutexGuard<'_, Option<SendHalf>> {
        self.send.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The receiving half, until the handler is done.
    pub(crate) fn recv(&self) -> MutexGuard<'_, Option<RecvHalf>> {
        self.recv.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when there is no point in going on: the call was ended from outside.
    pub(crate) fn poll_cut(&self, cx: &mut task::Context<'_>) -> Poll<()> {
        match &*self.recv() {
            Some(half) => half.poll_ended(cx).map(drop),
            None => Poll::Pending,
        }
    }

    /// The call is over; whoever waits for that learns it. Gives both halves, as far as they are still here.
    pub(crate) fn end(self: &mut Arc<Self>) -> (Option<SendHalf>, Option<RecvHalf>) {
        // Nearly always nobody else has a handle by now: no locks then, and nobody to be told.
        if let Some(call) = Arc::get_mut(self) {
            *call.over.get_mut() = true;
            let send = call.send.get_mut().unwrap_or_else(PoisonError::into_inner);
            let recv = call.recv.get_mut().unwrap_or_else(PoisonError::into_inner);
            return (send.take(), recv.take());
        }
        let halves = (self.send().take(), self.recv().take());
        // In one order with a waiter that makes the notifier and then reads the flag: one of the two sees the other.
        self.over.store(true, Ordering::SeqCst);
        if let Some(ended) = self.ended.get() {
            ended.notify_waiters();
        }
        halves
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("method", &self.method())
            .field("peer", &self.peer())
            .field("deadline", &self.deadline())
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
