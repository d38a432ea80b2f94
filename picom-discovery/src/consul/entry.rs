//! Health answers: a list of `{Node, Service, Checks}` to instances. Tolerant of fields that are new, missing or null;
//! an entry that makes no sense is left out and counted, and never takes the others with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderMap;
use serde::Deserialize;

use super::answer::Asked;
use super::config::{ConsulConfig, Reach};
use super::http::Answer;
use super::recall::Recall;
use crate::error::{DiscoveryError, ProtocolFault};
use crate::excerpt::Excerpt;
use crate::instance::{Health, Instance};
use crate::name::ServiceName;
use crate::registration::host_fault;
use crate::snapshot::normalized;

/// A server that has not heard from its leader for longer than this may tell old news; elections take less.
const OUT_OF_TOUCH: Duration = Duration::from_secs(10);

/// How the entries of an answer are understood by one client.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct View {
    reach: Reach,
    use_warnings: bool,
}

/// What a health answer says.
#[derive(Debug)]
pub(crate) struct Reading {
    /// Sorted, each key once.
    pub(crate) instances: Vec<Arc<Instance>>,
    /// Entries left out because they were unreadable or cannot be dialled.
    pub(crate) skipped: usize,
    /// `X-Consul-Index`; `None` if it is missing or no number.
    pub(crate) index: Option<u64>,
    /// Set if the server that answered has lost touch with its leader.
    pub(crate) out_of_touch: Option<DiscoveryError>,
}

/// What an entry was taken for.
#[derive(Debug)]
pub(crate) enum Taken {
    Instance(Arc<Instance>),
    /// Nobody can dial it.
    Skipped,
    Unreadable(Excerpt),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
    #[serde(default)]
    checks: Option<Vec<Check>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node: String,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    tagged_addresses: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TaggedAddress {
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    port: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    address: Option<String>,
    #[serde(default)]
    port: Option<i64>,
    #[serde(default)]
    tags: Option<Vec<Arc<str>>>,
    #[serde(default)]
    meta: Option<BTreeMap<Arc<str>, Arc<str>>>,
    #[serde(default)]
    weights: Option<Weights>,
    #[serde(default)]
    tagged_addresses: Option<BTreeMap<String, TaggedAddress>>,
    #[serde(default)]
    create_index: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    #[serde(default)]
    passing: Option<i64>,
    #[serde(default)]
    warning: Option<i64>,
}

impl View {
    pub(crate) fn new(config: &ConsulConfig) -> Self {
        Self {
            reach: config.reach,
            use_warnings: config.use_warnings,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID", default)]
    id: Option<String>,
    #[serde(default)]
    status: Option<String>,
}

impl Asked {
    /// Reads the answer to a watch of `service`. Instances that are as they were in the `last` answer are the same
    /// allocations, and are not read again.
    ///
    /// # Errors
    /// A status that is not 200; an empty set that ACLs emptied; a body that is not a list, or a list without a single
    /// readable entry.
    pub(crate) fn read(
        &self,
        service: &ServiceName,
        answer: &Answer,
        view: View,
        last: &mut Recall<Taken>,
    ) -> Result<Reading, DiscoveryError> {
        if answer.status.as_u16() != 200 {
            return Err(self.fault(answer.status, &answer.headers, &answer.body));
        }
        let json = |error: serde_json::Error| Excerpt::new(error.to_string());
        // Consul writes "null" for some empty lists.
        let entries = last.entries(&answer.body, |text| match serde_json::from_str::<Entry>(text) {
            Ok(entry) => match entry.into_instance(service, view) {
                Some(instance) => Taken::Instance(Arc::new(instance)),
                None => Taken::Skipped,
            },
            Err(error) => Taken::Unreadable(json(error)),
        });
        let entries = entries.map_err(|error| self.broken(ProtocolFault::Json(json(error))))?;
        let mut instances = Vec::new();
        let (mut count, mut skipped, mut unreadable, mut first_fault) = (0, 0, 0, None);
        for entry in entries {
            count += 1;
            match entry {
                Taken::Instance(instance) => instances.push(instance.clone()),
                Taken::Skipped => skipped += 1,
                Taken::Unreadable(fault) => {
                    unreadable += 1;
                    first_fault.get_or_insert(fault);
                }
            }
        }
        if let Some(first) = first_fault
            && unreadable == count
        {
            return Err(self.broken(ProtocolFault::NoReadableEntry {
                entries: unreadable,
                first: first.clone(),
            }));
        }
        if count == 0 && header(&answer.headers, "x-consul-results-filtered-by-acls") == Some("true") {
            let text = Excerpt::new(
                "it has instances this token may not see (service:read and node:read are needed)",
            );
            return Err(DiscoveryError::Denied {
                agent: self.agent.clone(),
                request: self.purpose,
                text,
            });
        }
        Ok(Reading {
            instances: normalized(instances),
            skipped: skipped + unreadable,
            index: header(&answer.headers, "x-consul-index").and_then(|text| text.parse().ok()),
            out_of_touch: self.out_of_touch(answer),
        })
    }

    fn out_of_touch(&self, answer: &Answer) -> Option<DiscoveryError> {
        let leaderless = header(&answer.headers, "x-consul-knownleader") == Some("false");
        let contact = header(&answer.headers, "x-consul-lastcontact").and_then(|text| text.parse().ok());
        let silence = Duration::from_millis(contact.unwrap_or(0));
        if !leaderless && silence <= OUT_OF_TOUCH {
            return None;
        }
        Some(DiscoveryError::Unavailable {
            agent: self.agent.clone(),
            request: self.purpose,
            status: 200,
            text: Excerpt::new(format!(
                "a server answered that has not heard from a leader for {silence:?}"
            )),
            retry_after: None,
        })
    }
}

impl Entry {
    /// `None` for an instance nobody can dial.
    fn into_instance(self, name: &ServiceName, view: View) -> Option<Instance> {
        let Self {
            node,
            mut service,
            checks,
        } = self;
        let given = |host: &String| !host.is_empty();
        let (mut far, mut far_port) = (None, None);
        if view.reach == Reach::Wan {
            let tagged = service
                .tagged_addresses
                .take()
                .and_then(|mut all| all.remove("wan"));
            if let Some(tagged) = tagged {
                (far, far_port) = (
                    tagged.address.filter(given),
                    tagged.port.filter(|port| *port != 0),
                );
            }
            far = far.or_else(|| node.tagged_addresses?.remove("wan").filter(given));
        }
        // Consul's rule: without an address of its own, a service is at its node's.
        let host = far.or(service.address.filter(given)).or(node.address)?;
        let host = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(&host);
        if host_fault(host).is_some() {
            return None;
        }
        let port = far_port
            .or(service.port)
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)?;
        let mut health = checks
            .unwrap_or_default()
            .iter()
            .map(Check::health)
            .max_by_key(gravity)
            .unwrap_or(Health::Passing);
        let weights = service.weights;
        let mut weight = weights.as_ref().and_then(|weights| weights.passing).unwrap_or(1);
        if view.use_warnings && health == Health::Warning {
            let warning = weights.and_then(|weights| weights.warning).unwrap_or(1);
            if warning > 0 {
                (health, weight) = (Health::Passing, warning);
            }
        }
        Some(Instance {
            id: service.id.into(),
            node: node.node.into(),
            service: name.clone(),
            host: host.into(),
            port,
            tags: service.tags.unwrap_or_default(),
            meta: service.meta.unwrap_or_default(),
            // 16 bits are what Consul's DNS has for weights; an instance with none would never be called.
            weight: weight.clamp(1, 65_535) as u32,
            health,
            created: service.create_index.unwrap_or(0),
        })
    }
}

impl Check {
    fn health(&self) -> Health {
        let id = self.id.as_deref().unwrap_or_default();
        match self.status.as_deref() {
            Some("passing") => Health::Passing,
            Some("warning") => Health::Warning,
            _ if id == "_node_maintenance" || id.starts_with("_service_maintenance:") => Health::Maintenance,
            // Also what no version we know says: who cannot be understood is not called.
            _ => Health::Critical,
        }
    }
}

fn gravity(health: &Health) -> u8 {
    match health {
        Health::Passing => 0,
        Health::Warning => 1,
        Health::Critical => 2,
        Health::Maintenance => 3,
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::StatusCode;
    use proptest::prelude::*;

    use super::*;

    fn asked() -> Asked {
        Asked {
            agent: "Consul at h:1".into(),
            purpose: "a watch",
        }
    }

    fn read_with(headers: &[(&'static str, &str)], body: &[u8]) -> Result<Reading, DiscoveryError> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let answer = Answer {
            status: StatusCode::OK,
            headers: headers.collect(),
            body: Bytes::copy_from_slice(body),
        };
        asked().read(
            &ServiceName::new("svc").unwrap(),
            &answer,
            View::default(),
            &mut Recall::default(),
        )
    }

    fn read(body: &str) -> Result<Reading, DiscoveryError> {
        read_with(&[("x-consul-index", "42")], body.as_bytes())
    }

    fn one(service: &str, checks: &str) -> Instance {
        let body = format!(
            r#"[{{"Node": {{"Node": "n1", "Address": "10.0.0.9"}}, "Service": {service}, "Checks": {checks}}}]"#
        );
        let mut reading = read(&body).unwrap();
        assert_eq!(reading.instances.len(), 1, "{body}");
        (*reading.instances.remove(0)).clone()
    }

    #[test]
    fn an_entry_becomes_an_instance() {
        let instance = one(
            r#"{"ID": "svc-1", "Service": "svc", "Address": "10.1.1.1", "Port": 9000, "Tags": ["a", "b"],
                "Meta": {"picom": "1", "picom-instance": "u"}, "Weights": {"Passing": 10, "Warning": 2},
                "Connect": {}, "Locality": {"Region": "x"}, "CreateIndex": 53, "ModifyIndex": 54}"#,
            r#"[{"CheckID": "serfHealth", "Status": "passing", "Type": ""},
                {"CheckID": "service:svc-1", "Status": "passing", "Definition": {}}]"#,
        );
        assert_eq!(
            (&*instance.node, &*instance.id, instance.authority()),
            ("n1", "svc-1", "10.1.1.1:9000".into())
        );
        assert_eq!(
            (instance.weight, instance.health, instance.created),
            (10, Health::Passing, 53)
        );
        assert_eq!(
            (instance.native_version(), instance.uuid(), instance.tags.len()),
            (Some(1), Some("u"), 2)
        );
    }

    /// One entry as a client with this view sees it.
    fn seen(view: View, service: &str, checks: &str) -> Instance {
        let body = format!(
            r#"{{"Node": {{"Node": "n", "Address": "10.0.0.1", "TaggedAddresses": {{"wan": "198.51.100.1"}}}},
                "Service": {{"ID": "a", "Port": 80, {service}}}, "Checks": [{checks}]}}"#
        );
        let entry: Entry = serde_json::from_str(&body).unwrap();
        entry
            .into_instance(&ServiceName::new("svc").unwrap(), view)
            .unwrap()
    }

    #[test]
    fn from_afar_the_tagged_address_counts_and_else_the_nodes() {
        let tagged =
            r#""Address": "10.0.0.2", "TaggedAddresses": {"wan": {"Address": "203.0.113.5", "Port": 8080}}"#;
        let bare = r#""Address": "10.0.0.2", "TaggedAddresses": null"#;
        let wan = View {
            reach: Reach::Wan,
            ..View::default()
        };
        for (view, service, authority) in [
            (View::default(), tagged, "10.0.0.2:80"),
            (wan, tagged, "203.0.113.5:8080"),
            (wan, bare, "198.51.100.1:80"),
            (View::default(), bare, "10.0.0.2:80"),
        ] {
            assert_eq!(
                seen(view, service, "").authority(),
                authority,
                "{view:?} {service}"
            );
        }
    }

    #[test]
    fn a_warning_passes_with_its_own_weight_when_asked_for() {
        let warning = r#"{"CheckID": "c", "Status": "warning"}"#;
        let asked_for = View {
            use_warnings: true,
            ..View::default()
        };
        for (view, weights, expected) in [
            (
                View::default(),
                r#"{"Passing": 9, "Warning": 3}"#,
                (Health::Warning, 9),
            ),
            (asked_for, r#"{"Passing": 9, "Warning": 3}"#, (Health::Passing, 3)),
            (asked_for, r#"{"Passing": 9, "Warning": 0}"#, (Health::Warning, 9)),
            (asked_for, "null", (Health::Passing, 1)),
        ] {
            let one = seen(view, &format!(r#""Weights": {weights}"#), warning);
            assert_eq!((one.health, one.weight), expected, "{weights}");
        }
        let critical = r#"{"CheckID": "d", "Status": "critical"}"#;
        let one = seen(asked_for, r#""Tags": []"#, &format!("{warning}, {critical}"));
        assert_eq!(one.health, Health::Critical);
    }

    #[test]
    fn missing_and_null_fields_are_defaults() {
        for service in [
            r#"{"ID": "x", "Port": 1}"#,
            r#"{"ID": "x", "Port": 1, "Address": "", "Tags": null, "Meta": null, "Weights": null, "CreateIndex": null}"#,
            r#"{"ID": "x", "Port": 1, "Weights": {"Passing": 0}}"#,
        ] {
            for checks in ["null", "[]"] {
                let instance = one(service, checks);
                assert_eq!(
                    (&*instance.host, instance.weight, instance.health),
                    ("10.0.0.9", 1, Health::Passing)
                );
            }
        }
    }

    #[test]
    fn the_worst_check_decides() {
        for (checks, expected) in [
            (&["passing", "passing"][..], Health::Passing),
            (&["passing", "warning"], Health::Warning),
            (&["critical", "warning"], Health::Critical),
            (&["passing", "unheard-of"], Health::Critical),
        ] {
            let list: Vec<_> = checks
                .iter()
                .enumerate()
                .map(|(number, status)| format!(r#"{{"CheckID": "c{number}", "Status": "{status}"}}"#))
                .collect();
            let instance = one(r#"{"ID": "x", "Port": 1}"#, &format!("[{}]", list.join(",")));
            assert_eq!(instance.health, expected, "{checks:?}");
        }
        for id in ["_node_maintenance", "_service_maintenance:x"] {
            let checks = format!(
                r#"[{{"CheckID": "{id}", "Status": "critical"}}, {{"CheckID": "service:x", "Status": "critical"}}]"#
            );
            assert_eq!(
                one(r#"{"ID": "x", "Port": 1}"#, &checks).health,
                Health::Maintenance
            );
        }
        assert_eq!(
            one(r#"{"ID": "x", "Port": 1}"#, r#"[{"Status": null}]"#).health,
            Health::Critical
        );
    }

    #[test]
    fn addresses_come_out_without_brackets() {
        let instance = one(r#"{"ID": "x", "Port": 1, "Address": "[2001:db8::1]"}"#, "null");
        assert_eq!(
            (&*instance.host, instance.authority()),
            ("2001:db8::1", "[2001:db8::1]:1".to_owned())
        );
    }

    #[test]
    fn an_entry_that_makes_no_sense_is_left_out_and_counted() {
        let good = r#"{"Node": {"Node": "n"}, "Service": {"ID": "good", "Address": "h", "Port": 1}}"#;
        for bad in [
            r#"{"Node": {"Node": "n"}, "Service": {"ID": "x", "Address": "h", "Port": 0}}"#,
            r#"{"Node": {"Node": "n"}, "Service": {"ID": "x", "Address": "h", "Port": -5}}"#,
            r#"{"Node": {"Node": "n"}, "Service": {"ID": "x", "Address": "h", "Port": 70000}}"#,
            r#"{"Node": {"Node": "n"}, "Service": {"ID": "x", "Address": "h"}}"#,
            r#"{"Node": {"Node": "n"}, "Service": {"ID": "x", "Address": "h", "Port": "80"}}"#,
            r#"{"Node": {"Node": "n"}, "Service": {"ID": "x", "Address": "not a host", "Port": 1}}"#,
            r#"{"Node": {"Node": "n"}, "Service": {"ID": "x", "Address": "", "Port": 1}}"#,
            r#"{"Node": {"Node": "n", "Address": "0.0.0.0"}, "Service": {"ID": "x", "Port": 1}}"#,
            r#"{"Node": null, "Service": {"ID": "x", "Address": "h", "Port": 1}}"#,
            "{}",
            "7",
            "null",
            "[]",
        ] {
            let reading = read(&format!("[{bad}, {good}]")).unwrap();
            assert_eq!((reading.instances.len(), reading.skipped), (1, 1), "{bad}");
            assert_eq!(&*reading.instances[0].id, "good");
        }
    }

    #[test]
    fn a_list_without_a_readable_entry_is_an_error_and_an_empty_one_is_not() {
        assert!(read("[]").unwrap().instances.is_empty());
        assert!(read("null").unwrap().instances.is_empty());
        let portless = r#"[{"Node": {"Node": "n"}, "Service": {"ID": "x", "Address": "h", "Port": 0}}]"#;
        assert_eq!(
            read(portless).unwrap().skipped,
            1,
            "readable, though nobody can dial it"
        );
        let error = read(r#"[7, {"Nodes": 1}]"#).unwrap_err();
        assert!(error.to_string().contains("2 entries"), "{error}");
        for body in ["", "<html></html>", "{}", "[", "[{}", "\u{0}", "[] []"] {
            assert!(
                matches!(read(body), Err(DiscoveryError::Protocol { .. })),
                "{body}"
            );
        }
        let deep = "[".repeat(100_000);
        assert!(read(&deep).is_err());
        assert!(read(&format!("[{}{}]", "[".repeat(5000), "]".repeat(5000))).is_err());
    }

    #[test]
    fn an_empty_set_that_acls_emptied_is_a_refusal() {
        let filtered = [("x-consul-results-filtered-by-acls", "true")];
        assert!(matches!(
            read_with(&filtered, b"[]"),
            Err(DiscoveryError::Denied { .. })
        ));
        let entry = br#"[{"Node": {"Node": "n"}, "Service": {"ID": "x", "Address": "h", "Port": 1}}]"#;
        assert_eq!(read_with(&filtered, entry).unwrap().instances.len(), 1);
    }

    #[test]
    fn headers_tell_index_and_touch_with_the_leader() {
        for (headers, index, touch) in [
            (&[("x-consul-index", "7")][..], Some(7), true),
            (&[], None, true),
            (&[("x-consul-index", "-1")], None, true),
            (
                &[("x-consul-index", "1"), ("x-consul-knownleader", "false")],
                Some(1),
                false,
            ),
            (&[("x-consul-lastcontact", "10001")], None, false),
            (
                &[("x-consul-lastcontact", "300"), ("x-consul-knownleader", "true")],
                None,
                true,
            ),
        ] {
            let reading = read_with(headers, b"[]").unwrap();
            assert_eq!(
                (reading.index, reading.out_of_touch.is_none()),
                (index, touch),
                "{headers:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_can_do_more_than_fail(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_with(&[], &body);
        }

        #[test]
        fn any_json_in_the_place_of_an_entry_leaves_the_others(text in "[a-z0-9\"{}:,\\[\\] ]{0,40}") {
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                let good = r#"{"Node": {"Node": "n"}, "Service": {"ID": "good", "Address": "h", "Port": 1}}"#;
                let reading = read(&format!("[{text}, {good}]")).unwrap();
                prop_assert!(reading.instances.iter().any(|one| &*one.id == "good"));
            }
        }
    }
}
