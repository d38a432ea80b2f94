//! Wakers: of the three things one can wait for on a stream, and those to be woken once the lock is free.

use std::task::{Context, Waker};

/// Who waits on a stream. The place is reused with the stream's: the next tenant finds what the last one left, which at
/// worst wakes a task for nothing.
#[derive(Default)]
pub(crate) struct StreamWakers {
    pub(crate) recv: Option<Waker>,
    pub(crate) send: Option<Waker>,
    pub(crate) ended: Option<Waker>,
}

/// Remembers the task, without a clone when it is the same as before. Returns the waker it replaces, to be dropped when
/// the lock is free: the last waker of a task may take the task with it, and that may hold a half of this connection.
#[must_use]
pub(crate) fn register(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => slot.replace(cx.waker().clone()),
    }
}

/// Wakers to be woken outside the lock. The first stands apart: most often there is no second.
#[derive(Default)]
pub(crate) struct WakeList {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl WakeList {
    pub(crate) fn push(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.rest.push(waker);
        }
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.first.take() {
            waker.wake();
        }
        if !self.rest.is_empty() {
            for waker in self.rest.drain(..) {
                waker.wake();
            }
        }
    }
}
