//! A registry in memory that does what a test says: programs run on it, and it can be made to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::discovery::{Discovery, OnUnavailable};
use crate::error::{DiscoveryError, EndError, RegisterError};
use crate::excerpt::Excerpt;
use crate::instance::{Health, Instance};
use crate::lease::{Lease, LeaseState};
use crate::name::ServiceName;
use crate::registration::Registration;
use crate::snapshot::{Freshness, Snapshot, normalized, reuse};
use crate::watch::{Publisher, Watch};

/// A registry in memory. Clones share it; a service registered through one is seen by watchers of all.
///
/// Nothing in it happens by itself, there are no timers: [`beat`](Self::beat) stands for the heartbeats. Every method
/// takes effect before it returns.
#[derive(Debug, Clone, Default)]
pub struct Mock {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    services: BTreeMap<ServiceName, Service>,
    registered: BTreeMap<Arc<str>, Registered>,
    failure: Option<Arc<DiscoveryError>>,
    /// Counts registrations, as a registry's index does.
    created: u64,
}

#[derive(Debug)]
struct Service {
    publisher: Publisher,
    placed: Vec<Instance>,
}

#[derive(Debug)]
struct Registered {
    registration: Registration,
    lease: watch::Sender<LeaseState>,
    /// What watchers see; `None` until the registry could be reached, and after a removal.
    instance: Option<Instance>,
    /// Out of service by its owner's wish.
    draining: bool,
    /// Ended while the registry was away: removed when it is back.
    ended: bool,
}

impl Mock {
    /// A registry without services.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes these the instances of `service`, beside those registered through this mock.
    pub fn set(&self, service: &ServiceName, instances: impl IntoIterator<Item = Instance>) {
        let mut state = self.lock();
        state.service(service).placed = instances.into_iter().collect();
        state.publish(service);
    }

    /// Takes the instance with this id out of the registry. One that was registered is lost to its owner, whose lease
    /// fails until the next [`beat`](Self::beat) registers it again. `false` if there is none.
    pub fn remove(&self, service: &ServiceName, id: &str) -> bool {
        let mut state = self.lock();
        let placed = &mut state.service(service).placed;
        let count = placed.len();
        placed.retain(|one| &*one.id != id);
        let mut found = placed.len() != count;
        if let Some(entry) = state
            .registered
            .get_mut(id)
            .filter(|entry| entry.registration.service() == service)
        {
            found |= entry.instance.take().is_some();
            let error = DiscoveryError::NotRegistered {
                agent: AGENT.into(),
                id: id.into(),
            };
            entry.lease.send_replace(LeaseState::Failing {
                error: Arc::new(error),
            });
        }
        state.publish(service);
        found
    }

    /// Gives the instance with this id another health. A registered one keeps it until the next [`beat`](Self::beat).
    /// `false` if there is none.
    pub fn set_health(&self, service: &ServiceName, id: &str, health: Health) -> bool {
        let mut state = self.lock();
        let mut found = false;
        for one in state
            .service(service)
            .placed
            .iter_mut()
            .filter(|one| &*one.id == id)
        {
            one.health = health;
            found = true;
        }
        if let Some(one) = state
            .registered
            .get_mut(id)
            .and_then(|entry| entry.instance.as_mut())
            && one.service == *service
        {
            one.health = health;
            found = true;
        }
        state.publish(service);
        found
    }

    /// The registry cannot be asked any more: what is known becomes stale, registrations fail (for good, if `error`
    /// [is permanent](DiscoveryError::is_permanent)), leases say so.
    pub fn fail(&self, error: DiscoveryError) {
        let mut state = self.lock();
        let error = Arc::new(error);
        state.failure = Some(error.clone());
        for entry in state.registered.values() {
            entry.lease.send_replace(match entry.instance {
                Some(_) => LeaseState::Failing { error: error.clone() },
                None => LeaseState::Registering {
                    error: Some(error.clone()),
                },
            });
        }
        state.publish_all();
    }

    /// The same with the error of a registry that has no leader.
    pub fn fail_unavailable(&self) {
        self.fail(DiscoveryError::Unavailable {
            agent: AGENT.into(),
            request: "anything",
            status: 500,
            text: Excerpt::new("No cluster leader"),
            retry_after: None,
        });
    }

    /// The registry is back: what is known is live, what waits is registered, what ended meanwhile is removed.
    pub fn recover(&self) {
        let mut state = self.lock();
        state.failure = None;
        state.registered.retain(|_, entry| !entry.ended);
        state.beat(None);
        state.publish_all();
    }

    /// One heartbeat of every lease: asks the probes; who says no fails its check, who says yes passes, who was
    /// forgotten is registered again. Without effect while the registry cannot be asked.
    pub fn beat(&self) {
        let mut state = self.lock();
        if state.failure.is_none() {
            state.beat(None);
            state.publish_all();
        }
    }

    /// What is registered and known to the registry, by id.
    pub fn registrations(&self) -> Vec<Registration> {
        let state = self.lock();
        let known = state.registered.values().filter(|entry| entry.instance.is_some());
        known.map(|entry| entry.registration.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under the lock but probes, whose panics are caught.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether watchers have seen it out of service.
    fn drain(&self, id: &Arc<str>) -> bool {
        let mut state = self.lock();
        if let Some(entry) = state.registered.get_mut(id) {
            entry.draining = true;
        }
        if state.failure.is_some() {
            return false;
        }
        state.beat(Some(id));
        state.publish_all();
        true
    }

    fn end(&self, id: &Arc<str>) -> Result<(), EndError> {
        let mut state = self.lock();
        let failure = state.failure.clone();
        let Some(entry) = state.registered.get_mut(id) else {
            return Ok(());
        };
        entry.lease.send_replace(LeaseState::Ended);
        match failure {
            Some(source) if entry.instance.is_some() => {
                entry.ended = true;
                Err(EndError::Failed {
                    id: id.clone(),
                    source,
                })
            }
            _ => {
                let service = entry.registration.service().clone();
                state.registered.remove(id);
                state.publish(&service);
                Ok(())
            }
        }
    }
}

const AGENT: &str = "the mock registry";

#[async_trait]
impl Discovery for Mock {
    fn watch(&self, service: &ServiceName) -> Watch {
        let mut state = self.lock();
        let is_new = !state.services.contains_key(service);
        let watch = state.service(service).publisher.watch();
        if is_new {
            state.publish(service);
        }
        watch
    }

    async fn register(
        &self,
        registration: Registration,
        on_unavailable: OnUnavailable,
    ) -> Result<Lease, RegisterError> {
        let id: Arc<str> = registration.id().into();
        let service = registration.service().clone();
        let mut state = self.lock();
        if state.registered.contains_key(&id) {
            return Err(RegisterError::Duplicate { id: id.to_string() });
        }
        if let Some(source) = state.failure.clone() {
            let name = service.to_string();
            if source.is_permanent() {
                return Err(RegisterError::Refused {
                    service: name,
                    source,
                });
            }
            if on_unavailable == OnUnavailable::Fail {
                return Err(RegisterError::Unavailable {
                    service: name,
                    source,
                });
            }
        }
        let (lease, receiver) = watch::channel(LeaseState::Registering {
            error: state.failure.clone(),
        });
        let entry = Registered {
            registration,
            lease,
            instance: None,
            draining: false,
            ended: false,
        };
        state.registered.insert(id.clone(), entry);
        if state.failure.is_none() {
            state.beat(Some(&id));
            state.publish(&service);
        }
        let (mock, key) = (self.clone(), id.clone());
        let (drained, drain_key) = (self.clone(), id.clone());
        Ok(Lease::released_by(
            id,
            receiver,
            move || drained.drain(&drain_key),
            Box::new(move || mock.end(&key)),
        ))
    }

    fn describe(&self) -> String {
        AGENT.to_owned()
    }
}

impl State {
    fn service(&mut self, name: &ServiceName) -> &mut Service {
        self.services.entry(name.clone()).or_insert_with(|| Service {
            publisher: Publisher::new(name.clone()),
            placed: Vec::new(),
        })
    }

    /// One heartbeat of this lease, or of all.
    fn beat(&mut self, only: Option<&Arc<str>>) {
        for (id, entry) in self
            .registered
            .iter_mut()
            .filter(|(id, _)| only.is_none_or(|only| only == *id))
        {
            let created = self.created + 1;
            let instance = entry.instance.get_or_insert_with(|| {
                self.created = created;
                instance_of(&entry.registration, created)
            });
            if entry.registration.alive().is_none_or(|probe| probe.ask()) {
                instance.health = match entry.draining {
                    true => Health::Maintenance,
                    false => Health::Passing,
                };
                entry.lease.send_replace(LeaseState::Passing);
            } else {
                instance.health = Health::Critical;
                let error = Arc::new(DiscoveryError::NotServing { id: id.clone() });
                entry.lease.send_replace(LeaseState::Failing { error });
            }
        }
    }

    fn publish_all(&mut self) {
        let mut names: Vec<_> = self.services.keys().cloned().collect();
        names.extend(
            self.registered
                .values()
                .map(|entry| entry.registration.service().clone()),
        );
        for name in names {
            self.publish(&name);
        }
    }

    /// Publishes the set of a service, if it or its freshness has changed.
    fn publish(&mut self, name: &ServiceName) {
        let failure = self.failure.clone();
        let registered = self
            .registered
            .values()
            .filter_map(|entry| entry.instance.as_ref());
        let mut instances: Vec<_> = registered.filter(|one| one.service == *name).cloned().collect();
        let service = self.service(name);
        instances.extend(service.placed.iter().cloned());
        let last = service.publisher.latest();
        let (mut instances, mut same) = reuse(
            &last.instances,
            normalized(instances.into_iter().map(Arc::new).collect()),
        );
        let freshness = match failure {
            None => Freshness::Live,
            Some(error) => {
                // Nobody can ask: what was known stays.
                (instances, same) = (last.instances.clone(), true);
                match &last.freshness {
                    Freshness::Pending { .. } => Freshness::Pending { error: Some(error) },
                    Freshness::Live => Freshness::Stale { since: now(), error },
                    Freshness::Stale { since, .. } => Freshness::Stale { since: *since, error },
                }
            }
        };
        if !(same && last.freshness.is_live() && freshness.is_live()) {
            service.publisher.publish(Snapshot {
                service: name.clone(),
                instances,
                freshness,
                revision: 0,
            });
        }
    }
}

/// The clock of tokio, which tests pause, where there is a runtime; any other would not be the caller's.
fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

fn instance_of(registration: &Registration, created: u64) -> Instance {
    Instance {
        id: registration.id().into(),
        node: "mock".into(),
        tags: registration
            .tags()
            .iter()
            .map(|tag| tag.as_str().into())
            .collect(),
        meta: registration
            .meta()
            .iter()
            .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
            .collect(),
        weight: registration.weight(),
        created,
        ..Instance::at(
            registration.service().clone(),
            registration.host(),
            registration.port(),
        )
    }
}
