//! One look at a name: which records are asked for, which count, and how long what they say holds. When it is looked again
//! is decided in `dns.rs`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError as Answered, NetError};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::instance::Instance;
use crate::name::ServiceName;
use crate::registration::host_fault;
use crate::snapshot::Snapshot;

/// After an answer that there is nobody, where it does not say how long that holds: who waits for the first instance
/// should find it soon, and a question every few seconds is nothing to a name server.
const NOBODY: u32 = 5;
/// Records of one answer that are taken; more are no set of instances but a mistake.
const MAX_RECORDS: usize = 4096;
/// The version of the native protocol those in DNS speak: the first, which every picom speaks.
const NATIVE: u16 = 1;
/// For one question: both attempts of the resolver. A family of addresses whose packets are dropped holds the other up
/// for no longer.
const QUESTION: Duration = Duration::from_secs(3);
/// For all of it: an SRV name is one question, and then those for its targets.
const LOOK: Duration = Duration::from_secs(5);
/// Targets that are asked for at once, with two questions each: the resolver has 32 on one connection at most.
const AT_ONCE: usize = 12;

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) enum Question {
    /// Nothing: this is an address.
    Address { host: String, port: u16 },
    /// A and AAAA, at one port.
    Host { name: String, port: u16 },
    /// SRV, and then the addresses of its targets.
    Srv { name: String },
}

/// What a look has found.
#[derive(Debug)]
pub(super) struct Found {
    /// Sorted. With what was known before, where asking failed.
    pub(super) instances: Vec<Arc<Instance>>,
    /// For how long.
    pub(super) holds: Duration,
    /// What failed, if anything did.
    pub(super) trouble: Option<NetError>,
}

/// What each question for addresses gave when it was answered last.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<(String, RecordType), Vec<IpAddr>>);

/// The shortest time to live so far, of records and of their absence.
#[derive(Debug, Clone, Copy, Default)]
struct Ttl(Option<u32>);

/// The addresses of one name.
struct Addresses {
    /// By family; an error is of one question.
    families: [(RecordType, Result<Vec<IpAddr>, NetError>); 2],
    ttl: Ttl,
}

impl Question {
    /// Whom it is about, for messages.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Address { host, .. } => host,
            Self::Host { name, .. } | Self::Srv { name } => name.trim_end_matches('.'),
        }
    }
}

/// Looks once, within [`LOOK`]. Cancel safe: `known` changes only at the end.
pub(super) async fn look(
    resolver: &TokioResolver,
    service: &ServiceName,
    question: &Question,
    known: &mut Known,
) -> Found {
    let deadline = Instant::now() + LOOK;
    let mut looked = Looked::default();
    match question {
        Question::Address { host, port } => {
            looked.found.push(Instance::at(service.clone(), host, *port));
            looked.ttl.see(u32::MAX);
        }
        Question::Host { name, port } => {
            let answered = addresses(resolver, name, deadline).await;
            for address in looked.take(name, answered, known) {
                let host = address.to_string();
                looked.found.push(Instance::at(service.clone(), host, *port));
            }
        }
        Question::Srv { name } => looked.targets(resolver, service, name, known, deadline).await,
    }
    let instances = looked.found.into_iter().map(|mut one| {
        one.node = "dns".into();
        one.native(NATIVE)
    });
    let instances = Snapshot::live(service.clone(), instances).instances;
    if !looked.failed_early {
        *known = Known(looked.learned);
    }
    Found {
        instances,
        holds: Duration::from_secs(looked.ttl.0.unwrap_or(NOBODY).into()),
        trouble: looked.trouble,
    }
}

/// What came together so far.
#[derive(Default)]
struct Looked {
    found: Vec<Instance>,
    ttl: Ttl,
    trouble: Option<NetError>,
    learned: HashMap<(String, RecordType), Vec<IpAddr>>,
    /// There was no answer that says which names there are to know.
    failed_early: bool,
}

impl Looked {
    /// The targets of the lowest priority, and their addresses.
    async fn targets(
        &mut self,
        resolver: &TokioResolver,
        service: &ServiceName,
        name: &str,
        known: &Known,
        deadline: Instant,
    ) {
        let records = match records(resolver, name, RecordType::SRV, deadline).await {
            Ok(records) => records,
            Err(error) => {
                (self.trouble, self.failed_early) = (Some(error), true);
                return;
            }
        };
        self.ttl = records.ttl;
        let all = records.answers.iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(srv.clone()),
            _ => None,
        });
        let mut targets: Vec<SRV> = all.collect();
        // The rule of SRV: the others are for when these are all gone, which a look-up cannot know.
        let first = targets.iter().map(|srv| srv.priority).min();
        targets.retain(|srv| Some(srv.priority) == first && srv.port != 0);
        let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
        let mut unknown = Vec::new();
        for srv in &targets {
            let host = srv.target.to_lowercase().to_utf8();
            let bare = host.trim_end_matches('.');
            // A target of "." says that there is no such service.
            if host_fault(bare).is_some() || hosts.contains_key(&host) {
                continue;
            }
            // By the rules it is a name; who writes an address means it.
            let mut given: Vec<_> = bare.parse::<IpAddr>().into_iter().collect();
            for record in records.additionals.iter().filter(|one| one.name == srv.target) {
                if let Some(address) = address(&record.data) {
                    self.ttl.see(record.ttl);
                    given.push(address);
                }
            }
            match given.is_empty() {
                true => unknown.push(host.clone()),
                false => drop(self.learned.insert((host.clone(), RecordType::A), given.clone())),
            }
            hosts.insert(host, given);
        }
        let mut asking = JoinSet::new();
        let mut waiting = unknown.into_iter();
        loop {
            while asking.len() < AT_ONCE
                && let Some(host) = waiting.next()
            {
                let resolver = resolver.clone();
                asking.spawn(async move {
                    let answered = addresses(&resolver, &host, deadline).await;
                    (host, answered)
                });
            }
            match asking.join_next().await {
                Some(Ok((host, answered))) => {
                    let found = self.take(&host, answered, known);
                    hosts.insert(host, found);
                }
                // It panicked, or the runtime ends: nothing is known of that one.
                Some(Err(_)) => self.trouble = Some(NetError::Message("a look-up was broken off")),
                None => break,
            }
        }
        for srv in targets {
            let host = srv.target.to_lowercase().to_utf8();
            let addresses = hosts.get(&host).map(Vec::as_slice).unwrap_or_default();
            let each = u32::from(srv.weight) / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
            for address in addresses {
                let mut one = Instance::at(service.clone(), address.to_string(), srv.port);
                one.weight = each.max(1);
                self.found.push(one);
            }
        }
    }

    /// The addresses of a name: as answered, or as known before where the question failed.
    fn take(&mut self, name: &str, answered: Addresses, known: &Known) -> Vec<IpAddr> {
        let mut all = Vec::new();
        self.ttl.see_all(answered.ttl);
        for (family, answer) in answered.families {
            let key = (name.to_owned(), family);
            let addresses = answer.unwrap_or_else(|error| {
                self.trouble = Some(error);
                known.0.get(&key).cloned().unwrap_or_default()
            });
            all.extend(addresses.iter().copied());
            self.learned.insert(key, addresses);
        }
        all
    }
}

impl Ttl {
    fn see(&mut self, ttl: u32) {
        self.0 = Some(self.0.map_or(ttl, |least| least.min(ttl)));
    }

    fn see_all(&mut self, other: Self) {
        other.0.into_iter().for_each(|ttl| self.see(ttl));
    }
}

/// What one question was answered with.
struct Records {
    answers: Vec<Record>,
    additionals: Vec<Record>,
    /// The least of all answers, aliases included; of their absence, if there are none.
    ttl: Ttl,
}

/// A and AAAA, asked for at the same time.
async fn addresses(resolver: &TokioResolver, name: &str, deadline: Instant) -> Addresses {
    let (four, six) = tokio::join!(
        records(resolver, name, RecordType::A, deadline),
        records(resolver, name, RecordType::AAAA, deadline)
    );
    let mut ttl = Ttl::default();
    let mut none_for = Ttl::default();
    let families = [(RecordType::A, four), (RecordType::AAAA, six)].map(|(family, answer)| {
        let found = answer.map(|records| {
            let all = records.answers.iter();
            let found: Vec<_> = all.filter_map(|record| address(&record.data)).collect();
            match found.is_empty() {
                true => none_for.see_all(records.ttl),
                false => ttl.see_all(records.ttl),
            }
            found
        });
        (family, found)
    });
    // That a name has no addresses of one kind says nothing of how long those of the other hold.
    if ttl.0.is_none() {
        ttl = Ttl(Some(none_for.0.unwrap_or(NOBODY)));
    }
    Addresses { families, ttl }
}

/// The records of one type.
async fn records(
    resolver: &TokioResolver,
    name: &str,
    of: RecordType,
    deadline: Instant,
) -> Result<Records, NetError> {
    let deadline = deadline.min(Instant::now() + QUESTION);
    let answered = timeout_at(deadline, resolver.lookup(name, of)).await;
    match answered.unwrap_or(Err(NetError::Timeout)) {
        Ok(found) => {
            let some =
                |records: &[Record]| -> Vec<Record> { records.iter().take(MAX_RECORDS).cloned().collect() };
            let (answers, additionals) = (some(found.answers()), some(found.additionals()));
            let ttl = Ttl(answers.iter().map(|record| record.ttl).min());
            Ok(Records {
                answers,
                additionals,
                ttl,
            })
        }
        Err(NetError::Dns(Answered::NoRecordsFound(none))) => Ok(Records {
            answers: Vec::new(),
            additionals: Vec::new(),
            ttl: Ttl(none.negative_ttl),
        }),
        Err(error) => Err(error),
    }
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}
