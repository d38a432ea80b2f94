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

/// One handler that may run; gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Limit>);

impl Limit {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Limit {
            running: AtomicUsize::new(0),
            most,
        })
    }

    /// A place for one more, unless all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Option<Permit> {
        let more = |running| (running < self.most).then_some(running + 1);
        self.running
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Permit(self.clone()))
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_never_exceeded() {
        let limit = Limit::new(2);
        let one = limit.take().unwrap();
        let _two = limit.take().unwrap();
        assert!(limit.take().is_none());
        drop(one);
        assert_eq!(limit.running(), 1);
        assert!(limit.take().is_some());
        assert!(Limit::new(0).take().is_none());
    }
}
