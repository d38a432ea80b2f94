//! A slot of a connection that is held for the call whose turn it is.

use super::shared::Shared;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// See the module. Dropped before it was used, it goes to the next who waits.
pub(crate) struct HeldSlot {
    shared: Weak<Shared>,
    used: AtomicBool,
}

impl HeldSlot {
    /// The multiplexer of this connection has set one aside.
    pub(super) fn new(shared: Weak<Shared>) -> Self {
        HeldSlot {
            shared,
            used: AtomicBool::new(false),
        }
    }

    /// Whether it is there to be used: true once.
    pub(super) fn take(&self) -> bool {
        !self.used.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        std::ptr::eq(self.shared.as_ptr(), Arc::as_ptr(shared))
    }
}

impl Drop for HeldSlot {
    fn drop(&mut self) {
        if self.take()
            && let Some(shared) = self.shared.upgrade()
        {
            shared.with(|state| state.mux.let_go_of_slot());
        }
    }
}

impl fmt::Debug for HeldSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldSlot")
            .field("used", &self.is_used())
            .finish_non_exhaustive()
    }
}
