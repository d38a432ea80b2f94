//! The calling side: whom to ask, how often, and what came back.

mod accrual;
mod balance;
mod call;
mod config;
mod endpoint;
mod endpoints;
mod fetch;
mod flight;
mod load;
mod options;
mod pump;
mod random;
mod reply;
mod retry;
pub(crate) mod ring;
mod service;
mod stream;
mod wake_flag;

pub use balance::Balance;
pub use config::ClientConfig;
pub use endpoints::EndpointState;
pub use fetch::{Fetch, Fetching};
pub use reply::{All, Collect, One, Optional};
pub use service::{EndpointStatus, ServiceStatus};
pub use stream::{ReceiveCall, StreamCall};

pub(crate) use stream::Reception;

use crate::error::{CallError, Subject};
use crate::failure::CallFailure;
use crate::message::{Receive, Transmit};
use call::Call;
use picom_codec::{Body, Method, value};
use picom_discovery::{Discovery, ServiceName};
use picom_transport::{ConfigError, Connector, Pool, PoolStats};
use serde::Serialize;
use service::{Service, now};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Calls services by name. A cheap handle: all clones share connections, watches and budgets.
///
/// The first call of a service begins to watch it in discovery, and connections are made and kept ahead of need while it
/// is called. A service that was not called for ten minutes is not watched any more.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    discovery: Arc<dyn Discovery>,
    pool: Pool,
    config: ClientConfig,
    services: RwLock<BTreeMap<Arc<str>, Arc<Service>>>,
    closed: AtomicBool,
}

impl Client {
    /// A client that looks for services in `discovery` and dials through `connector`. Does nothing until it is used.
    ///
    /// # Errors
    ///
    /// When the configuration of its connections does not fit.
    pub fn new(
        discovery: Arc<dyn Discovery>,
        connector: Arc<dyn Connector>,
        config: ClientConfig,
    ) -> Result<Client, ConfigError> {
        let pool = Pool::new(connector, config.pool.clone(), config.connection.clone())?;
        let inner = Inner {
            discovery,
            pool,
            config,
            services: RwLock::default(),
            closed: AtomicBool::new(false),
        };
        Ok(Client {
            inner: Arc::new(inner),
        })
    }

    /// Calls a method and gives the first value of its reply, once the reply is complete: an error behind the value is an
    /// error.
    pub fn fetch<T: Receive>(
        &self,
        service: &str,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Fetch<One<T>> {
        self.fetch_as(service, method, args)
    }

    /// The same for a reply that may be empty.
    pub fn fetch_opt<T: Receive>(
        &self,
        service: &str,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Fetch<Optional<T>> {
        self.fetch_as(service, method, args)
    }

    /// Calls a method and gives all values of its reply, as far as [`ClientConfig::collect_items`] and
    /// [`ClientConfig::collect_bytes`] allow.
    pub fn fetch_all<T: Receive>(
        &self,
        service: &str,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Fetch<All<T>> {
        self.fetch_as(service, method, args)
    }

    /// Calls a method and gives what `C` makes of its reply, or fails in an `E`: for layers above that have an error of
    /// their own.
    #[inline]
    pub fn fetch_as<C: Collect, E>(
        &self,
        service: &str,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Fetch<C, E> {
        match self.prepare(service, method, args) {
            Ok((service, method, args)) => Fetch::new(Call::new(self.clone(), service, method, args)),
            Err(error) => Fetch::failed(error),
        }
    }

    /// Calls a method and gives a sender for its input and a receiver for its reply.
    pub fn stream<I: Transmit, O: Receive>(
        &self,
        service: &str,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> StreamCall<I, O> {
        let prepared = self.prepare(service, method, args);
        StreamCall::new(
            prepared.map(|(service, method, args)| Call::new(self.clone(), service, method, args)),
        )
    }

    /// How the client is set.
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// How every service stands that was called lately, by name.
    pub fn status(&self) -> Vec<ServiceStatus> {
        let services = self.inner.services.read().unwrap_or_else(PoisonError::into_inner);
        let mut status: Vec<ServiceStatus> = services.values().map(|service| service.status()).collect();
        status.sort_by(|one, other| one.name.cmp(&other.name));
        status
    }

    /// Counters of its connections.
    pub fn pool_stats(&self) -> PoolStats {
        self.inner.pool.stats()
    }

    /// Makes no more calls, and lets those under way end: returns when they have, at the latest after `grace` and a
    /// moment, with those that are left cut. Cancel safe in that the client stays closed.
    pub async fn close(&self, grace: Duration) {
        self.inner.closed.store(true, Ordering::Release);
        let services: Vec<Arc<Service>> = {
            let mut services = self
                .inner
                .services
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *services).into_values().collect()
        };
        for service in &services {
            service.close();
        }
        self.inner.pool.close(grace).await;
    }

    fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }

    /// What a call is about, checked and encoded.
    fn prepare(
        &self,
        service: &str,
        method: &str,
        args: &(impl Serialize + ?Sized),
    ) -> Result<(Arc<Service>, Method, Body), CallError> {
        let fail = |failure| {
            CallError::new(
                Subject::Call {
                    service: service.into(),
                    method: method.into(),
                },
                failure,
            )
        };
        let checked = Method::new(method).map_err(|error| fail(CallFailure::Method(error)))?;
        let args = value::encode_body(args).map_err(|error| fail(CallFailure::Encode(error)))?;
        let service = self.service(service).map_err(fail)?;
        Ok((service, checked, args))
    }

    fn service(&self, name: &str) -> Result<Arc<Service>, CallFailure> {
        let known = self
            .inner
            .services
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned();
        if let Some(service) = known {
            return Ok(service);
        }
        let checked = ServiceName::new(name).map_err(CallFailure::Service)?;
        let mut services = self
            .inner
            .services
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let service = services.entry(name.into()).or_insert_with(|| {
            Arc::new(Service::new(
                &checked,
                self.inner.pool.clone(),
                &self.inner.config,
                now(),
            ))
        });
        Ok(service.clone())
    }

    /// Watches the service, if nobody does yet.
    fn follow(&self, service: &Arc<Service>) {
        if service.has_started() {
            return;
        }
        let client = Arc::downgrade(&self.inner);
        let name = || ServiceName::new(&*service.name).ok();
        service.follow(&self.inner.discovery, name, move |service| {
            let Some(inner) = client.upgrade() else {
                return true;
            };
            let mut services = inner.services.write().unwrap_or_else(PoisonError::into_inner);
            // One handle is the table's, one the keeper's that asks: nobody else holds or can get one.
            let unused = Arc::strong_count(service) <= 2;
            if unused {
                services.remove(&service.name);
            }
            unused
        });
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("discovery", &self.inner.discovery)
            .finish_non_exhaustive()
    }
}
