//! Discovery from DNS: the addresses of a host with one port, or the targets of an SRV name, asked for again when their
//! time to live has passed. How a name is looked up is in `look.rs`.

mod look;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use thiserror::Error;
use tokio::time::{Instant, sleep};

use self::look::{Found, Known, Question};
use crate::backoff::full_jitter;
use crate::discovery::{Discovery, OnUnavailable};
use crate::error::{Cause, DiscoveryError, RegisterError, chain};
use crate::lease::Lease;
use crate::name::ServiceName;
use crate::registration::{Registration, host_fault};
use crate::snapshot::{Freshness, Snapshot, reuse};
use crate::watch::{Publisher, Watch};

/// Names are asked for again after their time to live, but not sooner: some servers say 0 and mean it.
const SOONEST: Duration = Duration::from_secs(1);
/// Nor later, whatever they say: an instance that is new should be found.
const LATEST: Duration = Duration::from_secs(300);
/// First and longest wait after an error.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_CAP: Duration = Duration::from_secs(30);
/// How long one packet is waited for, and how often a question is sent again: a name server in another place of the
/// network answers within half a second, and what is lost is asked once more.
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);
const ATTEMPTS: usize = 1;

/// Names from DNS: each service is an address name with a port, or an SRV name.
///
/// - Every instance passes; a name that does not exist, or a service that is not listed, has none.
/// - Names are taken as absolute: no search list is tried, with or without a final dot.
/// - The targets of an SRV name are looked up by the same name servers. Each address of a target is an instance, and they
///   share the target's weight, of which each has 1 at least: a weight of 0 counts as 1.
/// - A name is asked for again after the least time to live of all records on the way, aliases included; not sooner than
///   after a second and not later than after five minutes.
/// - An error changes nothing but the freshness: what the failing part of a look-up (a family of addresses, a target) has
///   given last stays, the rest is followed. A look-up takes five seconds at most.
///
/// Cloning is cheap; clones share one look-up per service.
#[derive(Debug, Clone)]
pub struct Dns {
    shared: Arc<Shared>,
}

/// Why DNS cannot be used as a source.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The system says nothing of name servers, or something unreadable.
    #[error("the system's resolver cannot be used")]
    System(#[source] Arc<NetErrorSource>),
    /// The name cannot be one.
    #[error("{name:?} cannot be asked for in DNS: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What the resolver says; its own type is kept out of this crate's interface.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct NetErrorSource(String);

struct Shared {
    resolver: TokioResolver,
    described: String,
    questions: HashMap<ServiceName, Question>,
    publishers: Mutex<HashMap<ServiceName, Arc<Publisher>>>,
}

impl Dns {
    /// Asks the name servers of the system.
    ///
    /// # Errors
    /// The system has none that could be read.
    pub fn system() -> Result<Self, DnsError> {
        let system = |error: NetError| DnsError::System(Arc::new(NetErrorSource(error.to_string())));
        let mut builder = TokioResolver::builder_tokio().map_err(system)?;
        bound(builder.options_mut());
        let resolver = builder.build().map_err(system)?;
        Ok(Self::over(resolver, "the system's DNS".to_owned()))
    }

    /// Asks one name server, over UDP, and over TCP what is too long for that.
    ///
    /// # Errors
    /// The resolver cannot be built.
    pub fn server(address: SocketAddr) -> Result<Self, DnsError> {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        let server = NameServerConfig::new(address.ip(), true, connections.into());
        let config = ResolverConfig::from_name_servers(vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        bound(builder.options_mut());
        // This server was asked for, not what a file of this machine says.
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        let built = builder.build();
        let resolver =
            built.map_err(|error| DnsError::System(Arc::new(NetErrorSource(error.to_string()))))?;
        Ok(Self::over(resolver, format!("DNS at {address}")))
    }

    fn over(resolver: TokioResolver, described: String) -> Self {
        Self {
            shared: Arc::new(Shared {
                resolver,
                described,
                questions: HashMap::new(),
                publishers: Mutex::default(),
            }),
        }
    }

    /// The instances of `service` are the addresses of this host, at this port. A host that is an address is taken as it
    /// is, and nobody is asked.
    ///
    /// # Errors
    /// The host cannot be one, or the port is 0.
    pub fn with_host(self, service: ServiceName, host: &str, port: u16) -> Result<Self, DnsError> {
        if port == 0 {
            return Err(DnsError::Name {
                name: format!("{host}:0"),
                reason: "nobody can dial port 0",
            });
        }
        let name = checked(host)?;
        let question = match is_address(host) {
            true => Question::Address {
                host: host.to_owned(),
                port,
            },
            false => Question::Host { name, port },
        };
        Ok(self.with(service, question))
    }

    /// The instances of `service` are the targets of this SRV name, as in `_svc._tcp.example.com`: those of the lowest
    /// priority, with their weights.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn with_srv(self, service: ServiceName, name: &str) -> Result<Self, DnsError> {
        if is_address(name) {
            return Err(DnsError::Name {
                name: name.to_owned(),
                reason: "it is an address, which has no SRV records",
            });
        }
        let name = checked(name)?;
        Ok(self.with(service, Question::Srv { name }))
    }

    /// Watches that were made before go on with what was asked for then.
    fn with(self, service: ServiceName, question: Question) -> Self {
        let mut questions = self.shared.questions.clone();
        questions.insert(service, question);
        Self {
            shared: Arc::new(Shared {
                resolver: self.shared.resolver.clone(),
                described: self.shared.described.clone(),
                questions,
                publishers: Mutex::default(),
            }),
        }
    }
}

#[async_trait]
impl Discovery for Dns {
    /// One task for each service asks, on the runtime this is called on, as long as somebody watches.
    ///
    /// Without a runtime nothing is asked: the snapshot stays pending.
    fn watch(&self, service: &ServiceName) -> Watch {
        let mut publishers = self
            .shared
            .publishers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(publisher) = publishers.get(service) {
            return publisher.watch();
        }
        let publisher = Arc::new(Publisher::new(service.clone()));
        let watch = publisher.watch();
        let Some(question) = self.shared.questions.get(service).cloned() else {
            publisher.publish(Snapshot::live(service.clone(), []));
            return watch;
        };
        let Ok(handle) = tokio::runtime::Handle::try_current() else {
            return watch;
        };
        publishers.insert(service.clone(), publisher.clone());
        let asking = Asking {
            shared: self.shared.clone(),
            service: service.clone(),
            question,
            publisher,
            known: Known::default(),
            random: fastrand::Rng::with_seed(crate::random::seed()),
        };
        handle.spawn(asking.run());
        watch
    }

    /// There is nobody to tell: the lease passes at once and ends without effect.
    async fn register(&self, registration: Registration, _: OnUnavailable) -> Result<Lease, RegisterError> {
        Ok(Lease::settled(registration.id()))
    }

    fn describe(&self) -> String {
        self.shared.described.clone()
    }
}

/// One service's questions.
struct Asking {
    shared: Arc<Shared>,
    service: ServiceName,
    question: Question,
    publisher: Arc<Publisher>,
    /// What every part of the last look-up gave.
    known: Known,
    random: fastrand::Rng,
}

impl Asking {
    async fn run(mut self) {
        let publisher = self.publisher.clone();
        loop {
            tokio::select! {
                biased;
                () = publisher.unwatched() => {}
                () = self.ask_on() => {}
            }
            // Under the lock that hands out watches: either nobody has got one meanwhile, or we go on.
            let mut publishers = self
                .shared
                .publishers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if publisher.is_unwatched() {
                publishers.remove(&self.service);
                return;
            }
        }
    }

    async fn ask_on(&mut self) {
        let mut failures = 0_u32;
        loop {
            let resolver = &self.shared.resolver;
            let found = look::look(resolver, &self.service, &self.question, &mut self.known).await;
            let wait = match found.trouble {
                None => {
                    failures = 0;
                    found.holds.clamp(SOONEST, LATEST)
                }
                Some(_) => {
                    failures = failures.saturating_add(1);
                    full_jitter(failures, RETRY, RETRY_CAP, self.random.u64(..))
                }
            };
            self.publish(found);
            sleep(wait).await;
        }
    }

    fn publish(&self, found: Found) {
        let last = self.publisher.latest();
        let Some(trouble) = found.trouble else {
            let (instances, same) = reuse(&last.instances, found.instances);
            if !same || !last.freshness.is_live() {
                self.tell(instances, Freshness::Live);
            }
            return;
        };
        // Part of it failed; if the rest is nobody, that says nothing of those we know.
        let (instances, same) = match found.instances.is_empty() {
            true => (last.instances.clone(), true),
            false => reuse(&last.instances, found.instances),
        };
        let error = Arc::new(DiscoveryError::LookUp {
            agent: self.shared.described.as_str().into(),
            name: self.question.name().into(),
            source: Arc::new(trouble) as Cause,
        });
        let text = chain(&*error);
        let freshness = match &last.freshness {
            Freshness::Pending { error: Some(_) } | Freshness::Stale { .. } if same => return,
            Freshness::Pending { .. } if instances.is_empty() => Freshness::Pending { error: Some(error) },
            Freshness::Stale { since, error } => Freshness::Stale {
                since: *since,
                error: error.clone(),
            },
            Freshness::Pending { .. } | Freshness::Live => Freshness::Stale {
                since: Instant::now().into_std(),
                error,
            },
        };
        if !matches!(last.freshness, Freshness::Stale { .. }) {
            tracing::warn!(service = %self.service, error = %text, "look-up fails; what is known is kept");
        }
        self.tell(instances, freshness);
    }

    fn tell(&self, instances: Vec<Arc<crate::Instance>>, freshness: Freshness) {
        self.publisher.publish(Snapshot {
            service: self.service.clone(),
            instances,
            freshness,
            revision: 0,
        });
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns")
            .field("source", &self.described)
            .field("questions", &self.questions)
            .finish_non_exhaustive()
    }
}

/// What is asked of the resolver: we keep what we know ourselves until its time to live has passed, and it must not wait
/// for a name server that is not there as long as its defaults do (15 s).
fn bound(options: &mut ResolverOpts) {
    options.cache_size = 0;
    options.timeout = ANSWER_WITHIN;
    options.attempts = ATTEMPTS;
    // The aliases on the way, because their time to live counts.
    options.preserve_intermediates = true;
}

/// A name with its final dot, so that no search list is tried.
fn checked(name: &str) -> Result<String, DnsError> {
    let bare = name.strip_suffix('.').unwrap_or(name);
    match host_fault(bare) {
        Some(reason) => Err(DnsError::Name {
            name: name.to_owned(),
            reason,
        }),
        None => Ok(format!("{bare}.")),
    }
}

/// Whether it is an address, also one with a zone.
fn is_address(host: &str) -> bool {
    host.split('%').next().unwrap_or(host).parse::<IpAddr>().is_ok()
}
