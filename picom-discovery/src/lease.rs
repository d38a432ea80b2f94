//! What keeps a registration announced, as its owner holds it. Who does the work holds the `Keeper`.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::error::{DiscoveryError, EndError};

/// How a registration stands.
#[derive(Debug, Clone)]
pub enum LeaseState {
    /// Not confirmed yet; it is being tried.
    Registering {
        /// Why the last attempt failed.
        error: Option<Arc<DiscoveryError>>,
    },
    /// Registered, and the last heartbeat was accepted.
    Passing,
    /// Registered as far as we know, but the last heartbeat was not accepted, or the check is failed on purpose. It is
    /// being tried again; until the time to live has passed, nobody else notices.
    Failing {
        /// Why.
        error: Arc<DiscoveryError>,
    },
    /// No longer announced by us: ended, or the task that kept it is gone.
    Ended,
}

/// A registration that is kept announced. [`end`](Self::end) takes it back.
///
/// Dropping a lease stops the heartbeats and deregisters in the background, as well as that can be done.
#[derive(Debug)]
pub struct Lease {
    id: Arc<str>,
    state: watch::Receiver<LeaseState>,
    ending: Ending,
    /// `changed` has told that the keeper is gone; there is nothing more to tell.
    told: bool,
}

/// The other end of [`Lease`]: for those who write a source of their own.
#[derive(Debug)]
pub struct Keeper {
    state: watch::Sender<LeaseState>,
    end: oneshot::Receiver<EndRequest>,
}

/// The owner wants the registration taken back.
#[derive(Debug)]
pub struct EndRequest {
    /// How long the owner waits; `None` if it dropped the lease and does not wait at all.
    pub bound: Option<Duration>,
    done: Option<oneshot::Sender<Result<(), EndError>>>,
}

enum Ending {
    /// A task holds the keeper.
    Task(Option<oneshot::Sender<EndRequest>>),
    /// A function takes it back, at once.
    #[cfg_attr(
        not(any(test, feature = "mock")),
        expect(dead_code, reason = "only doubles end at once")
    )]
    Call(Option<Release>),
    /// There is nothing to take back.
    Nothing,
}

type Release = Box<dyn FnOnce() -> Result<(), EndError> + Send>;

impl Lease {
    /// A lease, registering, and the end its keeper works with.
    pub fn pair(id: impl Into<Arc<str>>) -> (Self, Keeper) {
        let (state_sender, state) = watch::channel(LeaseState::Registering { error: None });
        let (end_sender, end) = oneshot::channel();
        let lease = Self {
            id: id.into(),
            state,
            ending: Ending::Task(Some(end_sender)),
            told: false,
        };
        (
            lease,
            Keeper {
                state: state_sender,
                end,
            },
        )
    }

    /// A lease of which nothing has to be kept or taken back.
    pub(crate) fn settled(id: impl Into<Arc<str>>) -> Self {
        let (_, state) = watch::channel(LeaseState::Passing);
        Self {
            id: id.into(),
            state,
            ending: Ending::Nothing,
            told: true,
        }
    }

    /// A lease whose state others publish and which `release` takes back.
    #[cfg(any(test, feature = "mock"))]
    pub(crate) fn released_by(
        id: impl Into<Arc<str>>,
        state: watch::Receiver<LeaseState>,
        release: Release,
    ) -> Self {
        Self {
            id: id.into(),
            state,
            ending: Ending::Call(Some(release)),
            told: false,
        }
    }

    /// What was published so far is known to the owner: `changed` tells what comes after.
    pub(crate) fn seen(mut self) -> Self {
        self.state.mark_unchanged();
        self
    }

    /// How it stands now.
    pub fn state(&self) -> LeaseState {
        if matches!(self.ending, Ending::Nothing) {
            return LeaseState::Passing;
        }
        match self.state.has_changed() {
            Ok(_) => self.state.borrow().clone(),
            // Whoever kept it is gone.
            Err(_) => LeaseState::Ended,
        }
    }

    /// Waits until the state has changed since the last call (at first: since `register` returned), and returns the
    /// newest. After `Ended` it pends for ever.
    ///
    /// Cancel safe: a state that was not returned is returned by the next call.
    pub async fn changed(&mut self) -> LeaseState {
        if self.state.changed().await.is_ok() {
            return self.state.borrow_and_update().clone();
        }
        if std::mem::replace(&mut self.told, true) {
            pending::<()>().await;
        }
        LeaseState::Ended
    }

    /// The id it is registered under.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Takes the registration back: heartbeats stop at once, a registration in flight is awaited for part of the bound
    /// and undone, the registry is told. `Ok` means that it confirmed the entry as gone.
    ///
    /// Returns within `bound`, even when the registry hangs. After an error the attempt goes on in the background for
    /// up to a minute, while the process lives.
    ///
    /// Cancel safe in the sense of [`Drop`]: the deregistration goes on, only its result is lost.
    ///
    /// # Errors
    /// [`EndError`]: no confirmation came, or a refusal.
    pub async fn end(mut self, bound: Duration) -> Result<(), EndError> {
        match &mut self.ending {
            Ending::Nothing => Ok(()),
            Ending::Call(release) => release.take().map_or(Ok(()), |release| release()),
            Ending::Task(sender) => {
                let (done, result) = oneshot::channel();
                let request = EndRequest {
                    bound: Some(bound),
                    done: Some(done),
                };
                let timeout = EndError::Timeout {
                    id: self.id.clone(),
                    bound,
                };
                match sender.take().map(|sender| sender.send(request)) {
                    Some(Ok(())) => {}
                    // The keeper is gone, with its runtime: nobody can say what the registry holds.
                    _ => return Err(timeout),
                }
                match tokio::time::timeout(bound, result).await {
                    Ok(Ok(result)) => result,
                    _ => Err(timeout),
                }
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &mut self.ending {
            Ending::Task(sender) => {
                if let Some(sender) = sender.take() {
                    // A keeper that is gone has nothing to end.
                    let _ = sender.send(EndRequest {
                        bound: None,
                        done: None,
                    });
                }
            }
            Ending::Call(release) => {
                if let Some(release) = release.take() {
                    // Nobody waits for the result of a drop.
                    let _ = release();
                }
            }
            Ending::Nothing => {}
        }
    }
}

impl Keeper {
    /// Publishes how the registration stands.
    pub fn publish(&self, state: LeaseState) {
        self.state.send_replace(state);
    }

    /// Publishes how the registration stands, unless that is what was published last.
    pub(crate) fn publish_change(&self, state: LeaseState) {
        self.state.send_if_modified(|last| {
            let is_new = !last.same(&state);
            *last = state;
            is_new
        });
    }

    /// Waits until the owner wants it taken back; returns once. Cancel safe; pends after it has returned.
    pub async fn ended(&mut self) -> EndRequest {
        if self.end.is_terminated() {
            pending::<()>().await;
        }
        (&mut self.end).await.unwrap_or(EndRequest {
            bound: None,
            done: None,
        })
    }
}

impl LeaseState {
    /// Whether there is nothing new in `other`: errors of one kind are one state.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Registering { error: one }, Self::Registering { error: other }) => match (one, other) {
                (Some(one), Some(other)) => one.same_kind(other),
                (one, other) => one.is_none() == other.is_none(),
            },
            (Self::Failing { error: one }, Self::Failing { error: other }) => one.same_kind(other),
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
        }
    }
}

impl EndRequest {
    /// Tells the owner how it went, if it still waits.
    pub fn answer(mut self, result: Result<(), EndError>) {
        if let Some(done) = self.done.take() {
            // The owner's bound may have passed.
            let _ = done.send(result);
        }
    }
}

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Task(_) => "Task",
            Self::Call(_) => "Call",
            Self::Nothing => "Nothing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn end_returns_within_its_bound_when_the_keeper_hangs() {
        let (lease, _keeper) = Lease::pair("a");
        let begun = tokio::time::Instant::now();
        let error = lease.end(Duration::from_secs(3)).await.unwrap_err();
        assert_eq!(begun.elapsed(), Duration::from_secs(3));
        assert!(matches!(error, EndError::Timeout { bound, .. } if bound == Duration::from_secs(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn end_gives_what_the_keeper_answers() {
        let (lease, mut keeper) = Lease::pair("a");
        let ending = tokio::spawn(lease.end(Duration::from_secs(3)));
        let request = keeper.ended().await;
        assert_eq!(request.bound, Some(Duration::from_secs(3)));
        request.answer(Ok(()));
        ending.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_a_lease_asks_for_its_end_without_a_bound() {
        let (lease, mut keeper) = Lease::pair("a");
        drop(lease);
        assert_eq!(keeper.ended().await.bound, None);
        let again = tokio::time::timeout(Duration::from_secs(9), keeper.ended()).await;
        assert!(again.is_err(), "the wish is told once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_whose_keeper_is_gone_has_ended() {
        let (mut lease, keeper) = Lease::pair("a");
        keeper.publish(LeaseState::Passing);
        assert!(matches!(lease.changed().await, LeaseState::Passing));
        drop(keeper);
        assert!(matches!(lease.state(), LeaseState::Ended));
        assert!(matches!(lease.changed().await, LeaseState::Ended));
        assert!(matches!(lease.state(), LeaseState::Ended));
        assert!(
            tokio::time::timeout(Duration::from_secs(9), lease.changed())
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_lease_is_taken_back_once() {
        let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let make = || {
            let count = count.clone();
            let (_state, receiver) = watch::channel(LeaseState::Passing);
            Lease::released_by(
                "a",
                receiver,
                Box::new(move || {
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    Ok(())
                }),
            )
        };
        make().end(Duration::ZERO).await.unwrap();
        drop(make());
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 2);
    }
}
