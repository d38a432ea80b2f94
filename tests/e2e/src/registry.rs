//! What Consul knows, read past the product: the instances of a service with their checks, and waiting for them to
//! change. It works on a real agent and on the dev agent alike. Who runs the agent is `agent.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::http::{self, Answer};

/// An agent on loopback answers in milliseconds; one that is starting may need a while.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at an agent that does not answer.
const REST: Duration = Duration::from_millis(20);

/// One instance as Consul tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The id of the registration.
    pub id: String,
    /// Where it is.
    pub address: String,
    /// And at which port.
    pub port: u16,
    /// What it says of itself.
    pub meta: BTreeMap<String, String>,
    /// Its own checks; those of its node are left out.
    pub checks: Vec<Check>,
}

/// A check of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its id.
    pub id: String,
    /// What it checks: `ttl`. Empty if the agent does not say.
    pub kind: String,
    /// `passing`, `warning` or `critical`.
    pub status: String,
    /// The last words on it.
    pub output: String,
}

impl Entry {
    /// Whether there is a check, and all pass.
    pub fn is_passing(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.status == "passing")
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }
}

/// Reads and writes at an agent.
#[derive(Debug, Clone, Copy)]
pub struct Registry {
    /// Where its HTTP API is.
    pub address: SocketAddr,
}

/// The instances of a service at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Consul's index of it.
    pub index: u64,
    /// The instances, ordered by id.
    pub entries: Vec<Entry>,
}

impl Sighting {
    /// The ids of those that pass.
    pub fn passing(&self) -> Vec<&str> {
        self.entries
            .iter()
            .filter(|entry| entry.is_passing())
            .map(|entry| entry.id.as_str())
            .collect()
    }

    /// Whether the instance passes.
    pub fn passes(&self, id: &str) -> bool {
        self.passing().contains(&id)
    }

    /// The instance.
    pub fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }
}

impl Registry {
    /// The instances of a service now.
    ///
    /// # Errors
    ///
    /// When the agent does not say.
    pub async fn look(&self, service: &str) -> anyhow::Result<Sighting> {
        let answer = self
            .get(&format!("/v1/health/service/{service}"), PATIENCE)
            .await?;
        sighting(&answer)
    }

    /// The instances when they have changed since `index`, or when `wait` has passed (Consul adds up to a sixteenth).
    ///
    /// # Errors
    ///
    /// When the agent does not say.
    pub async fn look_after(&self, service: &str, index: u64, wait: Duration) -> anyhow::Result<Sighting> {
        let target = format!(
            "/v1/health/service/{service}?index={index}&wait={}ms",
            wait.as_millis()
        );
        sighting(&self.get(&target, wait + wait / 8 + PATIENCE).await?)
    }

    /// Waits until the instances are as wanted, by blocking queries; an agent that is away is asked again.
    ///
    /// # Panics
    ///
    /// When that does not come in time, with what there is.
    pub async fn until(
        &self,
        service: &str,
        limit: Duration,
        what: &str,
        is_so: impl Fn(&Sighting) -> bool,
    ) -> Sighting {
        let deadline = Instant::now() + limit;
        let mut last = None;
        let waited = timeout(limit, async {
            let mut index = 0;
            loop {
                let left = deadline
                    .saturating_duration_since(Instant::now())
                    .max(Duration::from_millis(50));
                match self.look_after(service, index, left).await {
                    Ok(seen) if is_so(&seen) => return seen,
                    Ok(seen) => {
                        // An index that fell is of an agent that began anew.
                        index = if seen.index < index { 0 } else { seen.index };
                        last = Some(Ok(seen));
                    }
                    Err(error) => {
                        (index, last) = (0, Some(Err(error)));
                        sleep(REST).await;
                    }
                }
            }
        });
        match waited.await {
            Ok(seen) => seen,
            Err(_) => panic!("waited {limit:?} until {what}; of {service} there is {last:#?}"),
        }
    }

    /// What the agent itself has registered under an id; `None` if nothing.
    ///
    /// # Errors
    ///
    /// When the agent does not say.
    pub async fn registration(&self, id: &str) -> anyhow::Result<Option<Value>> {
        let answer = http::request(
            self.address,
            "GET",
            &format!("/v1/agent/service/{id}"),
            "",
            PATIENCE,
        )
        .await?;
        match answer.status {
            200 => Ok(Some(serde_json::from_str(&answer.body)?)),
            404 => Ok(None),
            status => anyhow::bail!("status {status}: {}", answer.body),
        }
    }

    /// The ids of everything that the agent has registered under a name, checked or not.
    ///
    /// # Errors
    ///
    /// When the agent does not say.
    pub async fn registered(&self, service: &str) -> anyhow::Result<Vec<String>> {
        let answer = self.get("/v1/agent/services", PATIENCE).await?;
        let all: BTreeMap<String, Value> = serde_json::from_str(&answer.body)?;
        Ok(all
            .into_iter()
            .filter(|(_, entry)| entry["Service"] == service)
            .map(|(id, _)| id)
            .collect())
    }

    /// Registers an instance that nobody keeps up, passing for `ttl`.
    ///
    /// # Errors
    ///
    /// When the agent refuses.
    pub async fn register(&self, entry: &Entry, service: &str, ttl: Duration) -> anyhow::Result<()> {
        let body = json!({
            "Name": service, "ID": entry.id, "Address": entry.address, "Port": entry.port, "Meta": entry.meta,
            "Check": { "TTL": format!("{}ms", ttl.as_millis()), "Status": "passing" },
        });
        self.put("/v1/agent/service/register", &body.to_string()).await
    }

    /// Takes an instance out.
    ///
    /// # Errors
    ///
    /// When the agent refuses.
    pub async fn deregister(&self, id: &str) -> anyhow::Result<()> {
        self.put(&format!("/v1/agent/service/deregister/{id}"), "").await
    }

    /// Sets the TTL check of an instance, as an operator may: until its next heartbeat.
    ///
    /// # Errors
    ///
    /// When the agent refuses.
    pub async fn set_check(&self, id: &str, passes: bool) -> anyhow::Result<()> {
        let word = if passes { "pass" } else { "fail" };
        self.put(&format!("/v1/agent/check/{word}/service:{id}"), "")
            .await
    }

    /// Puts an instance into maintenance, or takes it out: another check fails then, whatever its heartbeats say.
    ///
    /// # Errors
    ///
    /// When the agent refuses.
    pub async fn set_maintenance(&self, id: &str, enable: bool) -> anyhow::Result<()> {
        self.put(&format!("/v1/agent/service/maintenance/{id}?enable={enable}"), "")
            .await
    }

    async fn get(&self, target: &str, patience: Duration) -> anyhow::Result<Answer> {
        let answer = http::request(self.address, "GET", target, "", patience).await?;
        ensure!(
            answer.status == 200,
            "{target}: status {}: {}",
            answer.status,
            answer.body
        );
        Ok(answer)
    }

    async fn put(&self, target: &str, body: &str) -> anyhow::Result<()> {
        let answer = http::request(self.address, "PUT", target, body, PATIENCE).await?;
        ensure!(
            answer.status == 200,
            "{target}: status {}: {}",
            answer.status,
            answer.body
        );
        Ok(())
    }
}

/// Consul's spelling.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    service: HealthService,
    checks: Option<Vec<HealthCheck>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthService {
    #[serde(rename = "ID")]
    id: String,
    address: String,
    port: u16,
    meta: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HealthCheck {
    #[serde(rename = "CheckID")]
    id: String,
    #[serde(rename = "ServiceID")]
    service: String,
    #[serde(default, rename = "Type")]
    kind: String,
    status: String,
    output: String,
}

fn sighting(answer: &Answer) -> anyhow::Result<Sighting> {
    let health: Vec<Health> = serde_json::from_str(&answer.body)
        .with_context(|| format!("not a health answer: {}", answer.body))?;
    let mut entries: Vec<Entry> = health.into_iter().map(Entry::from).collect();
    entries.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(Sighting {
        index: answer.index,
        entries,
    })
}

impl From<Health> for Entry {
    fn from(health: Health) -> Self {
        let HealthService {
            id,
            address,
            port,
            meta,
        } = health.service;
        let checks = health
            .checks
            .unwrap_or_default()
            .into_iter()
            .filter(|check| check.service == id);
        let checks = checks.map(|check| Check {
            id: check.id,
            kind: check.kind,
            status: check.status,
            output: check.output,
        });
        Self {
            checks: checks.collect(),
            id,
            address,
            port,
            meta: meta.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEALTH: &str = r#"[{
        "Node": {"Node": "n", "Address": "10.0.0.1"},
        "Service": {"ID": "a-1", "Service": "a", "Tags": null, "Address": "127.0.0.1", "Meta": null, "Port": 7},
        "Checks": [
            {"CheckID": "serfHealth", "ServiceID": "", "Status": "critical", "Output": ""},
            {"CheckID": "service:a-1", "ServiceID": "a-1", "Status": "passing", "Output": "", "Type": "ttl"}
        ]
    }]"#;

    #[test]
    fn an_entry_has_its_own_checks_and_not_those_of_its_node() {
        let answer = Answer {
            status: 200,
            index: 3,
            body: HEALTH.into(),
        };
        let seen = sighting(&answer).unwrap();
        assert_eq!((seen.index, seen.passing()), (3, vec!["a-1"]));
        let entry = seen.entry("a-1").unwrap();
        assert_eq!(entry.authority(), "127.0.0.1:7");
        assert_eq!((entry.checks.len(), entry.checks[0].kind.as_str()), (1, "ttl"));
        assert!(!seen.passes("a-2"));
    }

    #[test]
    fn an_entry_without_a_check_does_not_pass() {
        let answer = Answer {
            status: 200,
            index: 3,
            body: HEALTH.replace("\"a-1\", \"Status\"", "\"\", \"Status\""),
        };
        assert!(sighting(&answer).unwrap().passing().is_empty());
    }
}
