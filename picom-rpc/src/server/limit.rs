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

    /// Takes a place for one more, to be [given back](Self::give_back), unless all are taken.
    pub(super) fn take(&self) -> bool {
        // Taken first and given back if it was one too many: one step for nearly every call.
        let taken = self.running.fetch_add(1, Ordering::Relaxed) < self.most;
        if !taken {
            self.give_back();
        }
        taken
    }

    /// The handler is gone.
    pub(super) fn give_back(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_never_exceeded() {
        let limit = Limit::new(2);
        assert!(limit.take() && limit.take());
        assert!(!limit.take() && !limit.take());
        limit.give_back();
        assert_eq!(limit.running(), 1);
        assert!(limit.take());
        assert!(!Limit::new(0).take());
    }
}
