//! Whose turn it is to send on a half that several tasks share. It costs nothing while there is room for all; when there
//! is none, those who wait go on in the order in which they came.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::{Mutex, MutexGuard};

/// See the module. Only the one whose turn it is may wait on the half, which remembers one waiting task.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Made when somebody first waits: most streams have nobody who does.
    line: OnceLock<Box<Mutex<()>>>,
    /// How many stand in line, the first one included.
    waiting: AtomicU32,
    /// How many were sent out of line.
    sent: AtomicU32,
}

/// Every so many messages one goes through the line though it could go at once: that is where the runtime counts what a
/// task does without a pause, so a task that only sends does not keep others from running. (The runtime allows 128.)
const COUNTED: u32 = 16;

/// The first place in the line.
pub(crate) struct FirstInLine<'a> {
    _line: MutexGuard<'a, ()>,
    _place: Place<'a>,
}

struct Place<'a>(&'a AtomicU32);

impl Turns {
    /// Whether nobody is in line. To be asked under the lock that sending takes: then nobody is overtaken.
    #[inline]
    pub(crate) fn is_free(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// Whether one message may be sent out of line: to be asked as [`is_free`](Self::is_free) is.
    #[inline]
    pub(crate) fn may_send(&self) -> bool {
        // No two ask at once, so nothing is lost between the two.
        let sent = self.sent.load(Ordering::Relaxed).wrapping_add(1);
        self.sent.store(sent, Ordering::Relaxed);
        !sent.is_multiple_of(COUNTED) && self.is_free()
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
