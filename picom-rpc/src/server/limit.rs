//! How many handlers may run at a time, over all connections. What is over is refused before it begins, so that it can
//! run elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Handlers in all unless set otherwise: 128 connections with all their 512 streams in use. At a few KiB for a waiting
/// handler that is some hundred MiB; beyond it another instance serves the caller better.
pub(super) const HANDLERS: usize = 65_536;

/// Counts running handlers.
#[derive(Debug)]
pub(super) struct Limit {
    running: AtomicUsize,
    most: usize,
}

impl Limit {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Limit {
            running: AtomicUsize::new(0),
            most,
        })
    }

    /// A place for one more, unless all are taken.
    pub(super) fn take(&self) -> Option<Place<'_>> {
        // Taken first and given back if it was one too many: one step for nearly every call.
        let place = Place(self);
        (self.running.fetch_add(1, Ordering::Relaxed) < self.most).then_some(place)
    }

    /// A handler that [kept](Place::keep) its place is gone.
    pub(super) fn give_back(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }
}

/// The place of a handler that runs; free again when dropped.
#[derive(Debug)]
pub(super) struct Place<'l>(&'l Limit);

impl Place<'_> {
    /// The handler goes on elsewhere: whoever runs it [gives the place back](Limit::give_back).
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_never_exceeded() {
        let limit = Limit::new(2);
        let one = limit.take().unwrap();
        limit.take().unwrap().keep();
        assert!(limit.take().is_none() && limit.take().is_none());
        assert_eq!(limit.running(), 2);
        drop(one);
        assert_eq!(limit.running(), 1, "the one that was kept");
        limit.give_back();
        assert!(limit.take().is_some());
        assert_eq!(limit.running(), 0);
        assert!(Limit::new(0).take().is_none());
    }
}
