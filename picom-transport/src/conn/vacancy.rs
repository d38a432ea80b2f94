//! Waiting for a free slot on any connection to a target: told when one is free, at no cost while nobody waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Shared by the connections of one target and those who wait for a slot of any of them.
#[derive(Debug, Default)]
pub(crate) struct Vacancy {
    notify: Notify,
    waiters: AtomicUsize,
}

impl Vacancy {
    /// One slot is free: one of those who wait is told.
    pub(crate) fn freed(&self) {
        if self.waiters.load(Ordering::SeqCst) > 0 {
            self.notify.notify_one();
        }
    }

    /// The slots have changed altogether: everybody looks again.
    pub(crate) fn changed(&self) {
        self.notify.notify_waiters();
    }

    /// Stands in line. Look for a slot once more before awaiting [`Waiting::told`]: one that was freed before is not told.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        Waiting {
            vacancy: self,
            told: Some(Box::pin(self.notify.notified())),
        }
    }
}

/// A place in line, given up when dropped; a word that came meanwhile goes to the next.
pub(crate) struct Waiting<'v> {
    vacancy: &'v Vacancy,
    told: Option<std::pin::Pin<Box<Notified<'v>>>>,
}

impl Waiting<'_> {
    /// Waits for a word. Cancel safe.
    pub(crate) async fn told(mut self) {
        if let Some(told) = self.told.as_mut() {
            told.await;
        }
    }

    /// From here on a word is kept until it is awaited.
    pub(crate) fn enable(&mut self) {
        if let Some(told) = self.told.as_mut() {
            told.as_mut().enable();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.told = None;
        self.vacancy.waiters.fetch_sub(1, Ordering::SeqCst);
    }
}
