//! What is stored, in the shapes Consul's answers have. JSON only: what is selected for an answer is decided elsewhere.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::catalog::{self, Instance, Record};
use super::checks::LocalCheck;
use super::definition::{ServiceDefinition, Status, TaggedAddress, Weights};
use super::state::{LocalService, State};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NodeView<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    node: &'a str,
    address: &'a str,
    datacenter: &'a str,
    tagged_addresses: Option<&'a BTreeMap<String, String>>,
    meta: Option<&'a BTreeMap<String, String>>,
    create_index: u64,
    modify_index: u64,
}

#[derive(Serialize)]
struct Empty {}

/// What a service without a proxy has in this place.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Proxy {
    mesh_gateway: Empty,
    expose: Empty,
}

impl Default for Proxy {
    fn default() -> Self {
        Proxy {
            mesh_gateway: Empty {},
            expose: Empty {},
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Connect {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    native: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceView<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
    service: &'a str,
    tags: &'a [String],
    address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tagged_addresses: Option<&'a BTreeMap<String, TaggedAddress>>,
    meta: Option<&'a BTreeMap<String, String>>,
    port: i64,
    weights: Weights,
    enable_tag_override: bool,
    proxy: Proxy,
    connect: Connect,
    create_index: u64,
    modify_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CheckView<'a> {
    node: &'a str,
    #[serde(rename = "CheckID")]
    check_id: &'a str,
    name: &'a str,
    status: &'a str,
    notes: &'a str,
    output: &'a str,
    #[serde(rename = "ServiceID")]
    service_id: &'a str,
    service_name: &'a str,
    service_tags: Option<&'a [String]>,
    #[serde(rename = "Type")]
    kind: &'a str,
    definition: Value,
    create_index: u64,
    modify_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LocalServiceView<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    kind: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
    service: &'a str,
    tags: &'a [String],
    meta: &'a BTreeMap<String, String>,
    port: i64,
    address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tagged_addresses: Option<&'a BTreeMap<String, TaggedAddress>>,
    weights: Weights,
    enable_tag_override: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect: Option<Connect>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CatalogServiceView<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    node: &'a str,
    address: &'a str,
    datacenter: &'a str,
    tagged_addresses: Option<&'a BTreeMap<String, String>>,
    node_meta: Option<&'a BTreeMap<String, String>>,
    service_kind: &'a str,
    #[serde(rename = "ServiceID")]
    service_id: &'a str,
    service_name: &'a str,
    service_tags: &'a [String],
    service_address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tagged_addresses: Option<&'a BTreeMap<String, TaggedAddress>>,
    service_weights: Weights,
    service_meta: &'a BTreeMap<String, String>,
    service_port: i64,
    service_enable_tag_override: bool,
    service_proxy: Proxy,
    service_connect: Connect,
    create_index: u64,
    modify_index: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct InstanceView<'a> {
    node: NodeView<'a>,
    service: ServiceView<'a>,
    checks: Vec<CheckView<'a>>,
}

/// `GET /v1/health/service/<name>`.
pub(crate) fn health(instances: &[Instance]) -> Bytes {
    let views: Vec<_> = instances
        .iter()
        .map(|instance| InstanceView {
            node: node_view(&instance.node),
            service: service_view(&instance.service),
            checks: instance
                .checks
                .iter()
                .map(|check| check_view(&instance.node.content.name, check))
                .collect(),
        })
        .collect();
    encode(&views)
}

/// `GET /v1/catalog/service/<name>`.
pub(crate) fn catalog_service(instances: &[Instance]) -> Bytes {
    let views: Vec<_> = instances
        .iter()
        .map(|Instance { node, service, .. }| CatalogServiceView {
            id: &node.content.id,
            node: &node.content.name,
            address: &node.content.address,
            datacenter: &node.content.datacenter,
            tagged_addresses: node.content.tagged.as_ref(),
            node_meta: node.content.meta.as_ref(),
            service_kind: &service.content.kind,
            service_id: &service.content.id,
            service_name: &service.content.name,
            service_tags: &service.content.tags,
            service_address: &service.content.address,
            service_tagged_addresses: unless_empty(&service.content.tagged),
            service_weights: service.content.weights,
            service_meta: &service.content.meta,
            service_port: service.content.port,
            service_enable_tag_override: service.content.enable_tag_override,
            service_proxy: Proxy::default(),
            service_connect: Connect {
                native: service.content.native,
            },
            create_index: service.created,
            modify_index: service.modified,
        })
        .collect();
    encode(&views)
}

/// `GET /v1/catalog/nodes`.
pub(crate) fn nodes(nodes: &[std::sync::Arc<Record<catalog::Node>>]) -> Bytes {
    let views: Vec<_> = nodes.iter().map(|node| node_view(node)).collect();
    encode(&views)
}

/// `GET /v1/health/{checks,node,state}/<x>`: checks with the names of their nodes.
pub(crate) fn checks(checks: &[(String, std::sync::Arc<Record<catalog::Check>>)]) -> Bytes {
    let views: Vec<_> = checks
        .iter()
        .map(|(node, check)| check_view(node, check))
        .collect();
    encode(&views)
}

/// `GET /v1/agent/service/<id>`, with its hash.
pub(crate) fn agent_service(service: &LocalService) -> Bytes {
    encode(&local_service(service, true))
}

/// `GET /v1/agent/services`.
pub(crate) fn agent_services(state: &State) -> Bytes {
    encode(
        &state
            .services()
            .iter()
            .map(|(id, service)| (id, local_service(service, false)))
            .collect::<BTreeMap<_, _>>(),
    )
}

/// `GET /v1/agent/checks`.
pub(crate) fn agent_checks(state: &State) -> Bytes {
    let node = &state.settings.node;
    encode(
        &state
            .checks()
            .all()
            .map(|check| (&check.content.id, local_check(node, check, false)))
            .collect::<BTreeMap<_, _>>(),
    )
}

/// The local health of one service, as Consul's agent adds it up: the worst of its checks and the node's, what that is
/// called, and the whole of it.
pub(crate) fn local_health(state: &State, service: &LocalService) -> (Status, &'static str, Value) {
    let node = &state.settings.node;
    let own = state.checks().of(&service.definition.id);
    let checks: Vec<&LocalCheck> = own.chain(state.checks().of("")).collect();
    let worst = checks
        .iter()
        .map(|check| check.content.status)
        .max()
        .unwrap_or(Status::Passing);
    let in_maintenance = checks.iter().any(|check| check.content.kind == "maintenance");
    let word = if in_maintenance {
        "maintenance"
    } else {
        worst.as_str()
    };
    let views: Vec<_> = checks
        .iter()
        .map(|check| local_check(node, check, true))
        .collect();
    let value = json!({
        "AggregatedStatus": word,
        "Service": local_service(service, false),
        "Checks": views,
    });
    (worst, word, value)
}

/// `GET /v1/agent/self`, as much of it as means something here.
pub(crate) fn agent_self(state: &State) -> Bytes {
    let settings = &state.settings;
    encode(&json!({
        "Config": {
            "Datacenter": settings.datacenter,
            "NodeName": settings.node,
            "NodeID": state.node_id(),
            "Revision": "",
            "Server": true,
            "Version": settings.compat.version(),
        },
        "Coord": { "Vec": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], "Error": 1.5, "Adjustment": 0.0, "Height": 1e-5 },
        "Member": member(state),
        "Meta": { "consul-network-segment": "" },
    }))
}

/// `GET /v1/agent/members`.
pub(crate) fn agent_members(state: &State) -> Bytes {
    encode(&[member(state)])
}

/// The bytes of an answer, with the newline Consul's encoder ends with.
pub(crate) fn encode(value: &impl Serialize) -> Bytes {
    let mut body = Vec::with_capacity(256);
    // Nothing here has keys that are not texts, and a Vec takes all that is written to it: this cannot fail.
    if serde_json::to_writer(&mut body, value).is_err() {
        body.clear();
        body.extend_from_slice(b"null");
    }
    body.push(b'\n');
    Bytes::from(body)
}

/// The same answer for human eyes: `?pretty`.
pub(crate) fn pretty(body: &Bytes) -> Bytes {
    match serde_json::from_slice::<Value>(body).and_then(|value| serde_json::to_vec_pretty(&value)) {
        Ok(mut text) => {
            text.push(b'\n');
            Bytes::from(text)
        }
        Err(_) => body.clone(),
    }
}

fn member(state: &State) -> Value {
    let build = format!("{}:", state.settings.compat.version());
    json!({
        "Name": state.settings.node,
        "Addr": "127.0.0.1",
        "Port": 8301,
        "Tags": { "build": build, "dc": state.settings.datacenter, "id": state.node_id(), "role": "consul" },
        "Status": 1,
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    })
}

fn node_view(node: &Record<catalog::Node>) -> NodeView<'_> {
    NodeView {
        id: &node.content.id,
        node: &node.content.name,
        address: &node.content.address,
        datacenter: &node.content.datacenter,
        tagged_addresses: node.content.tagged.as_ref(),
        meta: node.content.meta.as_ref(),
        create_index: node.created,
        modify_index: node.modified,
    }
}

fn service_view(service: &Record<ServiceDefinition>) -> ServiceView<'_> {
    let content = &service.content;
    ServiceView {
        kind: &content.kind,
        id: &content.id,
        service: &content.name,
        tags: &content.tags,
        address: &content.address,
        tagged_addresses: unless_empty(&content.tagged),
        // The catalog says null where the agent says {}.
        meta: (!content.meta.is_empty()).then_some(&content.meta),
        port: content.port,
        weights: content.weights,
        enable_tag_override: content.enable_tag_override,
        proxy: Proxy::default(),
        connect: Connect {
            native: content.native,
        },
        create_index: service.created,
        modify_index: service.modified,
    }
}

fn check_view<'a>(node: &'a str, check: &'a Record<catalog::Check>) -> CheckView<'a> {
    view_of_check(node, &check.content, json!({}), (check.created, check.modified))
}

fn local_check<'a>(node: &'a str, check: &'a LocalCheck, in_health: bool) -> CheckView<'a> {
    let definition = match in_health {
        false => json!({}),
        true => json!({
            "Interval": "0s", "Timeout": "0s", "DeregisterCriticalServiceAfter": "0s", "HTTP": "",
            "Header": null, "Method": "", "Body": "", "TLSSkipVerify": false, "TCP": "",
        }),
    };
    let mut view = view_of_check(node, &check.content, definition, (0, 0));
    if in_health {
        // Consul's local health leaves out the type and says null for no tags; elsewhere it is the other way round.
        view.kind = "";
        view.service_tags = view.service_tags.filter(|tags| !tags.is_empty());
    }
    view
}

fn view_of_check<'a>(
    node: &'a str,
    check: &'a catalog::Check,
    definition: Value,
    (create_index, modify_index): (u64, u64),
) -> CheckView<'a> {
    CheckView {
        node,
        check_id: &check.id,
        name: &check.name,
        status: check.status.as_str(),
        notes: &check.notes,
        output: &check.output,
        service_id: &check.service_id,
        service_name: &check.service_name,
        service_tags: Some(&check.service_tags),
        kind: check.kind,
        definition,
        create_index,
        modify_index,
    }
}

fn local_service(service: &LocalService, with_hash: bool) -> LocalServiceView<'_> {
    let definition = &service.definition;
    LocalServiceView {
        kind: &definition.kind,
        id: &definition.id,
        service: &definition.name,
        tags: &definition.tags,
        meta: &definition.meta,
        port: definition.port,
        address: &definition.address,
        tagged_addresses: unless_empty(&definition.tagged),
        weights: definition.weights,
        enable_tag_override: definition.enable_tag_override,
        content_hash: with_hash.then(|| service.content_hash()),
        connect: definition.native.then_some(Connect { native: true }),
    }
}

fn unless_empty(tagged: &BTreeMap<String, TaggedAddress>) -> Option<&BTreeMap<String, TaggedAddress>> {
    (!tagged.is_empty()).then_some(tagged)
}
