//! What the driver of a classic call and its halves share: the machine behind a lock, and the wakers of those who wait.

use super::machine::Machine;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time;

#[derive(Debug)]
pub(super) struct State {
    pub(super) machine: Machine,
    pub(super) recv: Option<Waker>,
    pub(super) send: Option<Waker>,
    pub(super) ended: Option<Waker>,
    pub(super) driver: Option<Waker>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(super) stage: watch::Sender<Stage>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Waiting,
    Called,
    Closed,
}

impl Shared {
    pub(super) fn new(machine: Machine) -> Arc<Self> {
        Arc::new(Shared {
            state: Mutex::new(State {
                machine,
                recv: None,
                send: None,
                ended: None,
                driver: None,
            }),
            stage: watch::Sender::new(Stage::Waiting),
        })
    }

    /// Runs `action` and wakes whom it concerns, behind the lock.
    pub(super) fn with<R>(&self, action: impl FnOnce(&mut State) -> R) -> R {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        let result = action(state);
        let signals = state.machine.take_signals();
        let wakers = [
            signals.readable.then(|| state.recv.take()).flatten(),
            signals.writable.then(|| state.send.take()).flatten(),
            signals.ended.then(|| state.ended.take()).flatten(),
            signals.driver.then(|| state.driver.take()).flatten(),
        ];
        drop(guard);
        wakers.into_iter().flatten().for_each(Waker::wake);
        result
    }

    pub(super) fn reached(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let later = *now < stage;
            *now = stage.max(*now);
            later
        });
    }
}

/// Keeps the waker of the one who waits. Gives back the one it replaces, to be dropped behind the lock.
pub(super) fn register<T>(place: &mut Option<Waker>, waker: &Waker) -> (Poll<T>, Option<Waker>) {
    match place {
        Some(known) if known.will_wake(waker) => (Poll::Pending, None),
        place => (Poll::Pending, place.replace(waker.clone())),
    }
}

/// One classic connection as its listener or pool sees it.
#[derive(Clone, Debug)]
pub(crate) struct ClassicHandle(pub(super) Arc<Shared>);

impl ClassicHandle {
    /// Waits until the header has come, or will not.
    pub(crate) async fn called(&self) {
        self.wait(Stage::Called).await;
    }

    /// Waits until the connection is closed.
    pub(crate) async fn closed(&self) {
        self.wait(Stage::Closed).await;
    }

    async fn wait(&self, stage: Stage) {
        let mut stages = self.0.stage.subscribe();
        let _ = stages.wait_for(|now| *now >= stage).await;
    }

    /// What is under way may go on until `grace` has passed.
    pub(crate) fn drain(&self, grace: Duration) {
        let now = time::Instant::now().into_std();
        self.0.with(|state| state.machine.drain(grace, now));
    }

    /// When bytes of the peer came last.
    pub(crate) fn heard(&self) -> std::time::Instant {
        self.0.with(|state| state.machine.heard())
    }

    /// Ends it at once.
    pub(crate) fn close(&self) {
        let now = time::Instant::now().into_std();
        self.0.with(|state| state.machine.close(now));
    }

    /// A call was cut.
    pub(crate) fn was_cut(&self) -> bool {
        self.0.with(|state| state.machine.was_cut())
    }

    pub(crate) fn downgrade(&self) -> std::sync::Weak<Shared> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn upgrade(weak: &std::sync::Weak<Shared>) -> Option<Self> {
        weak.upgrade().map(ClassicHandle)
    }
}
