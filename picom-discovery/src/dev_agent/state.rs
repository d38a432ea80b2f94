//! The agent itself: the services and checks announced to it, and what of that stands in the catalog. Pure: it is told
//! the time and what happens, it answers with data. HTTP, waiting and JSON live elsewhere.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::catalog::{Catalog, Check, Node};
use super::check_draft::CheckDefinition;
use super::checks::{self, BYTES_PER_CHECK, Beat, Checks, Due};
use super::config::{Compat, DevAgentConfig};
use super::definition::{ServiceDefinition, Status};
use super::refusal::Refusal;

/// Index before anything was announced. A dev agent of Consul's stands at 10 to 13 when it begins to answer; a client
/// that expects 0 or 1 would be wrong there.
const FIRST_INDEX: u64 = 10;

/// Bytes of registrations held at most: some ten thousand services, and no burden to the machine.
const MOST_BYTES: usize = 256 * 1024 * 1024;

/// What a service takes besides its text and its checks; it pays for its maintenance check too.
const BYTES_PER_SERVICE: usize = 1024 + BYTES_PER_CHECK;

/// How long the agent takes to notice that the catalog lost something behind its back: Consul compares every minute
/// and up to half a minute later (measured 66 and 83 s).
const ANTI_ENTROPY: Duration = Duration::from_secs(75);

/// What the state needs to know of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) compat: Compat,
    pub(crate) node: String,
    pub(crate) datacenter: String,
}

/// A service announced to this agent.
#[derive(Debug)]
pub(crate) struct LocalService {
    pub(crate) definition: ServiceDefinition,
    /// Whether the catalog was told about it.
    in_sync: bool,
    bytes: usize,
}

impl LocalService {
    /// Changes with the definition; `GET /v1/agent/service/<id>` can wait for that.
    pub(crate) fn content_hash(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.definition.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) catalog: Catalog,
    node_id: String,
    leader: bool,
    services: BTreeMap<String, LocalService>,
    checks: Checks,
    /// When the agent compares what was announced with the catalog; only after someone else changed that.
    anti_entropy: Option<Instant>,
    /// What services and edits of the catalog take; checks count their own.
    bytes: usize,
    /// Counts changes of the services announced here.
    edits: u64,
    rng: fastrand::Rng,
}

impl State {
    /// An agent that has just started, at `now`.
    pub(crate) fn new(config: &DevAgentConfig, seed: u64, now: Instant) -> State {
        let settings = Settings {
            compat: config.compat,
            node: config.node.clone(),
            datacenter: config.datacenter.clone(),
        };
        State::boot(settings, Checks::new(config, now), fastrand::Rng::with_seed(seed))
    }

    fn boot(settings: Settings, checks: Checks, mut rng: fastrand::Rng) -> State {
        let mut state = State {
            catalog: Catalog::new(FIRST_INDEX),
            node_id: uuid(&mut rng),
            leader: true,
            services: BTreeMap::new(),
            checks,
            anti_entropy: None,
            bytes: 0,
            edits: 0,
            settings,
            rng,
        };
        state.put_node();
        state
    }

    /// The node, alive, and Consul's own service.
    fn put_node(&mut self) {
        let name = self.settings.node.clone();
        let loopback = |name: &str| (name.to_owned(), "127.0.0.1".to_owned());
        let node = Node {
            id: self.node_id.clone(),
            name: name.clone(),
            address: "127.0.0.1".to_owned(),
            datacenter: self.settings.datacenter.as_str().into(),
            tagged: Some(
                ["lan", "lan_ipv4", "wan", "wan_ipv4"]
                    .into_iter()
                    .map(loopback)
                    .collect(),
            ),
            meta: Some([("consul-network-segment".to_owned(), String::new())].into()),
        };
        let serf = Check {
            id: "serfHealth".to_owned(),
            name: "Serf Health Status".to_owned(),
            status: Status::Passing,
            notes: String::new(),
            output: "Agent alive and reachable".to_owned(),
            service_id: String::new(),
            service_name: String::new(),
            service_tags: Vec::new(),
            kind: "",
        };
        let consul = ServiceDefinition {
            id: "consul".to_owned(),
            name: "consul".to_owned(),
            meta: [("version".to_owned(), self.settings.compat.version().to_owned())].into(),
            port: 8300,
            ..ServiceDefinition::default()
        };
        self.catalog.commit(|catalog| {
            catalog.put_node(node);
            catalog.put_check(&name, serf);
            catalog.put_service(&name, consul);
        });
    }

    /// The id of the agent's node.
    pub(crate) fn node_id(&self) -> &str {
        &self.node_id
    }

    /// Services announced here, by id.
    pub(crate) fn services(&self) -> &BTreeMap<String, LocalService> {
        &self.services
    }

    /// Checks announced here.
    pub(crate) fn checks(&self) -> &Checks {
        &self.checks
    }

    /// Moves on with every change that someone may be waiting for.
    pub(crate) fn revision(&self) -> u64 {
        self.catalog.revision().wrapping_add(self.edits)
    }

    /// The next moment at which [`State::advance`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        [self.checks.next_timeout(), self.anti_entropy]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due. Late calls lose nothing: each thing happens as of its own moment, in order.
    pub(crate) fn advance(&mut self, now: Instant) {
        while let Some(due) = self.checks.take_due(now, &mut self.rng) {
            match due {
                Due::Changed(id) => self.sync_check(&id),
                Due::Reap(service) => {
                    tracing::debug!(%service, "deregistered: critical for too long");
                    drop(self.deregister_service(&service));
                }
                Due::Nothing => {}
            }
        }
        if self.anti_entropy.is_some_and(|at| at <= now) {
            self.anti_entropy = None;
            self.sync_all();
        }
    }

    /// `PUT /v1/agent/service/register`; `bytes` is the length of the body. With `replace`, checks of the service that
    /// are not named go.
    pub(crate) fn register_service(
        &mut self,
        service: ServiceDefinition,
        checks: Vec<CheckDefinition>,
        replace: bool,
        bytes: usize,
        now: Instant,
    ) -> Result<(), Refusal> {
        let bytes = bytes.saturating_add(BYTES_PER_SERVICE);
        self.fits(bytes.saturating_add(checks.iter().map(checks::bytes_of).sum()))?;
        let several = checks.len() > 1;
        let mut named = BTreeMap::new();
        for (place, mut check) in checks.into_iter().enumerate() {
            if check.id.is_empty() {
                check.id = match several {
                    true => format!("service:{}:{}", service.id, place + 1),
                    false => format!("service:{}", service.id),
                };
            }
            // Of two with the same id the second counts.
            named.insert(check.id.clone(), check);
        }
        let ids = self.checks.of(&service.id).map(|check| check.content.id.clone());
        let stale: Vec<String> = ids.filter(|id| replace && !named.contains_key(id)).collect();
        for check in named.into_values() {
            self.checks.put(check, Some(&service), now);
        }
        for id in &stale {
            self.checks.remove(id);
        }
        let id = service.id.clone();
        let known = self.services.get(&id);
        let in_sync = known.is_some_and(|known| known.in_sync && known.definition == service);
        let held = known.map_or(0, |known| known.bytes);
        self.bytes = self.bytes.saturating_sub(held).saturating_add(bytes);
        self.services.insert(
            id.clone(),
            LocalService {
                definition: service,
                in_sync,
                bytes,
            },
        );
        self.edits = self.edits.wrapping_add(1);
        self.sync_service(&id, &stale);
        Ok(())
    }

    /// `PUT /v1/agent/service/deregister/<id>`.
    pub(crate) fn deregister_service(&mut self, id: &str) -> Result<(), Refusal> {
        if id.is_empty() {
            return Err(Refusal::new(500, "ServiceID missing"));
        }
        let Some(service) = self.services.remove(id) else {
            return match self.settings.compat {
                Compat::V1_8 => Ok(()),
                Compat::V1_11 => Err(unknown_service(id)),
            };
        };
        self.bytes = self.bytes.saturating_sub(service.bytes);
        self.edits = self.edits.wrapping_add(1);
        let checks: Vec<String> = self.checks.of(id).map(|check| check.content.id.clone()).collect();
        for check in &checks {
            self.checks.remove(check);
        }
        if self.leader {
            let node = &self.settings.node;
            self.catalog.commit(|catalog| catalog.remove_service(node, id));
        }
        Ok(())
    }

    /// `PUT /v1/agent/check/register`.
    pub(crate) fn register_check(&mut self, check: CheckDefinition, now: Instant) -> Result<(), Refusal> {
        let service = match check.service_id.as_str() {
            "" => None,
            id => match self.services.get(id) {
                Some(service) => Some(&service.definition),
                None => return Err(Refusal::new(500, format!("ServiceID {id:?} does not exist"))),
            },
        };
        self.fits(checks::bytes_of(&check))?;
        let id = check.id.clone();
        self.checks.put(check, service, now);
        self.sync_check(&id);
        Ok(())
    }

    /// `PUT /v1/agent/check/deregister/<id>`.
    pub(crate) fn deregister_check(&mut self, id: &str) -> Result<(), Refusal> {
        if id.is_empty() {
            return Err(Refusal::new(500, "CheckID missing"));
        }
        if self.remove_check(id) || !self.settings.compat.is_newer() {
            return Ok(());
        }
        Err(self.unknown_check(id))
    }

    /// A heartbeat: `PUT /v1/agent/check/{pass,warn,fail,update}/<id>`.
    pub(crate) fn update_check(
        &mut self,
        id: &str,
        status: Status,
        output: &str,
        now: Instant,
    ) -> Result<(), Refusal> {
        match self.checks.beat(id, status, output, now, &mut self.rng) {
            Some(Beat::Changed) => self.sync_check(id),
            Some(Beat::Quiet) => {}
            None => return Err(self.unknown_check(id)),
        }
        Ok(())
    }

    /// `PUT /v1/agent/service/maintenance/<id>`.
    pub(crate) fn service_maintenance(
        &mut self,
        id: &str,
        enable: bool,
        reason: &str,
    ) -> Result<(), Refusal> {
        let Some(service) = self.services.get(id) else {
            return Err(match self.settings.compat {
                Compat::V1_8 => Refusal::new(404, format!("No service registered with ID {id:?}")),
                Compat::V1_11 => unknown_service(id),
            });
        };
        if !enable {
            self.remove_check(&checks::maintenance_id(Some(id)));
        } else if let Some(check) = self.checks.put_maintenance(Some(&service.definition), reason) {
            self.sync_check(&check);
        }
        Ok(())
    }

    /// `PUT /v1/agent/maintenance`.
    pub(crate) fn node_maintenance(&mut self, enable: bool, reason: &str) {
        if !enable {
            self.remove_check(&checks::maintenance_id(None));
        } else if let Some(check) = self.checks.put_maintenance(None, reason) {
            self.sync_check(&check);
        }
    }

    /// Loses the leader, or finds one: then everything that was held back reaches the catalog at once.
    pub(crate) fn set_leader(&mut self, leader: bool) {
        self.leader = leader;
        self.sync_all();
    }

    /// Gives everything in the catalog one new index.
    pub(crate) fn renumber(&mut self, index: u64) {
        self.catalog.renumber(index);
    }

    /// Forgets everything, as an agent without a data directory does when it is restarted.
    pub(crate) fn forget(&mut self, now: Instant) {
        let (leader, revision) = (self.leader, self.revision());
        *self = State::boot(self.settings.clone(), self.checks.emptied(now), self.rng.fork());
        self.leader = leader;
        self.edits = revision.wrapping_add(1);
    }

    /// Changes the catalog behind the agent's back, as one change. The agent puts its own things right after a while.
    /// `bytes` is what the change may add; it is not given back, for who edits by hand edits little.
    pub(crate) fn edit_catalog(
        &mut self,
        now: Instant,
        bytes: usize,
        change: impl FnOnce(&mut Catalog),
    ) -> Result<(), Refusal> {
        if !self.leader {
            return Err(Refusal::new(500, "No cluster leader"));
        }
        self.fits(bytes)?;
        self.bytes = self.bytes.saturating_add(bytes);
        self.catalog.commit(change);
        self.anti_entropy.get_or_insert(now + ANTI_ENTROPY);
        Ok(())
    }

    /// A span below `below`; for jitter, so that tests with a seed can repeat it.
    pub(crate) fn jitter(&mut self, below: Duration) -> Duration {
        below.mul_f64(self.rng.f64())
    }

    fn unknown_check(&self, id: &str) -> Refusal {
        if self.settings.compat.is_newer() && self.checks.get(id).is_none() {
            let text =
                format!("Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name.");
            return Refusal::new(404, text);
        }
        Refusal::new(500, format!("CheckID {id:?} does not have associated TTL"))
    }

    /// Whether so much more can be held. What it replaces is not subtracted: near the limit is far from any use.
    fn fits(&self, bytes: usize) -> Result<(), Refusal> {
        if self
            .bytes
            .saturating_add(self.checks.bytes())
            .saturating_add(bytes)
            > MOST_BYTES
        {
            return Err(Refusal::dev_agent(
                500,
                format_args!("registrations take more than {MOST_BYTES} bytes"),
            ));
        }
        Ok(())
    }

    fn remove_check(&mut self, id: &str) -> bool {
        let removed = self.checks.remove(id);
        if removed && self.leader {
            let node = &self.settings.node;
            self.catalog.commit(|catalog| catalog.remove_check(node, id));
        }
        removed
    }

    /// One change: what the catalog was not told of the service and its checks, and the checks it no longer has.
    fn sync_service(&mut self, id: &str, stale: &[String]) {
        let Some(service) = self.services.get_mut(id).filter(|_| self.leader) else {
            return;
        };
        let node = &self.settings.node;
        let changed = (!service.in_sync).then(|| service.definition.clone());
        service.in_sync = true;
        let checks = self.checks.untold(id);
        for check in &checks {
            self.checks.is_told(&check.id);
        }
        self.catalog.commit(|catalog| {
            for check in stale {
                catalog.remove_check(node, check);
            }
            if let Some(service) = changed {
                catalog.put_service(node, service);
            }
            for check in checks {
                catalog.put_check(node, check);
            }
        });
    }

    fn sync_check(&mut self, id: &str) {
        let Some(check) = self.checks.get(id).filter(|_| self.leader) else {
            return;
        };
        let node = &self.settings.node;
        let check = check.content.clone();
        self.checks.is_told(id);
        self.catalog.commit(|catalog| catalog.put_check(node, check));
    }

    /// Makes the catalog's part of this node equal to what was announced.
    fn sync_all(&mut self) {
        if !self.leader {
            return;
        }
        self.put_node();
        let node = self.settings.node.clone();
        for id in self.catalog.service_ids(&node) {
            if id != "consul" && !self.services.contains_key(&id) {
                self.catalog.commit(|catalog| catalog.remove_service(&node, &id));
            }
        }
        for id in self.catalog.check_ids(&node) {
            if id != "serfHealth" && self.checks.get(&id).is_none() {
                self.catalog.commit(|catalog| catalog.remove_check(&node, &id));
            }
        }
        for service in self.services.values_mut() {
            service.in_sync = false;
        }
        let services: Vec<String> = self.services.keys().cloned().collect();
        for id in services {
            self.sync_service(&id, &[]);
        }
        let checks: Vec<String> = self.checks.all().map(|check| check.content.id.clone()).collect();
        for id in checks {
            self.sync_check(&id);
        }
    }
}

fn unknown_service(id: &str) -> Refusal {
    Refusal::new(
        404,
        format!("Unknown service ID {id:?}. Ensure that the service ID is passed, not the service name."),
    )
}

fn uuid(rng: &mut fastrand::Rng) -> String {
    let bits = rng.u128(..);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        (bits >> 96) as u32,
        (bits >> 80) as u16,
        (bits >> 64) as u16,
        (bits >> 48) as u16,
        bits as u64 & 0xffff_ffff_ffff,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(id: &str) -> ServiceDefinition {
        ServiceDefinition {
            id: id.to_owned(),
            name: "s".to_owned(),
            ..ServiceDefinition::default()
        }
    }

    fn check(notes: usize) -> CheckDefinition {
        CheckDefinition {
            notes: "n".repeat(notes),
            ttl: Duration::from_secs(1),
            ..CheckDefinition::default()
        }
    }

    #[test]
    fn it_holds_no_more_than_its_limit_and_counts_what_leaves() {
        let now = tokio::time::Instant::now().into_std();
        let mut state = State::new(&DevAgentConfig::default(), 1, now);
        let third = MOST_BYTES / 3;
        for id in ["a", "b"] {
            state
                .register_service(service(id), vec![check(1)], true, third, now)
                .expect("it fits");
        }
        let full = format!("picom's dev agent: registrations take more than {MOST_BYTES} bytes");
        let refused = state.register_service(service("c"), Vec::new(), true, third, now);
        assert_eq!(refused, Err(Refusal::new(500, full.clone())));
        assert!(state.services().get("c").is_none() && state.catalog.instances("s").len() == 2);
        let refused = state.register_service(service("c"), vec![check(third)], true, 0, now);
        assert_eq!(refused, Err(Refusal::new(500, full.clone())), "checks count");
        let alone = CheckDefinition {
            id: "c".to_owned(),
            ..check(third)
        };
        assert_eq!(
            state.register_check(alone, now),
            Err(Refusal::new(500, full.clone())),
            "also by themselves"
        );
        assert_eq!(
            state.edit_catalog(now, third, |_| {}),
            Err(Refusal::new(500, full)),
            "edits too"
        );

        state.deregister_service("a").expect("never refused");
        state
            .register_service(service("c"), Vec::new(), true, third, now)
            .expect("there is room again");
        for id in ["b", "c"] {
            state.deregister_service(id).expect("never refused");
        }
        assert_eq!((state.bytes, state.checks.bytes()), (0, 0));
    }

    #[test]
    fn a_seed_makes_the_same_agent() {
        let now = tokio::time::Instant::now().into_std();
        let node = |seed| {
            State::new(&DevAgentConfig::default(), seed, now)
                .node_id()
                .to_owned()
        };
        assert_eq!(node(1), node(1));
        assert_ne!(node(1), node(2));
        assert_eq!(node(1).len(), 36);
    }
}
