//! Discovery through an agent of Consul, over its HTTP API and by its rules.
//!
//! Two machines decide and know no network: `query` (when a watched name is asked for, and with which index) and
//! `check` with `ending` (when a registration is made, beaten, looked at, taken back). Two shells do what they say: `resolver`, on the
//! runtime of who watches, and `registrar`, on the heartbeat [`Lane`]. `api`, `answer` and `entry` are Consul's words,
//! `http` and `dial` how they travel.

mod address;
mod answer;
mod api;
mod budget;
mod check;
mod config;
mod dial;
mod ending;
mod entry;
mod environment;
mod http;
mod pool;
mod query;
mod recall;
mod registrar;
mod resolver;
#[cfg(feature = "tls")]
mod tls;
mod token;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hyper::header::HeaderValue;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use self::api::Scope;
use self::budget::Budget;
use self::dial::TcpDial;
use self::entry::View;
use self::http::Http;
use self::pool::{Kin, Pool};
use self::registrar::{Claim, Registrar};
use self::resolver::Resolver;
use self::token::TokenKeeper;
use crate::discovery::{Discovery, OnUnavailable};
use crate::error::RegisterError;
use crate::lane::Lane;
use crate::lease::Lease;
use crate::name::ServiceName;
use crate::registration::Registration;
use crate::watch::{Publisher, Watch};

pub use self::address::AgentAddress;
pub use self::config::{ConfigError, Consistency, ConsulConfig, Reach, TlsSettings};
pub use self::dial::{ByteStream, Dial};
pub use self::token::{Secret, SecretError, Token};

/// A client of one Consul agent. Cloning is cheap; clones share connections, and one watch per name.
///
/// Connections to the agent: one per watched name, at most [`ConsulConfig::max_watches`] of them in the process (names
/// beyond that take turns); up to four each for heartbeats and other calls of a client, usually one. Clients of one agent
/// share those, and all in the process have no more than 24 of each kind, half of them between two calls.
/// Consul takes 200 from one address, and on loopback all processes of a machine share those.
#[derive(Clone)]
pub struct Consul {
    client: Arc<Client>,
}

/// What resolvers and registrars of one client share.
pub(crate) struct Client {
    agent: Arc<str>,
    http: Arc<Http>,
    scope: Scope,
    token: TokenKeeper,
    wait: Duration,
    call_timeout: Duration,
    settling: Duration,
    view: View,
    budget: Arc<Budget>,
    beats: Pool,
    calls: Pool,
    lane: Lane,
    random: Mutex<fastrand::Rng>,
    resolvers: Mutex<HashMap<ServiceName, Arc<Publisher>>>,
    ids: Mutex<HashSet<Arc<str>>>,
}

impl Consul {
    /// A client of the agent `config` names. Nothing is sent yet.
    ///
    /// # Errors
    /// A value out of range, or a token file that cannot be read.
    pub fn new(config: ConsulConfig) -> Result<Self, ConfigError> {
        let dial: Arc<dyn Dial> = match &config.address {
            AgentAddress::Tcp { host, port, .. } => {
                let tcp = TcpDial {
                    host: host.clone(),
                    port: *port,
                };
                match config.tls.enabled {
                    true => over_tls(tcp, &config)?,
                    false => Arc::new(tcp),
                }
            }
            #[cfg(unix)]
            AgentAddress::Unix { path } => Arc::new(dial::UnixDial { path: path.clone() }),
            #[cfg(not(unix))]
            AgentAddress::Unix { path } => {
                let (setting, reason) = ("the agent's address", "there are no unix sockets on this system");
                return Err(ConfigError::Unsupported {
                    setting,
                    value: path.display().to_string(),
                    reason,
                });
            }
        };
        config.check()?;
        let budget = Budget::of(&config.address, config.max_watches);
        let kin = Kin::of(&config);
        Self::over(config, dial, budget, kin)
    }

    /// The same over connections of another kind; the address in `config` is used for the `Host` header and in
    /// messages only, and `max_watches` is this client's own.
    pub fn with_dial(config: ConsulConfig, dial: Arc<dyn Dial>) -> Result<Self, ConfigError> {
        let budget = Budget::new(config.max_watches);
        Self::over(config, dial, budget, Kin::own())
    }

    fn over(
        config: ConsulConfig,
        dial: Arc<dyn Dial>,
        budget: Arc<Budget>,
        kin: Kin,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let scheme = if config.tls.enabled { "https://" } else { "" };
        let agent: Arc<str> = format!("Consul at {scheme}{}", config.address).into();
        let host = config.address.host_header();
        let http = Arc::new(Http {
            agent: agent.clone(),
            dial,
            host: HeaderValue::from_str(&host).map_err(|_| ConfigError::Address {
                address: config.address.to_string(),
                reason: "it holds characters a header cannot carry",
            })?,
            authorization: config.basic_auth.as_ref().map(|pair| pair.as_header().clone()),
            prefix: config.address.prefix().to_owned(),
            connect_timeout: config.connect_timeout,
            max_body: config.max_body,
        });
        let token = TokenKeeper::new(config.token.clone()).map_err(|error| ConfigError::TokenFile {
            path: match &config.token {
                Token::File { path, .. } => path.clone(),
                _ => Default::default(),
            },
            source: Arc::new(error),
        })?;
        let random = fastrand::Rng::with_seed(config.seed.unwrap_or_else(crate::random::seed));
        let client = Client {
            scope: Scope::new(&config),
            beats: Pool::new(http.clone(), kin.clone(), budget.beats.clone()),
            calls: Pool::new(http.clone(), kin, budget.calls.clone()),
            agent,
            http,
            token,
            wait: config.wait,
            call_timeout: config.call_timeout,
            settling: config.settling,
            view: View::new(&config),
            budget,
            lane: config.lane,
            random: Mutex::new(random),
            resolvers: Mutex::default(),
            ids: Mutex::default(),
        };
        Ok(Self {
            client: Arc::new(client),
        })
    }
}

#[cfg(feature = "tls")]
fn over_tls(tcp: TcpDial, config: &ConsulConfig) -> Result<Arc<dyn Dial>, ConfigError> {
    Ok(Arc::new(tls::TlsDial::new(tcp, config.tls.clone())?))
}

#[cfg(not(feature = "tls"))]
fn over_tls(_tcp: TcpDial, config: &ConsulConfig) -> Result<Arc<dyn Dial>, ConfigError> {
    Err(ConfigError::Unsupported {
        setting: "the agent's address",
        value: format!("https://{}", config.address),
        reason: "TLS needs the feature `tls` of picom-discovery; or use http to an agent on this machine, or a unix socket",
    })
}

#[async_trait]
impl Discovery for Consul {
    /// One blocking query per name, whoever watches it, on the runtime this is called on (outside of one, on the
    /// heartbeat lane). When that runtime is shut down, watches in others become stale and stay so; a new `watch` of
    /// the name begins anew. The query ends, and its connection closes, with the last [`Watch`]; it does not need the
    /// `Consul` handle to live.
    ///
    /// With ACLs, Consul answers a token that may not read a service (`service:read` and `node:read` are both needed)
    /// with an empty set. Versions from about 1.12 on say that they did, which is an error here; older ones cannot be
    /// told from a service without instances.
    fn watch(&self, service: &ServiceName) -> Watch {
        let mut resolvers = self
            .client
            .resolvers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(publisher) = resolvers.get(service) {
            return publisher.watch();
        }
        let publisher = Arc::new(Publisher::new(service.clone()));
        let watch = publisher.watch();
        resolvers.insert(service.clone(), publisher.clone());
        drop(resolvers);
        let task = Resolver::new(self.client.clone(), service.clone(), publisher).run();
        match Handle::try_current() {
            Ok(handle) => {
                handle.spawn(task);
            }
            Err(_) => {
                if let Err(error) = Lane::Thread.spawn(task) {
                    // The task was dropped, and has published that it stopped.
                    tracing::warn!(%service, %error, "no runtime to watch on");
                }
            }
        }
        watch
    }

    /// One call registers the service with its TTL check, a heartbeat follows at once. The requests run on the
    /// heartbeat lane.
    async fn register(
        &self,
        registration: Registration,
        on_unavailable: OnUnavailable,
    ) -> Result<Lease, RegisterError> {
        let service = registration.service().to_string();
        let Some(claim) = Claim::new(self.client.clone(), registration.id()) else {
            return Err(RegisterError::Duplicate {
                id: registration.id().to_owned(),
            });
        };
        let (lease, keeper) = Lease::pair(registration.id());
        let (first, told) = oneshot::channel();
        let registrar = Registrar::new(claim, registration, keeper, first, on_unavailable);
        let lane_fault = |source| RegisterError::Lane {
            service: service.clone(),
            source: Arc::new(source),
        };
        self.client.lane.spawn(registrar.run()).map_err(lane_fault)?;
        match told.await {
            Ok(result) => result.map(|()| lease.seen()),
            // The task is gone, with its runtime.
            Err(_) => Err(lane_fault(std::io::Error::other(
                "the runtime of the heartbeats was shut down",
            ))),
        }
    }

    fn describe(&self) -> String {
        self.client.agent.to_string()
    }
}

impl Client {
    /// A generator of its own for a task, so that tasks do not share a lock.
    fn fork_random(&self) -> fastrand::Rng {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consul")
            .field("agent", &self.client.agent)
            .finish_non_exhaustive()
    }
}
