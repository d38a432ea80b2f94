//! What headers of classic calls that are still arriving may hold: a little each, and more only out of one budget for all
//! connections of a listener. Where there is no room a header waits, unread, until another is complete or gone. Behind the
//! header a call is bounded by itself and by the handlers there may be.
//!
//! Many that each hold a part could wait for each other for ever. So one at a time may use all there is, and
//! the others only what leaves room for it.

use crate::proto::ConnectionError;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// What the connections of a listener share.
#[derive(Debug)]
pub(crate) struct HeaderBudget {
    limit: u64,
    /// What only the first may use.
    kept: u64,
    shared: Mutex<Shared>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Shared {
    used: u64,
    /// Who may use all there is.
    first: Option<u64>,
    next: u64,
    waiting: HashMap<u64, Waker>,
}

/// Whether a header may go on.
#[derive(Debug)]
pub(super) enum Grant {
    /// It may hold so much.
    Held,
    /// Not now; the task is woken when there may be room.
    Wait,
    /// Never.
    Never(ConnectionError),
}

impl HeaderBudget {
    /// `limit` bytes in all, of headers that hold at most `most` each.
    pub(crate) fn new(limit: u64, most: u64) -> Arc<Self> {
        Arc::new(HeaderBudget {
            limit,
            kept: most.min(limit / 2),
            shared: Mutex::default(),
            refused: AtomicU64::new(0),
        })
    }

    /// Bytes that are held out of it.
    pub(crate) fn used(&self) -> u64 {
        self.shared().used
    }

    /// Connections for which there was no room to their end.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one header holds. It gives back what it took when it is dropped.
#[derive(Debug)]
pub(super) struct HeaderRoom {
    budget: Arc<HeaderBudget>,
    number: u64,
    own: u64,
    taken: u64,
    waits: bool,
}

impl HeaderRoom {
    /// `own` bytes cost the budget nothing.
    pub(super) fn new(budget: Arc<HeaderBudget>, own: u64) -> Self {
        let number = {
            let mut shared = budget.shared();
            shared.next += 1;
            shared.next
        };
        HeaderRoom {
            budget,
            number,
            own,
            taken: 0,
            waits: false,
        }
    }

    pub(super) fn limit(&self) -> u64 {
        self.budget.limit()
    }

    /// So many bytes are to be held. Room once taken is kept to the end: a header only grows.
    pub(super) fn hold(&mut self, bytes: u64, cx: &Context<'_>) -> Grant {
        let needed = bytes.saturating_sub(self.own);
        let more = needed.saturating_sub(self.taken);
        if more == 0 {
            self.waits = false;
            return Grant::Held;
        }
        let (limit, kept) = (self.budget.limit, self.budget.kept);
        if needed > limit {
            self.waits = true;
            return Grant::Never(ConnectionError::HeaderBudget { have: bytes, limit });
        }
        let mut shared = self.budget.shared();
        let used = shared.used.saturating_add(more);
        let first = *shared.first.get_or_insert(self.number) == self.number;
        if used <= if first { limit } else { limit - kept } {
            shared.used = used;
            self.taken += more;
            self.waits = false;
            Grant::Held
        } else {
            shared.waiting.insert(self.number, cx.waker().clone());
            self.waits = true;
            Grant::Wait
        }
    }
}

impl Drop for HeaderRoom {
    fn drop(&mut self) {
        if self.waits {
            self.budget.refused.fetch_add(1, Ordering::Relaxed);
        }
        let waiting = {
            let mut shared = self.budget.shared();
            shared.used = shared.used.saturating_sub(self.taken);
            shared.waiting.remove(&self.number);
            if shared.first == Some(self.number) {
                shared.first = None;
            }
            std::mem::take(&mut shared.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(room: &mut HeaderRoom, bytes: u64) -> Option<bool> {
        match room.hold(bytes, &Context::from_waker(Waker::noop())) {
            Grant::Held => Some(true),
            Grant::Wait => Some(false),
            Grant::Never(_) => None,
        }
    }

    #[test]
    fn small_headers_cost_nothing_and_large_ones_share_what_there_is() {
        let budget = HeaderBudget::new(100, 60);
        let mut small = HeaderRoom::new(budget.clone(), 10);
        assert_eq!(held(&mut small, 10), Some(true));
        assert_eq!(budget.used(), 0);
        let mut first = HeaderRoom::new(budget.clone(), 10);
        assert_eq!(held(&mut first, 50), Some(true));
        assert_eq!(held(&mut first, 30), Some(true));
        assert_eq!(budget.used(), 40, "what is over its own, once");
        let mut second = HeaderRoom::new(budget.clone(), 10);
        assert_eq!(held(&mut second, 20), Some(true));
        assert_eq!(
            held(&mut second, 21),
            Some(false),
            "the rest is kept for the first"
        );
        assert_eq!(held(&mut first, 100), Some(true));
        assert_eq!((budget.used(), budget.refused()), (100, 0));
        drop(first);
        // Now it is the first itself.
        assert_eq!(held(&mut second, 110), Some(true));
        assert_eq!(held(&mut second, 111), None);
        drop(second);
        assert_eq!((budget.used(), budget.refused()), (0, 1));
    }

    #[test]
    fn as_many_as_like_come_to_their_end_one_after_the_other() {
        // Each grows to 60, and at the beginning all of them are as large as they can become beside each other.
        let budget = HeaderBudget::new(120, 60);
        let mut rooms: Vec<_> = (0..10).map(|_| HeaderRoom::new(budget.clone(), 0)).collect();
        for bytes in 1..=60 {
            for room in &mut rooms {
                let _ = held(room, bytes);
            }
        }
        while !rooms.is_empty() {
            let before = rooms.len();
            rooms.retain_mut(|room| held(room, 60) != Some(true));
            assert!(rooms.len() < before, "{before} wait for each other");
        }
        assert_eq!((budget.used(), budget.refused()), (0, 0));
    }

    #[test]
    fn no_length_makes_the_count_wrap() {
        let budget = HeaderBudget::new(u64::MAX, u64::MAX);
        let mut one = HeaderRoom::new(budget.clone(), 0);
        assert_eq!(held(&mut one, u64::MAX), Some(true));
        assert_eq!(held(&mut HeaderRoom::new(budget.clone(), 0), 1), Some(false));
        drop(one);
        assert_eq!(budget.used(), 0);
    }
}
