//! What a client announces: a service, read from a body and held against Consul's rules in Consul's order. Its checks
//! are read by `check_draft`. Nothing here remembers anything; `state` does.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::check_draft::{CheckDefinition, read_check};
use super::config::Compat;
use super::go_json::{self, DecodeError, Field};
use super::refusal::Refusal;

/// Consul's limits on `Meta` (its documentation of service metadata).
const MOST_META_PAIRS: usize = 64;
const LONGEST_META_KEY: usize = 128;
const LONGEST_META_VALUE: usize = 512;

/// Checks in one registration. Consul has no limit; a dev agent that anything on the machine may talk to has one.
const MOST_CHECKS: usize = 64;

/// The three states of a check, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Status {
    Passing,
    Warning,
    Critical,
}

impl Status {
    /// Reads Consul's word for it.
    pub(crate) fn parse(text: &str) -> Option<Status> {
        [Status::Passing, Status::Warning, Status::Critical]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// Consul's word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Status::Passing => "passing",
            Status::Warning => "warning",
            Status::Critical => "critical",
        }
    }
}

/// An address under a name such as `lan` or `wan`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TaggedAddress {
    pub(crate) address: String,
    pub(crate) port: i64,
}

/// How much of the traffic an instance should get in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Weights {
    pub(crate) passing: i64,
    pub(crate) warning: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Weights {
            passing: 1,
            warning: 1,
        }
    }
}

/// A service as announced, without its checks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct ServiceDefinition {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) tags: Vec<String>,
    pub(crate) address: String,
    pub(crate) tagged: BTreeMap<String, TaggedAddress>,
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) port: i64,
    pub(crate) weights: Weights,
    pub(crate) enable_tag_override: bool,
    pub(crate) native: bool,
}

/// The body of `PUT /v1/agent/service/register`.
pub(crate) fn service(
    body: &[u8],
    compat: Compat,
) -> Result<(ServiceDefinition, Vec<CheckDefinition>), Refusal> {
    let map = go_json::object(body)?;
    let mut service = ServiceDefinition::default();
    let mut weights = None;
    let mut drafts = Vec::new();
    for field in go_json::fields(&map, "") {
        match field.key.as_str() {
            "id" => service.id = field.string()?,
            "name" => service.name = field.string()?,
            "kind" => service.kind = field.string()?,
            "tags" => service.tags = field.strings()?,
            "address" => service.address = field.string()?,
            "port" => service.port = field.integer()?,
            "meta" => service.meta = field.pairs()?.into_iter().collect(),
            "taggedaddresses" | "tagged_addresses" => service.tagged = tagged_addresses(&field)?,
            "weights" => weights = field.object()?.map(read_weights).transpose()?,
            "enabletagoverride" | "enable_tag_override" => service.enable_tag_override = field.boolean()?,
            "connect" => service.native = native(&field)?,
            "check" => drafts.extend(
                field
                    .object()?
                    .map(|map| read_check(map, "Check", compat))
                    .transpose()?,
            ),
            "checks" => {
                let maps = field.objects()?;
                if maps.len() > MOST_CHECKS {
                    return Err(Refusal::dev_agent(
                        400,
                        format_args!("more than {MOST_CHECKS} checks"),
                    ));
                }
                for map in maps {
                    drafts.push(read_check(map, "Checks", compat)?);
                }
            }
            // A token is taken and not looked at: there are no ACLs here.
            "token" => drop(field.string()?),
            "proxy" if field.object()?.is_none_or(Map::is_empty) => {}
            "proxy" => return Err(Refusal::dev_agent(400, format_args!("proxies are not supported"))),
            "socketpath" | "partition" | "namespace" | "locality" | "ports" if compat.is_newer() => {}
            _ => return Err(field.unknown().into()),
        }
    }
    if service.name.is_empty() {
        return Err(Refusal::new(400, "Missing service name"));
    }
    if service.id.is_empty() {
        service.id.clone_from(&service.name);
    }
    if ["0.0.0.0", "::", "[::]"].contains(&service.address.as_str()) {
        return Err(Refusal::new(400, "Invalid service address"));
    }
    if let Some(weights) = weights {
        validate_weights(weights)?;
        service.weights = weights;
    }
    validate_meta(&service.meta)?;
    if service.kind == "connect-proxy" {
        return Err(Refusal::dev_agent(400, format_args!("proxies are not supported")));
    }
    // An empty check object is as good as none.
    drafts.retain(|draft| !draft.empty);
    let mut checks = Vec::with_capacity(drafts.len());
    for draft in &drafts {
        draft
            .validate()
            .map_err(|why| Refusal::new(400, format!("Invalid check: {why}")))?;
    }
    for draft in drafts {
        checks.push(draft.finish("Status for checks must 'passing', 'warning', 'critical'")?);
    }
    add_ip_addresses(&mut service);
    Ok((service, checks))
}

pub(crate) fn tagged_addresses(field: &Field<'_>) -> Result<BTreeMap<String, TaggedAddress>, DecodeError> {
    let mut tagged = BTreeMap::new();
    for (name, value) in field.object()?.into_iter().flatten() {
        let Value::Object(map) = value else { continue };
        let mut address = TaggedAddress {
            address: String::new(),
            port: 0,
        };
        for field in go_json::fields(map, "TaggedAddresses") {
            match field.key.as_str() {
                "address" => address.address = field.string()?,
                "port" => address.port = field.integer()?,
                _ => return Err(field.unknown()),
            }
        }
        tagged.insert(name.clone(), address);
    }
    Ok(tagged)
}

fn read_weights(map: &Map<String, Value>) -> Result<Weights, DecodeError> {
    let mut weights = Weights {
        passing: 0,
        warning: 0,
    };
    for field in go_json::fields(map, "Weights") {
        match field.key.as_str() {
            "passing" => weights.passing = field.integer()?,
            "warning" => weights.warning = field.integer()?,
            _ => return Err(field.unknown()),
        }
    }
    Ok(weights)
}

/// `Connect: {Native: true}`. Consul passes over keys it does not know here, and nowhere else.
fn native(field: &Field<'_>) -> Result<bool, Refusal> {
    let mut native = false;
    for field in field
        .object()?
        .into_iter()
        .flat_map(|map| go_json::fields(map, "Connect"))
    {
        match field.key.as_str() {
            "native" => native = field.boolean()?,
            "sidecarservice" | "sidecar_service" if !field.value().is_null() => {
                return Err(Refusal::dev_agent(
                    400,
                    format_args!("sidecars are not supported"),
                ));
            }
            _ => {}
        }
    }
    Ok(native)
}

fn validate_weights(weights: Weights) -> Result<(), Refusal> {
    if weights.passing < 1 {
        return Err(Refusal::new(
            400,
            "Invalid Weights: Passing must be greater than 0",
        ));
    }
    if weights.warning < 0 {
        return Err(Refusal::new(
            400,
            "Invalid Weights: Warning must be greater or equal than 0",
        ));
    }
    Ok(())
}

fn validate_meta(meta: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::new(400, format!("Invalid Service Meta: {why}")));
    if meta.len() > MOST_META_PAIRS {
        return refuse(format!(
            "Node metadata cannot contain more than {MOST_META_PAIRS} key/value pairs"
        ));
    }
    for (key, value) in meta {
        let why = if key.is_empty() {
            "Key cannot be blank".to_owned()
        } else if !key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        {
            "Key contains invalid characters".to_owned()
        } else if key.len() > LONGEST_META_KEY {
            format!("Key is too long (limit: {LONGEST_META_KEY} characters)")
        } else if key.starts_with("consul-") {
            "Key prefix 'consul-' is reserved for internal use".to_owned()
        } else if value.len() > LONGEST_META_VALUE {
            format!("Value is too long (limit: {LONGEST_META_VALUE} characters)")
        } else {
            continue;
        };
        return refuse(format!("Couldn't load metadata pair ('{key}', '{value}'): {why}"));
    }
    Ok(())
}

/// What Consul adds by itself when the address is a number: `lan_ipv4` and `wan_ipv4`, or their IPv6 twins.
fn add_ip_addresses(service: &mut ServiceDefinition) {
    let names = match service.address.parse() {
        Ok(std::net::IpAddr::V4(_)) => ["lan_ipv4", "wan_ipv4"],
        Ok(std::net::IpAddr::V6(_)) => ["lan_ipv6", "wan_ipv6"],
        Err(_) => return,
    };
    for name in names {
        service
            .tagged
            .entry(name.to_owned())
            .or_insert_with(|| TaggedAddress {
                address: service.address.clone(),
                port: service.port,
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        let refusal = service(body.as_bytes(), Compat::V1_8).unwrap_err();
        assert_eq!(refusal.status, 400, "{body}");
        refusal.text
    }

    #[test]
    fn registrations_are_refused_in_the_words_of_consul_1_8() {
        let long_key = "k".repeat(129);
        let long_value = "v".repeat(513);
        let many = (0..65)
            .map(|n| format!("\"k{n}\":\"v\""))
            .collect::<Vec<_>>()
            .join(",");
        for (body, error) in [
            (r"{}".to_owned(), "Missing service name".to_owned()),
            (r#"{"Name":"x","Unknown":1}"#.into(), r#"Request decode failed: json: unknown field "Unknown""#.into()),
            (r#"{"Name":"x","Locality":{}}"#.into(), r#"Request decode failed: json: unknown field "Locality""#.into()),
            (
                r#"{"Name":"x","Port":"80"}"#.into(),
                "Request decode failed: json: cannot unmarshal string into Go struct field .Port of type int".into(),
            ),
            (
                r#"{"Name":"x","Check":{"TTL":"bogus"}}"#.into(),
                r#"Request decode failed: time: invalid duration "bogus""#.into(),
            ),
            (r#"{"Name":"x","Check":{"TTL":"-5s"}}"#.into(), "Invalid check: TTL must be > 0 for TTL checks".into()),
            (
                r#"{"Name":"x","Check":{"TTL":"10s","HTTP":"http://x"}}"#.into(),
                "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks".into(),
            ),
            (
                r#"{"Name":"x","Check":{"TTL":"10s","Interval":"10s"}}"#.into(),
                "Invalid check: Interval and TTL cannot both be specified".into(),
            ),
            (
                r#"{"Name":"x","Check":{"TTL":"10s","Status":"odd"}}"#.into(),
                "Status for checks must 'passing', 'warning', 'critical'".into(),
            ),
            (
                r#"{"Name":"x","Check":{"TTL":"10s","DeregisterCriticalServiceAfter":"zz"}}"#.into(),
                r#"Request decode failed: time: invalid duration "zz""#.into(),
            ),
            (
                r#"{"Name":"x","Check":{"TTL":"10s","FailuresBeforeWarning":3}}"#.into(),
                r#"Request decode failed: json: unknown field "FailuresBeforeWarning""#.into(),
            ),
            (
                r#"{"Name":"x","Check":{"Notes":5,"TTL":"5s"}}"#.into(),
                "Request decode failed: json: cannot unmarshal number into Go struct field .Check of type string"
                    .into(),
            ),
            (r#"{"Name":"x","Check":{"Interval":"10s"}}"#.into(), "Invalid check: TTL must be > 0 for TTL checks".into()),
            (r#"{"Name":"x","Address":"0.0.0.0"}"#.into(), "Invalid service address".into()),
            (r#"{"Name":"x","Address":"[::]"}"#.into(), "Invalid service address".into()),
            (
                r#"{"Name":"x","Meta":{"bad key!":"v"}}"#.into(),
                "Invalid Service Meta: Couldn't load metadata pair ('bad key!', 'v'): Key contains invalid characters"
                    .into(),
            ),
            (
                r#"{"Name":"x","Meta":{"consul-foo":"v"}}"#.into(),
                "Invalid Service Meta: Couldn't load metadata pair ('consul-foo', 'v'): Key prefix 'consul-' is \
                 reserved for internal use"
                    .into(),
            ),
            (
                format!(r#"{{"Name":"x","Meta":{{"{long_key}":"v"}}}}"#),
                format!(
                    "Invalid Service Meta: Couldn't load metadata pair ('{long_key}', 'v'): Key is too long (limit: \
                     128 characters)"
                ),
            ),
            (
                format!(r#"{{"Name":"x","Meta":{{"k":"{long_value}"}}}}"#),
                format!(
                    "Invalid Service Meta: Couldn't load metadata pair ('k', '{long_value}'): Value is too long \
                     (limit: 512 characters)"
                ),
            ),
            (
                format!(r#"{{"Name":"x","Meta":{{{many}}}}}"#),
                "Invalid Service Meta: Node metadata cannot contain more than 64 key/value pairs".into(),
            ),
            (
                r#"{"Name":"x","Weights":{"Passing":0,"Warning":1}}"#.into(),
                "Invalid Weights: Passing must be greater than 0".into(),
            ),
            (
                r#"{"Name":"x","Weights":{"Passing":1,"Warning":-1}}"#.into(),
                "Invalid Weights: Warning must be greater or equal than 0".into(),
            ),
            (
                r#"{"id":"l","name":"l","check":{"ttl":"15s","check_id":"cc"}}"#.into(),
                r#"Request decode failed: json: unknown field "check_id""#.into(),
            ),
        ] {
            assert_eq!(refused(&body), error);
        }
    }

    #[test]
    fn odd_registrations_that_consul_takes_are_taken() {
        for body in [
            r#"{"Name":"x","Port":70000}"#,
            r#"{"Name":"x","Port":-5}"#,
            r#"{"Name":"bad_name!.x","Port":1}"#,
            r#"{"Name":"x","Address":"not an ip/host"}"#,
            r#"{"Name":"x","Check":{}}"#,
            r#"{"Name":"x","Check":{"TTL":10}}"#,
            r#"{"Name":"x","Check":{"TTL":"10s","FailuresBeforeCritical":3}}"#,
            r#"{"Name":"x","Tags":null,"Check":null,"Meta":null,"Weights":null,"Proxy":{},"Kind":"odd"}"#,
            r#"{"Name":"x","Connect":{"X":1}}"#,
            r#"{"Name":"x","TaggedAddresses":{"lan":{"Address":"0.0.0.0","Port":1}}}"#,
        ] {
            assert!(service(body.as_bytes(), Compat::V1_8).is_ok(), "{body}");
        }
    }

    #[test]
    fn a_service_without_an_id_is_called_by_its_name() {
        assert_eq!(service(br#"{"Name":"x"}"#, Compat::V1_8).unwrap().0.id, "x");
    }

    #[test]
    fn a_numeric_address_is_also_listed_under_its_family() {
        let (v4, _) = service(br#"{"Name":"x","Address":"10.9.9.9","Port":9110}"#, Compat::V1_8).unwrap();
        assert_eq!(v4.tagged.keys().collect::<Vec<_>>(), ["lan_ipv4", "wan_ipv4"]);
        let (v6, _) = service(br#"{"Name":"x","Address":"::1","Port":1}"#, Compat::V1_8).unwrap();
        assert_eq!(v6.tagged.keys().collect::<Vec<_>>(), ["lan_ipv6", "wan_ipv6"]);
        let (host, _) = service(br#"{"Name":"x","Address":"host.example"}"#, Compat::V1_8).unwrap();
        assert!(host.tagged.is_empty());
    }

    #[test]
    fn newer_consuls_know_newer_fields() {
        let body = br#"{"Name":"x","SocketPath":"/x","Locality":{"Region":"r"},"Check":{"TTL":"1s","FailuresBeforeWarning":3}}"#;
        assert!(service(body, Compat::V1_11).is_ok());
    }
}
