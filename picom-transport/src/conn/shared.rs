//! What the driver, the halves and the handles of one connection share: the multiplexer behind a lock that is held for
//! moments, never across a wait, and the wakers of those who wait.

use super::held_slot::HeldSlot;
use super::vacancy::Vacancy;
use super::wakers::{StreamWakers, WakeList};
use crate::connector::BoxIo;
use crate::proto::{Event, Key, Mux};
use bytes::BytesMut;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Who the other side is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its address, as the connector or acceptor names it.
    pub address: String,
    /// The service it says it is (a server), or the one it meant to reach (a client).
    pub service: Option<Arc<str>>,
    /// The instance, likewise.
    pub instance: Option<Arc<str>>,
}

/// Where the driver leaves a byte stream whose client turned out to speak classic.
#[derive(Default)]
pub(crate) struct HandOver {
    wanted: AtomicBool,
    taken: Mutex<Option<(BoxIo, BytesMut)>>,
}

impl HandOver {
    /// Somebody will take such a stream.
    pub(crate) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn takes(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    pub(crate) fn hand_over(&self, io: BoxIo, read: BytesMut) {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some((io, read));
    }

    pub(crate) fn take(&self) -> Option<(BoxIo, BytesMut)> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

pub(crate) struct State {
    pub(crate) mux: Mux,
    pub(crate) wakers: Vec<StreamWakers>,
    /// Streams that the peer opened and nobody has taken yet.
    pub(crate) opened: Vec<Key>,
    pub(crate) driver: Option<Waker>,
    /// The driver waits with nothing left to write: it must be woken for new output. While it runs, or waits for the
    /// socket, waking it would be work for nothing.
    pub(crate) driver_idle: bool,
    /// When the driver looks at the time again at the latest.
    pub(crate) armed: Option<Instant>,
    /// Everybody has been told that the connection has ended.
    end_told: bool,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    began: Instant,
    /// When what had come was last looked at, in nanoseconds since it began.
    heard: AtomicU64,
    /// Told when the connection stands, drains or has ended.
    changed: Notify,
    pub(crate) classic: HandOver,
    peer: OnceLock<Arc<PeerInfo>>,
    /// Who waits for a slot, on connections of a pool.
    pub(crate) vacancy: OnceLock<Arc<Vacancy<HeldSlot>>>,
    address: String,
    itself: Weak<Shared>,
}

impl Shared {
    pub(crate) fn new(mux: Mux, address: String, now: Instant) -> Arc<Self> {
        let (driver, driver_idle) = (None, false);
        let state = State {
            mux,
            wakers: Vec::new(),
            opened: Vec::new(),
            driver,
            driver_idle,
            armed: None,
            end_told: false,
        };
        Arc::new_cyclic(|itself| Self {
            itself: itself.clone(),
            state: Mutex::new(state),
            began: now,
            heard: AtomicU64::new(0),
            changed: Notify::new(),
            classic: HandOver::default(),
            peer: OnceLock::new(),
            vacancy: OnceLock::new(),
            address,
        })
    }

    /// What has come is being looked at.
    pub(crate) fn hear(&self, now: Instant) {
        let since = now.saturating_duration_since(self.began);
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.heard.store(nanos, Ordering::Relaxed);
    }

    /// When what had come was last looked at.
    pub(crate) fn heard(&self) -> Instant {
        self.began + Duration::from_nanos(self.heard.load(Ordering::Relaxed))
    }

    /// Runs `action` on the state and wakes whom it concerns, behind the lock.
    pub(crate) fn with<R>(&self, action: impl FnOnce(&mut State) -> R) -> R {
        let mut wakes = None;
        let (result, driver) = {
            let mut state = self.lock();
            let result = action(&mut state);
            if state.needs_attention() {
                self.attend(&mut state, wakes.insert(WakeList::default()));
            }
            // Behind the events: a slot that became free may have let somebody speak.
            let hurry = state.mux.take_hurry();
            let late = hurry.is_some_and(|due| state.armed.is_none_or(|armed| due < armed));
            let driver = if state.driver_idle && state.mux.has_output() {
                state.driver_idle = false;
                state.driver.clone()
            } else if late {
                state.driver.clone()
            } else {
                None
            };
            (result, driver)
        };
        if let Some(mut wakes) = wakes {
            wakes.wake();
        }
        if let Some(driver) = driver {
            driver.wake();
        }
        result
    }

    /// The same for the driver, which wakes no driver and keeps its list of wakers.
    pub(crate) fn with_wakes<R>(&self, wakes: &mut WakeList, action: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = action(&mut state);
        if state.needs_attention() {
            self.attend(&mut state, wakes);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what the events ask for.
    #[inline(never)]
    fn attend(&self, state: &mut State, wakes: &mut WakeList) {
        let mut staged = false;
        while let Some(event) = state.mux.poll_event() {
            match event {
                Event::Readable(key) => wakes.push(state.waker(key, |wakers| &mut wakers.recv)),
                Event::Writable(key) => wakes.push(state.waker(key, |wakers| &mut wakers.send)),
                Event::Ended(key) => wakes.push(state.waker(key, |wakers| &mut wakers.ended)),
                Event::Opened(key) => state.opened.push(key),
                // Those that wait for a slot of any connection came first, or cannot be sent back.
                Event::SlotFree => match self.offer_slot(&mut state.mux) {
                    Some(first) => wakes.push(Some(first)),
                    None => state.mux.admit(),
                },
                Event::Ready | Event::PeerDraining => staged = true,
            }
        }
        if staged || (state.mux.ended().is_some() && !state.end_told) {
            state.end_told = state.mux.ended().is_some();
            self.publish(&state.mux);
        }
    }

    /// Gives a slot that is free to the first who waits for one of any connection; gives back whom to wake.
    fn offer_slot(&self, mux: &mut Mux) -> Option<Waker> {
        let vacancy = self.vacancy.get().filter(|vacancy| vacancy.is_contended())?;
        if mux.free_slots() == 0 {
            return None;
        }
        let first = vacancy.give(|| HeldSlot::new(self.itself.clone()))?;
        mux.hold_slot();
        Some(first)
    }

    fn publish(&self, mux: &Mux) {
        if mux.peer_limits().is_some() {
            self.peer.get_or_init(|| {
                let identity = mux.peer_identity().clone();
                let address = self.address.clone();
                Arc::new(PeerInfo {
                    address,
                    service: identity.service,
                    instance: identity.instance,
                })
            });
        }
        self.changed.notify_waiters();
        if let Some(vacancy) = self.vacancy.get() {
            vacancy.changed();
        }
    }

    /// Waits until the multiplexer is far enough for `ready` to give something. Cancel safe.
    pub(crate) async fn until<T>(&self, mut ready: impl FnMut(&Mux) -> Option<T>) -> T {
        loop {
            // Enlisted before looking: a change between the two is not missed.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(result) = self.with(|state| ready(&state.mux)) {
                return result;
            }
            changed.await;
        }
    }

    /// Who the peer is; before the handshake only its address is known.
    pub(crate) fn peer(&self) -> Arc<PeerInfo> {
        match self.peer.get() {
            Some(peer) => peer.clone(),
            None => Arc::new(PeerInfo {
                address: self.address.clone(),
                ..PeerInfo::default()
            }),
        }
    }
}

impl State {
    /// Gives back the room that lists have had for streams, if there are none. What is given back is to be dropped behind
    /// the lock.
    pub(crate) fn shrink(&mut self) -> Vec<StreamWakers> {
        if self.mux.streams() > 0 || !self.opened.is_empty() {
            return Vec::new();
        }
        self.mux.shrink();
        self.opened = Vec::new();
        std::mem::take(&mut self.wakers)
    }

    /// Whether something has happened that somebody is to be told.
    fn needs_attention(&self) -> bool {
        self.mux.has_events() || (self.mux.ended().is_some() && !self.end_told)
    }

    /// Where the wakers of a stream stand.
    pub(crate) fn wakers(&mut self, key: Key) -> &mut StreamWakers {
        let index = key.index();
        if self.wakers.capacity() == 0 {
            self.wakers.reserve_exact(1);
        }
        if self.wakers.len() <= index {
            self.wakers.resize_with(index + 1, StreamWakers::default);
        }
        &mut self.wakers[index]
    }

    fn waker(
        &mut self,
        key: Key,
        which: impl FnOnce(&mut StreamWakers) -> &mut Option<Waker>,
    ) -> Option<Waker> {
        self.wakers
            .get_mut(key.index())
            .and_then(|wakers| which(wakers).take())
    }
}
