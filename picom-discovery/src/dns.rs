//! Discovery from DNS: the addresses of a host with one port, or the targets of an SRV name, asked for again when their
//! time to live has passed.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Answered, NetError};
use hickory_resolver::proto::rr::{RData, RecordType};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::backoff::full_jitter;
use crate::discovery::{Discovery, OnUnavailable};
use crate::error::{Cause, DiscoveryError, Phase, RegisterError};
use crate::instance::Instance;
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
/// After an answer that there is nobody, where it does not say how long that holds: who waits for the first instance
/// should find it soon, and a question every few seconds is nothing to a name server.
const NOBODY: u32 = 5;
/// Records of one answer that are taken; more are no set of instances but a mistake.
const MAX_RECORDS: usize = 4096;
/// The version of the native protocol those in DNS speak: the first, which every picom speaks.
const NATIVE: u16 = 1;

/// Names from DNS: each service is an address name with a port, or an SRV name. Every instance passes; a name that does
/// not exist, or a service that is not listed, has none. An error changes nothing but the freshness. Cloning is cheap;
/// clones share one look-up per service.
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

#[derive(Debug, Clone)]
enum Question {
    /// A and AAAA, at one port.
    Host { name: String, port: u16 },
    /// SRV, and then the addresses of its targets by their names.
    Srv { name: String },
}

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
        // We keep what we know ourselves, until its time to live has passed.
        builder.options_mut().cache_size = 0;
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
        builder.options_mut().cache_size = 0;
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

    /// The instances of `service` are the addresses of this host, at this port.
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
        Ok(self.with(service, Question::Host { name, port }))
    }

    /// The instances of `service` are the targets of this SRV name, as in `_svc._tcp.example.com`: those of the lowest
    /// priority, with their weights.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn with_srv(self, service: ServiceName, name: &str) -> Result<Self, DnsError> {
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

/// The records of one answer, each with its time to live.
struct Records {
    all: Vec<(RData, u32)>,
    /// How long it holds that there are none, if there are none.
    nobody_for: Option<u32>,
}

/// One service's questions.
struct Asking {
    shared: Arc<Shared>,
    service: ServiceName,
    question: Question,
    publisher: Arc<Publisher>,
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
            let asked = self.shared.ask(&self.service, &self.question).await;
            let wait = match &asked {
                Ok((_, ttl)) => {
                    failures = 0;
                    (*ttl).clamp(SOONEST, LATEST)
                }
                Err(_) => {
                    failures = failures.saturating_add(1);
                    full_jitter(failures, RETRY, RETRY_CAP, self.random.u64(..))
                }
            };
            self.publish(asked.map(|(instances, _)| instances));
            sleep(wait).await;
        }
    }

    fn publish(&self, asked: Result<Vec<Arc<Instance>>, NetError>) {
        let last = self.publisher.latest();
        let (instances, freshness) = match asked {
            Ok(found) => {
                let (instances, same) = reuse(&last.instances, found);
                if same && last.freshness.is_live() {
                    return;
                }
                (instances, Freshness::Live)
            }
            Err(error) => {
                let error = Arc::new(DiscoveryError::Transport {
                    agent: self.shared.described.as_str().into(),
                    phase: Phase::Exchange,
                    source: Arc::new(error) as Cause,
                });
                let freshness = match &last.freshness {
                    Freshness::Pending { error: Some(_) } | Freshness::Stale { .. } => return,
                    Freshness::Pending { error: None } => Freshness::Pending { error: Some(error) },
                    Freshness::Live => Freshness::Stale {
                        since: Instant::now().into_std(),
                        error,
                    },
                };
                tracing::warn!(service = %self.service, source = %self.shared.described, "look-up fails; what is known is kept");
                (last.instances.clone(), freshness)
            }
        };
        self.publisher.publish(Snapshot {
            service: self.service.clone(),
            instances,
            freshness,
            revision: 0,
        });
    }
}

impl Shared {
    /// The instances, sorted, and how long that holds.
    async fn ask(
        &self,
        service: &ServiceName,
        question: &Question,
    ) -> Result<(Vec<Arc<Instance>>, Duration), NetError> {
        let mut found = Vec::new();
        let mut ttl = u32::MAX;
        let nobody_for;
        match question {
            Question::Host { name, port } => {
                let (addresses, absent) = self.addresses(name, &mut ttl).await?;
                nobody_for = absent;
                for address in addresses {
                    found.push(Instance::at(service.clone(), address.to_string(), *port));
                }
            }
            Question::Srv { name } => {
                let mut targets = Vec::new();
                let records = self.records(name, RecordType::SRV).await?;
                nobody_for = records.nobody_for;
                for (data, lives) in records.all {
                    if let RData::SRV(srv) = data {
                        ttl = ttl.min(lives);
                        targets.push(srv);
                    }
                }
                // The rule of SRV: the others are for when these are all gone, which a look-up cannot know.
                let first = targets.iter().map(|srv| srv.priority).min();
                for srv in targets
                    .into_iter()
                    .filter(|srv| Some(srv.priority) == first && srv.port != 0)
                {
                    let host = srv.target.to_utf8();
                    let host = host.trim_end_matches('.');
                    // A target of "." says that there is no such service.
                    if host_fault(host).is_none() {
                        let mut one = Instance::at(service.clone(), host, srv.port);
                        one.weight = u32::from(srv.weight.max(1));
                        found.push(one);
                    }
                }
            }
        }
        let instances = found.into_iter().map(|mut one| {
            one.node = "dns".into();
            one.native(NATIVE)
        });
        let ttl = match ttl {
            u32::MAX => nobody_for.unwrap_or(NOBODY),
            ttl => ttl,
        };
        let snapshot = Snapshot::live(service.clone(), instances);
        Ok((snapshot.instances, Duration::from_secs(ttl.into())))
    }

    /// A and AAAA, and how long it holds that there are none. That one of them fails is no error if the other has something.
    async fn addresses(&self, name: &str, ttl: &mut u32) -> Result<(Vec<IpAddr>, Option<u32>), NetError> {
        let (four, six) = tokio::join!(
            self.records(name, RecordType::A),
            self.records(name, RecordType::AAAA)
        );
        let (all, nobody_for) = match (four, six) {
            (Ok(four), Ok(six)) => {
                let shorter = four.nobody_for.into_iter().chain(six.nobody_for).min();
                (four.all.into_iter().chain(six.all).collect(), shorter)
            }
            (Ok(some), Err(error)) | (Err(error), Ok(some)) => match some.all.is_empty() {
                true => return Err(error),
                false => (some.all, None),
            },
            (Err(error), Err(_)) => return Err(error),
        };
        let mut addresses = Vec::new();
        for (data, lives) in all {
            match data {
                RData::A(address) => addresses.push(IpAddr::V4(address.0)),
                RData::AAAA(address) => addresses.push(IpAddr::V6(address.0)),
                _ => continue,
            }
            *ttl = (*ttl).min(lives);
        }
        Ok((addresses, nobody_for))
    }

    /// The records of one type.
    async fn records(&self, name: &str, of: RecordType) -> Result<Records, NetError> {
        match self.resolver.lookup(name, of).await {
            Ok(found) => {
                let records = found.answers().iter().take(MAX_RECORDS);
                Ok(Records {
                    all: records.map(|record| (record.data.clone(), record.ttl)).collect(),
                    nobody_for: None,
                })
            }
            Err(NetError::Dns(Answered::NoRecordsFound(none))) => Ok(Records {
                all: Vec::new(),
                nobody_for: none.negative_ttl,
            }),
            Err(error) => Err(error),
        }
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
