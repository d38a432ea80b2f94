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
    draining: Draining,
    ending: Ending,
    /// `changed` has told that the keeper is gone; there is nothing more to tell.
    told: bool,
}

/// The other end of [`Lease`]: for those who write a source of their own.
#[derive(Debug)]
pub struct Keeper {
    state: watch::Sender<LeaseState>,
    end: oneshot::Receiver<EndRequest>,
    drain: watch::Receiver<bool>,
    drained: watch::Sender<bool>,
    drain_told: bool,
}

/// What the owner of a lease wants of its keeper.
#[derive(Debug)]
pub enum Wish {
    /// That nobody begins new calls. Answered by [`Keeper::drained`].
    Drain,
    /// That the registration is taken back.
    End(EndRequest),
}

enum Draining {
    /// A task holds the keeper.
    Task {
        wish: watch::Sender<bool>,
        done: watch::Receiver<bool>,
    },
    /// A function does it, at once, and says whether it is done.
    #[cfg_attr(
        not(any(test, feature = "mock")),
        expect(dead_code, reason = "only doubles drain at once")
    )]
    Call(Box<dyn Fn() -> bool + Send + Sync>),
    /// There is nobody to tell.
    Nothing,
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

type Release = Box<dyn FnOnce() -> Result<(), EndError> + Send + Sync>;

impl Lease {
    /// A lease, registering, and the end its keeper works with.
    pub fn pair(id: impl Into<Arc<str>>) -> (Self, Keeper) {
        let (state_sender, state) = watch::channel(LeaseState::Registering { error: None });
        let (end_sender, end) = oneshot::channel();
        let (wish, drain) = watch::channel(false);
        let (drained, done) = watch::channel(false);
        let lease = Self {
            id: id.into(),
            state,
            draining: Draining::Task { wish, done },
            ending: Ending::Task(Some(end_sender)),
            told: false,
        };
        (
            lease,
            Keeper {
                state: state_sender,
                end,
                drain,
                drained,
                drain_told: false,
            },
        )
    }

    /// A lease of which nothing has to be kept or taken back.
    pub(crate) fn settled(id: impl Into<Arc<str>>) -> Self {
        let (_, state) = watch::channel(LeaseState::Passing);
        Self {
            id: id.into(),
            state,
            draining: Draining::Nothing,
            ending: Ending::Nothing,
            told: true,
        }
    }

    /// A lease whose state others publish and which `release` takes back.
    #[cfg(any(test, feature = "mock"))]
    pub(crate) fn released_by(
        id: impl Into<Arc<str>>,
        state: watch::Receiver<LeaseState>,
        drain: impl Fn() -> bool + Send + Sync + 'static,
        release: Release,
    ) -> Self {
        Self {
            id: id.into(),
            state,
            draining: Draining::Call(Box::new(drain)),
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

    /// Takes the instance out of service without taking it back: watchers see it as [`Health::Maintenance`] and begin no
    /// new calls, heartbeats go on. It stays so until [`end`](Self::end), also when the registry forgets it and it is
    /// registered again.
    ///
    /// Returns whether the registry has confirmed that within `bound`. If not, it goes on being tried.
    ///
    /// Cancel safe: the wish stands.
    ///
    /// [`Health::Maintenance`]: crate::Health::Maintenance
    pub async fn drain(&self, bound: Duration) -> bool {
        match &self.draining {
            Draining::Nothing => true,
            Draining::Call(drain) => drain(),
            Draining::Task { wish, done } => {
                wish.send_replace(true);
                let mut done = done.clone();
                let confirmed = done.wait_for(|done| *done);
                matches!(tokio::time::timeout(bound, confirmed).await, Ok(Ok(_)))
            }
        }
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

    /// Waits for the next wish of the owner: at most once that it drains, then once that it ends. Cancel safe; pends
    /// after the end was told.
    pub async fn wish(&mut self) -> Wish {
        if self.end.is_terminated() {
            pending::<()>().await;
        }
        let told = self.drain_told;
        let drain = async {
            // Fails when the lease is gone: then the end is told, by its drop.
            if told || self.drain.wait_for(|wanted| *wanted).await.is_err() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            request = &mut self.end => Wish::End(request.unwrap_or(EndRequest { bound: None, done: None })),
            () = drain => {
                self.drain_told = true;
                Wish::Drain
            }
        }
    }

    /// Tells the owner that the instance is out of service.
    pub fn drained(&self) {
        self.drained.send_replace(true);
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

impl std::fmt::Debug for Draining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Task { .. } => "Task",
            Self::Call(_) => "Call",
            Self::Nothing => "Nothing",
        })
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
    async fn a_wish_to_drain_is_told_once_and_confirmed() {
        let (lease, mut keeper) = Lease::pair("a");
        assert!(!lease.drain(Duration::from_secs(1)).await, "nobody has done it");
        assert!(matches!(keeper.wish().await, Wish::Drain));
        keeper.drained();
        assert!(lease.drain(Duration::ZERO).await);
        let again = tokio::time::timeout(Duration::from_secs(9), keeper.wish()).await;
        assert!(again.is_err(), "once");
        drop(lease);
        assert!(matches!(keeper.wish().await, Wish::End(request) if request.bound.is_none()));
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
                || true,
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
