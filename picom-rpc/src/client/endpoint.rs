//! One instance as the balancer sees it: where it is and how loaded it is. Which endpoints there are, and which may be
//! called, is `endpoints.rs`.

use super::load::Load;
use picom_discovery::Instance;
use picom_transport::Target;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Names an endpoint of one set for as long as the client lives; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EndpointId(pub(crate) u64);

/// An instance that calls may be sent to.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) target: Target,
    pub(crate) instance: Arc<Instance>,
    /// It speaks the dialect of the Node library: a connection for each call.
    pub(crate) classic: bool,
    load: Arc<Mutex<Load>>,
    /// A call to it failed since one was answered.
    suspect: Arc<AtomicBool>,
}

impl Endpoint {
    pub(crate) fn new(id: EndpointId, instance: Arc<Instance>) -> Self {
        let target = Target {
            authority: instance.authority().into(),
            service: Some(instance.service.as_str().into()),
            instance: instance.uuid().map(Into::into),
        };
        Endpoint {
            id,
            target,
            classic: instance.native_version().is_none(),
            instance,
            load: Arc::default(),
            suspect: Arc::default(),
        }
    }

    /// The same endpoint, announced with other tags or another weight.
    pub(crate) fn renewed(&self, instance: Arc<Instance>) -> Self {
        Endpoint {
            id: self.id,
            target: self.target.clone(),
            classic: self.classic,
            instance,
            load: self.load.clone(),
            suspect: self.suspect.clone(),
        }
    }

    /// What one more call is expected to cost here.
    pub(crate) fn cost(&self, now: Instant) -> f64 {
        self.load().cost(self.instance.weight, now)
    }

    /// Calls under way.
    pub(crate) fn in_flight(&self) -> u32 {
        self.load().in_flight()
    }

    /// Counts a call as under way until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.load().begin();
        InFlight {
            endpoint: self.clone(),
        }
    }

    /// A call failed in a way that speaks against the endpoint.
    pub(crate) fn suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    /// Whether one did, since the last answer.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    /// A call was answered. Whether that is news.
    pub(crate) fn clear_suspicion(&self) -> bool {
        self.is_suspect() && self.suspect.swap(false, Ordering::AcqRel)
    }

    /// A call was answered after so long.
    pub(crate) fn observe(&self, latency: Duration, now: Instant) {
        self.load().observe(latency, now);
    }

    fn load(&self) -> MutexGuard<'_, Load> {
        // Numbers cannot be left half changed by a panic elsewhere.
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way at an endpoint.
#[derive(Debug)]
pub(crate) struct InFlight {
    endpoint: Arc<Endpoint>,
}

impl InFlight {
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.load().end();
    }
}
