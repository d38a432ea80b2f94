//! The checks announced to this agent: their heartbeats, their TTLs, how long they have been critical. Pure; what of
//! them reaches the catalog is decided in `state`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::catalog::Check;
use super::check_draft::CheckDefinition;
use super::config::DevAgentConfig;
use super::definition::{ServiceDefinition, Status};
use super::timers::{Timer, Timers};

/// Consul's `check_output_max_size`: longer outputs are cut and say so.
pub(crate) const LONGEST_OUTPUT: usize = 4096;

/// What a check may take besides its text: its output stands in the agent, in the catalog and in the last heartbeat.
pub(crate) const BYTES_PER_CHECK: usize = 3 * LONGEST_OUTPUT;

/// Longer than any agent runs: settings above it mean "never", and sums with an instant stay in range.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A check announced to this agent.
#[derive(Debug)]
pub(crate) struct LocalCheck {
    pub(crate) content: Check,
    /// `None` for checks without a heartbeat, such as maintenance.
    ttl: Option<Duration>,
    last_output: String,
    deregister_after: Option<Duration>,
    critical_since: Option<Instant>,
    /// Whether the catalog was told what stands in `content`; an output that is put off counts as told.
    in_sync: bool,
    bytes: usize,
}

/// What came of a heartbeat, or of one that did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// The catalog need not know, or not yet.
    Quiet,
    /// The catalog must know.
    Changed,
}

/// Something that was due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The catalog must know about this check.
    Changed(String),
    /// This service has been critical for too long.
    Reap(String),
    /// Nothing to be done about it.
    Nothing,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Checks {
    checks: BTreeMap<String, LocalCheck>,
    timers: Timers,
    bytes: usize,
    started: Instant,
    deregister_min: Duration,
    reap_interval: Duration,
    output_interval: Duration,
}

impl Checks {
    /// No checks. The reaper's ticks are counted from `started`.
    pub(crate) fn new(config: &DevAgentConfig, started: Instant) -> Checks {
        Checks {
            checks: BTreeMap::new(),
            timers: Timers::default(),
            bytes: 0,
            started,
            deregister_min: config.deregister_min.min(YEAR),
            // A reaper that never rests would hang the clock.
            reap_interval: config.reap_interval.clamp(Duration::from_millis(1), YEAR),
            output_interval: config.output_interval.min(YEAR),
        }
    }

    /// The same settings, no checks.
    pub(crate) fn emptied(&self, started: Instant) -> Checks {
        Checks {
            checks: BTreeMap::new(),
            timers: Timers::default(),
            bytes: 0,
            started,
            ..*self
        }
    }

    pub(crate) fn get(&self, id: &str) -> Option<&LocalCheck> {
        self.checks.get(id)
    }

    /// All of them, by id.
    pub(crate) fn all(&self) -> impl Iterator<Item = &LocalCheck> {
        self.checks.values()
    }

    /// Those of a service, by id; of the node, for the empty id.
    pub(crate) fn of(&self, service: &str) -> impl Iterator<Item = &LocalCheck> {
        self.checks
            .values()
            .filter(move |check| check.content.service_id == service)
    }

    /// What they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When something is due next.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Adds a check, or replaces one: then it keeps its status and output whatever the definition says, and its TTL
    /// begins anew.
    pub(crate) fn put(&mut self, check: CheckDefinition, service: Option<&ServiceDefinition>, now: Instant) {
        let bytes = bytes_of(&check);
        let known = self.checks.get(&check.id);
        let default_name = || match service {
            Some(service) => format!("Service '{}' check", service.name),
            None => check.id.clone(),
        };
        let content = Check {
            name: if check.name.is_empty() {
                default_name()
            } else {
                check.name
            },
            status: known
                .map(|known| known.content.status)
                .or(check.status)
                .unwrap_or(Status::Critical),
            notes: check.notes,
            output: known
                .map(|known| known.content.output.clone())
                .unwrap_or_default(),
            service_id: service.map(|service| service.id.clone()).unwrap_or_default(),
            service_name: service.map(|service| service.name.clone()).unwrap_or_default(),
            service_tags: service.map(|service| service.tags.clone()).unwrap_or_default(),
            kind: "ttl",
            id: check.id,
        };
        let id = content.id.clone();
        let in_sync = known.is_some_and(|known| known.in_sync && known.content == content)
            && !self.timers.is_armed(&Timer::Output(id.clone()));
        self.remove(&id);
        self.timers.arm(Timer::Ttl(id.clone()), now + check.ttl);
        self.insert(LocalCheck {
            content,
            ttl: Some(check.ttl),
            last_output: String::new(),
            deregister_after: check.deregister_after.map(|after| after.max(self.deregister_min)),
            critical_since: None,
            in_sync,
            bytes,
        });
    }

    /// Adds a critical check without a heartbeat: maintenance. False if it was there.
    pub(crate) fn put_maintenance(&mut self, of: Option<&ServiceDefinition>, reason: &str) -> Option<String> {
        let id = maintenance_id(of.map(|service| service.id.as_str()));
        if self.checks.contains_key(&id) {
            return None;
        }
        let what = if of.is_some() { "service" } else { "node" };
        let notes = match reason {
            "" => format!(
                "Maintenance mode is enabled for this {what}, but no reason was provided. This is a default message."
            ),
            reason => shortened(reason),
        };
        let content = Check {
            id: id.clone(),
            name: if of.is_some() {
                "Service Maintenance Mode"
            } else {
                "Node Maintenance Mode"
            }
            .to_owned(),
            status: Status::Critical,
            notes,
            output: String::new(),
            service_id: of.map(|service| service.id.clone()).unwrap_or_default(),
            service_name: of.map(|service| service.name.clone()).unwrap_or_default(),
            service_tags: of.map(|service| service.tags.clone()).unwrap_or_default(),
            kind: "maintenance",
        };
        self.insert(LocalCheck {
            content,
            ttl: None,
            last_output: String::new(),
            deregister_after: None,
            critical_since: None,
            in_sync: false,
            // At most one for each service, whose own bytes pay for it.
            bytes: 0,
        });
        Some(id)
    }

    /// Forgets a check. False if there was none.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let Some(check) = self.checks.remove(id) else {
            return false;
        };
        self.bytes = self.bytes.saturating_sub(check.bytes);
        for timer in [
            Timer::Ttl(id.to_owned()),
            Timer::Output(id.to_owned()),
            Timer::Reap(id.to_owned()),
        ] {
            self.timers.disarm(&timer);
        }
        true
    }

    /// A heartbeat. `None` if there is no such check, or none that takes heartbeats.
    pub(crate) fn beat(
        &mut self,
        id: &str,
        status: Status,
        output: &str,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Beat> {
        let check = self.checks.get_mut(id)?;
        let ttl = check.ttl?;
        let output = shortened(output);
        check.last_output.clone_from(&output);
        self.timers.arm(Timer::Ttl(id.to_owned()), now + ttl);
        self.apply(id, status, output, now, rng)
    }

    /// What the catalog does not know of a service's checks.
    pub(crate) fn untold(&self, service: &str) -> Vec<Check> {
        self.of(service)
            .filter(|check| !check.in_sync)
            .map(|check| check.content.clone())
            .collect()
    }

    /// Notes that the catalog was told all about a check.
    pub(crate) fn is_told(&mut self, id: &str) {
        self.timers.disarm(&Timer::Output(id.to_owned()));
        if let Some(check) = self.checks.get_mut(id) {
            check.in_sync = true;
        }
    }

    /// The next thing that is due at `now`, as of its own moment.
    pub(crate) fn take_due(&mut self, now: Instant, rng: &mut fastrand::Rng) -> Option<Due> {
        let (at, timer) = self.timers.take_due(now)?;
        Some(match timer {
            Timer::Ttl(id) => match self.expire(&id, at, rng) {
                Some(Beat::Changed) => Due::Changed(id),
                _ => Due::Nothing,
            },
            Timer::Output(id) => Due::Changed(id),
            // Only services are reaped; Consul leaves a critical check of the node alone too.
            Timer::Reap(id) => match self.checks.get(&id) {
                Some(check) if !check.content.service_id.is_empty() => {
                    Due::Reap(check.content.service_id.clone())
                }
                _ => Due::Nothing,
            },
        })
    }

    fn insert(&mut self, check: LocalCheck) {
        self.bytes = self.bytes.saturating_add(check.bytes);
        self.checks.insert(check.content.id.clone(), check);
    }

    fn expire(&mut self, id: &str, at: Instant, rng: &mut fastrand::Rng) -> Option<Beat> {
        let output = match self.checks.get(id)?.last_output.as_str() {
            "" => "TTL expired".to_owned(),
            last => format!("TTL expired (last output before timeout follows): {last}"),
        };
        self.apply(id, Status::Critical, output, at, rng)
    }

    fn apply(
        &mut self,
        id: &str,
        status: Status,
        output: String,
        at: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<Beat> {
        let check = self.checks.get_mut(id)?;
        if status == Status::Critical {
            let since = *check.critical_since.get_or_insert(at);
            if let Some(after) = check.deregister_after {
                let tick = tick_after(since + after, self.started, self.reap_interval);
                self.timers.arm_once(Timer::Reap(id.to_owned()), tick);
            }
        } else {
            check.critical_since = None;
            self.timers.disarm(&Timer::Reap(id.to_owned()));
        }
        let status_changed = check.content.status != status;
        let output_changed = check.content.output != output;
        check.content.status = status;
        check.content.output = output;
        if status_changed {
            check.in_sync = false;
            self.timers.disarm(&Timer::Output(id.to_owned()));
            return Some(Beat::Changed);
        }
        if output_changed {
            // Between half and one and a half of the interval, so that checks that began together do not stay so.
            let jitter = self.output_interval.mul_f64(rng.f64());
            self.timers.arm_once(
                Timer::Output(id.to_owned()),
                at + self.output_interval / 2 + jitter,
            );
        }
        Some(Beat::Quiet)
    }
}

/// What a check counts for while it is here.
pub(crate) fn bytes_of(check: &CheckDefinition) -> usize {
    BYTES_PER_CHECK + check.id.len() + check.name.len() + check.notes.len()
}

/// The id of a maintenance check, of a service or of the node.
pub(crate) fn maintenance_id(service: Option<&str>) -> String {
    match service {
        Some(id) => format!("_service_maintenance:{id}"),
        None => "_node_maintenance".to_owned(),
    }
}

/// The first tick of the reaper after `moment`; its ticks are counted from the agent's start.
fn tick_after(moment: Instant, started: Instant, interval: Duration) -> Instant {
    let ticks = moment.saturating_duration_since(started).as_nanos() / interval.as_nanos().max(1) + 1;
    let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
    started
        .checked_add(interval.saturating_mul(ticks))
        .unwrap_or(moment + interval)
}

fn shortened(output: &str) -> String {
    if output.len() <= LONGEST_OUTPUT {
        return output.to_owned();
    }
    let mut cut = LONGEST_OUTPUT;
    while !output.is_char_boundary(cut) {
        cut -= 1;
    }
    format!(
        "{} ... (captured {LONGEST_OUTPUT} of {} bytes)",
        &output[..cut],
        output.len()
    )
}
