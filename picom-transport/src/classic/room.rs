//! What headers of classic calls that are still arriving may hold: a little each, and more only out of one budget for all
//! connections of a listener. Behind the header a call is bounded by itself and by the handlers there may be.

use crate::proto::ConnectionError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the connections of a listener share.
#[derive(Debug)]
pub(crate) struct HeaderBudget {
    limit: u64,
    used: AtomicU64,
    refused: AtomicU64,
}

impl HeaderBudget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(HeaderBudget {
            limit,
            used: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Bytes that are held out of it.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Connections for which there was no room.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }
}

/// What one header holds. It gives back what it took when it is dropped.
#[derive(Debug)]
pub(super) struct HeaderRoom {
    budget: Arc<HeaderBudget>,
    own: u64,
    taken: u64,
}

impl HeaderRoom {
    /// `own` bytes cost the budget nothing.
    pub(super) fn new(budget: Arc<HeaderBudget>, own: u64) -> Self {
        HeaderRoom {
            budget,
            own,
            taken: 0,
        }
    }

    /// So many bytes are held now. Room once taken is kept to the end: a header only grows.
    pub(super) fn hold(&mut self, bytes: u64) -> Result<(), ConnectionError> {
        let more = bytes.saturating_sub(self.own).saturating_sub(self.taken);
        if more == 0 || self.budget.take(more) {
            self.taken += more;
            return Ok(());
        }
        self.budget.refused.fetch_add(1, Ordering::Relaxed);
        Err(ConnectionError::HeaderBudget {
            have: bytes,
            limit: self.budget.limit,
        })
    }
}

impl Drop for HeaderRoom {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_headers_cost_nothing_and_large_ones_share_what_there_is() {
        let budget = HeaderBudget::new(100);
        let mut small = HeaderRoom::new(budget.clone(), 10);
        small.hold(10).unwrap();
        assert_eq!(budget.used(), 0);
        let mut first = HeaderRoom::new(budget.clone(), 10);
        first.hold(50).unwrap();
        first.hold(30).unwrap();
        assert_eq!(budget.used(), 40, "what is over its own, once");
        let mut second = HeaderRoom::new(budget.clone(), 10);
        second.hold(70).unwrap();
        let error = second.hold(71).unwrap_err();
        assert!(
            matches!(error, ConnectionError::HeaderBudget { have: 71, limit: 100 }),
            "{error}"
        );
        assert_eq!((budget.used(), budget.refused()), (100, 1));
        drop(first);
        second.hold(71).unwrap();
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn no_length_makes_the_count_wrap() {
        let budget = HeaderBudget::new(u64::MAX);
        let mut one = HeaderRoom::new(budget.clone(), 0);
        one.hold(u64::MAX).unwrap();
        assert!(HeaderRoom::new(budget.clone(), 0).hold(1).is_err());
        drop(one);
        assert_eq!(budget.used(), 0);
    }
}
