//! Whose turn it is to send on a half that several tasks share. It costs nothing while there is room for all; when there
//! is none, those who wait go on in the order in which they came.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::coop;

/// See the module. Only the one whose turn it is may wait on the half, which remembers one waiting task.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Made when somebody first waits: most streams have nobody who does.
    line: OnceLock<Box<Mutex<()>>>,
    /// How many stand in line, the first one included.
    waiting: AtomicU32,
    /// How many were sent.
    sent: AtomicU32,
}

/// Every so many messages the runtime is told, which counts what a task does without a pause: so a task that only sends does
/// not keep others from running. (The runtime allows 128 counts.)
const COUNTED: u32 = 16;

/// The first place in the line.
pub(crate) struct FirstInLine<'a> {
    _line: MutexGuard<'a, ()>,
    _place: Place<'a>,
}

struct Place<'a>(&'a AtomicU32);

impl Turns {
    /// Whether nobody is in line.
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Counts a message. Ready at once, unless the task has done much and others should run.
    #[inline]
    pub(crate) fn poll_count(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Of two that count at the same time one may be lost: it is no more than a hint.
        let sent = self.sent.load(Ordering::Relaxed).wrapping_add(1);
        if sent.is_multiple_of(COUNTED) {
            ready!(coop::poll_proceed(cx)).made_progress();
        }
        self.sent.store(sent, Ordering::Relaxed);
        Poll::Ready(())
    }

    /// Gets in line, and is ready at the front of it. Cancel safe: dropped, it leaves the line.
    pub(crate) async fn first(&self) -> FirstInLine<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let place = Place(&self.waiting);
        FirstInLine {
            _line: self.line.get_or_init(Box::default).lock().await,
            _place: place,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
