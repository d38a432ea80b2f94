//! Whether a method's handlers are quick enough to be polled on the task that drives their connection. What a method
//! took is the best guess at what it takes next.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// A first poll that took longer holds up the other calls of the connection for more than it saves: a task costs a
/// hundredth of this.
const QUICK: Duration = Duration::from_micros(50);

/// After one that took longer so many calls of the method begin on a task of their own; then one is tried again. The
/// others are held up by one call in so many, and a method that was slow once, because its thread was, is soon quick again.
const AVOIDED: u8 = 31;

/// What is known of one method. Shared by the connections of a service.
#[derive(Debug, Default)]
pub(super) struct Pace {
    avoided: AtomicU8,
}

impl Pace {
    /// Whether the next call may be polled where it came.
    pub(super) fn is_quick(&self) -> bool {
        let avoided = self.avoided.load(Ordering::Relaxed);
        if avoided == 0 {
            return true;
        }
        // Two that count at the same time avoid one call more.
        self.avoided.store(avoided - 1, Ordering::Relaxed);
        false
    }

    /// A handler was polled where its call came, and took so long.
    pub(super) fn took(&self, span: Duration) {
        if span > QUICK {
            self.avoided.store(AVOIDED, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_was_slow_is_avoided_for_a_while() {
        let pace = Pace::default();
        for _ in 0..3 {
            assert!(pace.is_quick());
            pace.took(QUICK);
            assert!(pace.is_quick());
            pace.took(QUICK + Duration::from_nanos(1));
            assert!((0..AVOIDED).all(|_| !pace.is_quick()));
        }
        assert!(pace.is_quick());
    }
}
