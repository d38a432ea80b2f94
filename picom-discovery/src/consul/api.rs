//! The requests of Consul's HTTP API we make, as plain values: nothing is sent here.
//! Source of paths, parameters and fields: Consul's API documentation (agent/service, agent/check, health).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::config::{Consistency, ConsulConfig};
use crate::name::ServiceName;
use crate::registration::Registration;

/// Everything but the unreserved characters of RFC 3986: right in a path segment and in a query value.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// What it is for, as error messages say it.
    pub(crate) purpose: &'static str,
    pub(crate) method: Method,
    /// Path and query, from `/v1` on, percent-encoded.
    pub(crate) path: String,
    /// JSON.
    pub(crate) body: Option<Bytes>,
}

/// What every request of one client carries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    namespace: Option<String>,
    partition: Option<String>,
    datacenter: Option<String>,
    consistency: Consistency,
    tags: Vec<String>,
    node_meta: Vec<(String, String)>,
}

/// How a check is left by a registration or a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckStatus {
    Passing,
    /// Failed on purpose.
    Critical,
}

/// The blocking part of a watch: answer when the index is above this one, or after the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) index: u64,
    pub(crate) wait: Duration,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceDefinition<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    name: &'a str,
    address: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: &'a BTreeMap<String, String>,
    /// Only when it says something: agents refuse fields they do not know, so the fewer the better.
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Weights>,
    check: CheckDefinition,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
    warning: u32,
}

#[derive(Serialize)]
struct CheckDefinition {
    #[serde(rename = "TTL")]
    ttl: String,
    #[serde(rename = "Status")]
    status: &'static str,
    #[serde(rename = "DeregisterCriticalServiceAfter")]
    deregister_after: String,
}

impl Scope {
    pub(crate) fn new(config: &ConsulConfig) -> Self {
        Self {
            namespace: config.namespace.clone(),
            partition: config.partition.clone(),
            datacenter: config.datacenter.clone(),
            consistency: config.consistency,
            tags: config.tags.clone(),
            node_meta: config.node_meta.clone(),
        }
    }

    /// All instances of a service with their checks, whatever those say: we judge them ourselves, so that an instance
    /// that fails and one that vanished can be told apart.
    pub(crate) fn health(&self, service: &ServiceName, block: Option<Block>) -> Request {
        let mut query = self.query();
        query.push_opt("dc", self.datacenter.as_deref());
        // Each given again means "and".
        for tag in &self.tags {
            query.push("tag", tag);
        }
        for (key, value) in &self.node_meta {
            query.push("node-meta", &format!("{key}:{value}"));
        }
        match self.consistency {
            Consistency::Leader => {}
            Consistency::Stale => query.push_flag("stale"),
            Consistency::Consistent => query.push_flag("consistent"),
            Consistency::Cached => query.push_flag("cached"),
        }
        if let Some(Block { index, wait }) = block {
            query.push("index", &index.to_string());
            query.push("wait", &go_duration(wait));
        }
        get("a watch", &["health", "service", service.as_str()], query)
    }

    /// Registers the service with its one TTL check inside. Whatever other checks the id had are removed; `drained`, they
    /// stay, and maintenance is one of them.
    pub(crate) fn register(
        &self,
        registration: &Registration,
        status: CheckStatus,
        drained: bool,
    ) -> Request {
        let weight = registration.weight();
        let definition = ServiceDefinition {
            id: registration.id(),
            name: registration.service().as_str(),
            address: registration.host(),
            port: registration.port(),
            tags: registration.tags(),
            meta: registration.meta(),
            weights: (weight != 1).then_some(Weights {
                passing: weight,
                warning: 1,
            }),
            check: CheckDefinition {
                ttl: go_duration(registration.ttl()),
                status: match status {
                    CheckStatus::Passing => "passing",
                    CheckStatus::Critical => "critical",
                },
                deregister_after: go_duration(registration.deregister_after()),
            },
        };
        let mut query = self.query();
        if !drained {
            query.push("replace-existing-checks", "true");
        }
        // Strings, numbers and string maps always serialize.
        let body = serde_json::to_vec(&definition).unwrap_or_default();
        Request {
            body: Some(body.into()),
            ..put("a registration", &["agent", "service", "register"], query)
        }
    }

    /// A heartbeat: tells the check of this registration that it passes, or fails it on purpose.
    pub(crate) fn beat(&self, id: &str, status: CheckStatus) -> Request {
        let (verb, note) = match status {
            CheckStatus::Passing => ("pass", None),
            CheckStatus::Critical => ("fail", Some("the service says that it does not serve")),
        };
        let mut query = self.query();
        query.push_opt("note", note);
        put(
            "a heartbeat",
            &["agent", "check", verb, &format!("service:{id}")],
            query,
        )
    }

    /// Asks the agent what it knows of an id: the one question whose answer is the same in all versions.
    pub(crate) fn look(&self, id: &str) -> Request {
        get(
            "a look at a registration",
            &["agent", "service", id],
            self.query(),
        )
    }

    /// Takes the instance out of service, whatever its check says.
    pub(crate) fn maintain(&self, id: &str) -> Request {
        let mut query = self.query();
        query.push("enable", "true");
        query.push("reason", "the service drains");
        put(
            "maintenance of a registration",
            &["agent", "service", "maintenance", id],
            query,
        )
    }

    pub(crate) fn deregister(&self, id: &str) -> Request {
        put(
            "a deregistration",
            &["agent", "service", "deregister", id],
            self.query(),
        )
    }

    fn query(&self) -> Query {
        let mut query = Query(String::new());
        query.push_opt("ns", self.namespace.as_deref());
        query.push_opt("partition", self.partition.as_deref());
        query
    }
}

struct Query(String);

impl Query {
    fn push_flag(&mut self, key: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(key);
    }

    fn push(&mut self, key: &str, value: &str) {
        self.push_flag(key);
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value, ESCAPED));
    }

    fn push_opt(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.push(key, value);
        }
    }
}

fn get(purpose: &'static str, segments: &[&str], query: Query) -> Request {
    let mut path = String::from("/v1");
    for segment in segments {
        path.push('/');
        path.extend(utf8_percent_encode(segment, ESCAPED));
    }
    path.push_str(&query.0);
    Request {
        purpose,
        method: Method::GET,
        path,
        body: None,
    }
}

fn put(purpose: &'static str, segments: &[&str], query: Query) -> Request {
    Request {
        method: Method::PUT,
        ..get(purpose, segments, query)
    }
}

/// A span as Go reads it; whole milliseconds are as fine as anything here.
fn go_duration(span: Duration) -> String {
    let millis = span.as_millis();
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match millis % 1000 {
        0 => write!(text, "{}s", millis / 1000),
        _ => write!(text, "{millis}ms"),
    };
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn registration() -> Registration {
        Registration::new(ServiceName::new("svc").unwrap(), "10.0.0.1", 9000)
            .unwrap()
            .with_id("a/b c%ö")
            .unwrap()
    }

    fn scope(change: impl FnOnce(&mut ConsulConfig)) -> Scope {
        let mut config = ConsulConfig::default();
        change(&mut config);
        Scope::new(&config)
    }

    #[test]
    fn a_watch_asks_for_all_instances_and_blocks_only_with_an_index() {
        let name = ServiceName::new("größe/x").unwrap();
        let plain = Scope::default().health(&name, None);
        assert_eq!(
            (plain.method, plain.path.as_str()),
            (Method::GET, "/v1/health/service/gr%C3%B6%C3%9Fe%2Fx?stale")
        );
        let block = Block {
            index: 7,
            wait: Duration::from_millis(59_500),
        };
        let leader = scope(|config| config.consistency = Consistency::Leader);
        assert_eq!(
            leader.health(&name, Some(block)).path.split_once('?').unwrap().1,
            "index=7&wait=59500ms"
        );
        let full = scope(|config| {
            config.consistency = Consistency::Cached;
            config.datacenter = Some("dc 2".into());
            config.namespace = Some("team&a".into());
            config.partition = Some("p".into());
            config.tags = vec!["v 1".into(), "eu".into()];
            config.node_meta = vec![("rack".into(), "a:1".into())];
        });
        let path = full.health(&ServiceName::new("s").unwrap(), None).path;
        assert_eq!(
            path,
            "/v1/health/service/s?ns=team%26a&partition=p&dc=dc%202&tag=v%201&tag=eu&node-meta=rack%3Aa%3A1&cached"
        );
    }

    #[test]
    fn a_registration_names_only_what_is_set_and_replaces_other_checks() {
        let request = Scope::default().register(&registration(), CheckStatus::Passing, false);
        assert_eq!(
            request.path,
            "/v1/agent/service/register?replace-existing-checks=true"
        );
        let body: Value = serde_json::from_slice(&request.body.unwrap()).unwrap();
        let uuid = registration_uuid(&body);
        assert_eq!(
            body,
            json!({
                "ID": "a/b c%ö", "Name": "svc", "Address": "10.0.0.1", "Port": 9000,
                "Meta": {"picom-instance": uuid},
                "Check": {"TTL": "30s", "Status": "passing", "DeregisterCriticalServiceAfter": "90s"},
            })
        );
    }

    fn registration_uuid(body: &Value) -> String {
        body["Meta"]["picom-instance"].as_str().unwrap().to_owned()
    }

    #[test]
    fn weight_tags_and_a_critical_start_are_sent_when_set() {
        let full = registration()
            .with_weight(7)
            .and_then(|one| one.with_tag("v1"))
            .and_then(|one| one.with_ttl(Duration::from_millis(1500)))
            .unwrap();
        let request = Scope::default().register(&full, CheckStatus::Critical, true);
        assert_eq!(request.path, "/v1/agent/service/register", "maintenance stays");
        let body: Value = serde_json::from_slice(&request.body.unwrap()).unwrap();
        assert_eq!(body["Weights"], json!({"Passing": 7, "Warning": 1}));
        assert_eq!(body["Tags"], json!(["v1"]));
        assert_eq!(
            body["Check"],
            json!({"TTL": "1500ms", "Status": "critical", "DeregisterCriticalServiceAfter": "60s"})
        );
    }

    #[test]
    fn ids_are_escaped_in_paths() {
        let scope = Scope::default();
        let id = "a/b c%ö";
        assert_eq!(
            scope.beat(id, CheckStatus::Passing).path,
            "/v1/agent/check/pass/service%3Aa%2Fb%20c%25%C3%B6"
        );
        assert!(
            scope
                .beat("x", CheckStatus::Critical)
                .path
                .starts_with("/v1/agent/check/fail/service%3Ax?note=the%20")
        );
        assert_eq!(scope.look(id).path, "/v1/agent/service/a%2Fb%20c%25%C3%B6");
        let maintain = scope.maintain("x");
        let path = "/v1/agent/service/maintenance/x?enable=true&reason=the%20service%20drains";
        assert_eq!((maintain.method, maintain.path.as_str()), (Method::PUT, path));
        let deregister = scope.deregister("x");
        assert_eq!(
            (deregister.method, deregister.path.as_str()),
            (Method::PUT, "/v1/agent/service/deregister/x")
        );
    }
}
