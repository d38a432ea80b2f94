//! Calls that the agent answers at once: what it is told, and what it says about itself. From a route, a query and a
//! body to an answer; the state does the work.

use std::time::Instant;

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use super::catalog::{Check, Node};
use super::check_draft;
use super::definition::{self, ServiceDefinition, Status};
use super::go_json::{self, DecodeError};
use super::query::Query;
use super::reads::go_bool;
use super::refusal::Refusal;
use super::reply::{Reply, names};
use super::routes::AgentCall;
use super::state::State;
use super::views;

/// Does what was asked.
pub(crate) fn answer(
    state: &mut State,
    call: &AgentCall,
    query: &Query,
    body: &[u8],
    now: Instant,
) -> Result<Reply, Refusal> {
    if query.has("ns") && !query.get("ns").unwrap_or_default().is_empty() {
        return Err(no_namespaces());
    }
    let compat = state.settings.compat;
    match call {
        AgentCall::RegisterService => {
            let (service, checks) = definition::service(body, compat)?;
            // Anything Go does not take for true counts as false here, also nonsense.
            let replace = query
                .get("replace-existing-checks")
                .is_some_and(|text| go_bool(text) == Some(true));
            state.register_service(service, checks, replace, body.len(), now)?;
        }
        AgentCall::DeregisterService(id) => state.deregister_service(id)?,
        AgentCall::RegisterCheck => state.register_check(check_draft::check(body, compat)?, now)?,
        AgentCall::DeregisterCheck(id) => state.deregister_check(id)?,
        AgentCall::Heartbeat(status, id) => {
            state.update_check(id, *status, query.get("note").unwrap_or_default(), now)?;
        }
        AgentCall::UpdateCheck(id) => {
            let (status, output) = update(body)?;
            state.update_check(id, status, &output, now)?;
        }
        AgentCall::ServiceMaintenance(id) => {
            if id.is_empty() {
                return Err(Refusal::new(400, "Missing service ID"));
            }
            let (enable, reason) = maintenance(query)?;
            state.service_maintenance(id, enable, reason)?;
        }
        AgentCall::NodeMaintenance => {
            let (enable, reason) = maintenance(query)?;
            state.node_maintenance(enable, reason);
        }
        AgentCall::RegisterCatalog => return register_catalog(state, body, now),
        AgentCall::DeregisterCatalog => return deregister_catalog(state, body, now),
        _ => return look(state, call, query),
    }
    Ok(Reply::empty(200))
}

/// Consul without namespaces refuses to be asked about one.
pub(crate) fn no_namespaces() -> Refusal {
    Refusal::new(
        400,
        "Bad request: Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature",
    )
}

fn look(state: &State, call: &AgentCall, query: &Query) -> Result<Reply, Refusal> {
    let filter = query.get("filter").is_some_and(|filter| !filter.is_empty());
    if filter && matches!(call, AgentCall::Services | AgentCall::Checks) {
        return Err(Refusal::dev_agent(
            500,
            format_args!("filter expressions are not supported"),
        ));
    }
    Ok(match call {
        AgentCall::About => Reply::json(views::agent_self(state)).with(names::DEV_AGENT, "1"),
        AgentCall::Members => Reply::json(views::agent_members(state)),
        AgentCall::Services => Reply::json(views::agent_services(state)),
        AgentCall::Checks => Reply::json(views::agent_checks(state)),
        AgentCall::Service(id) => match state.services().get(id) {
            Some(service) => {
                Reply::json(views::agent_service(service)).with(names::CONTENT_HASH, service.content_hash())
            }
            None if state.settings.compat.is_newer() => {
                let text = format!(
                    "Unknown service ID {id:?}. Ensure that the service ID is passed, not the service name."
                );
                return Err(Refusal::new(404, text));
            }
            None => return Err(Refusal::new(404, format!("unknown service ID: {id}"))),
        },
        AgentCall::HealthById(id) => health_by_id(state, id, as_text(query))?,
        AgentCall::HealthByName(name) => health_by_name(state, name, as_text(query))?,
        // All others were done before they came here.
        _ => Reply::not_found(),
    })
}

fn as_text(query: &Query) -> bool {
    query.get("format") == Some("text")
}

fn health_by_id(state: &State, id: &str, text: bool) -> Result<Reply, Refusal> {
    if id.is_empty() {
        return Err(Refusal::new(500, "Bad request: Missing serviceID"));
    }
    let Some(service) = state.services().get(id) else {
        let reason = format!("ServiceId {id} not found");
        let body = match text {
            true => views::encode(&reason),
            false => {
                Bytes::from_static(b"{\"AggregatedStatus\":\"critical\",\"Service\":null,\"Checks\":null}\n")
            }
        };
        return Ok(Reply {
            status: 404,
            ..Reply::json(body)
        }
        .with(names::REASON, reason));
    };
    let (status, word, value) = views::local_health(state, service);
    Ok(health(status, views::encode(&value), text, word))
}

fn health_by_name(state: &State, name: &str, text: bool) -> Result<Reply, Refusal> {
    if name.is_empty() {
        return Err(Refusal::new(500, "Bad request: Missing service Name"));
    }
    let mut worst = None;
    let mut values = Vec::new();
    for service in state
        .services()
        .values()
        .filter(|service| service.definition.name == name)
    {
        let (status, word, value) = views::local_health(state, service);
        worst = worst.max(Some((status, word)));
        values.push(value);
    }
    let Some((worst, word)) = worst else {
        let reason = format!("ServiceName {name} Not Found");
        let body = if text {
            views::encode(&reason)
        } else {
            views::encode(&values)
        };
        return Ok(Reply {
            status: 404,
            ..Reply::json(body)
        }
        .with(names::REASON, reason));
    };
    Ok(health(worst, views::encode(&values), text, word))
}

fn health(status: Status, body: Bytes, text: bool, reason: &str) -> Reply {
    let code = match status {
        Status::Passing => 200,
        Status::Warning => 429,
        Status::Critical => 503,
    };
    let reply = match text {
        // Here, and only here, Consul leaves the charset out.
        true => Reply {
            body: Bytes::copy_from_slice(reason.as_bytes()),
            ..Reply::empty(code)
        }
        .with(CONTENT_TYPE, "text/plain"),
        false => Reply {
            status: code,
            ..Reply::json(body)
        },
    };
    reply.with(names::REASON, reason)
}

fn update(body: &[u8]) -> Result<(Status, String), Refusal> {
    let map = go_json::object(body)?;
    let (mut status, mut output) = (String::new(), String::new());
    for field in go_json::fields(&map, "") {
        match field.key.as_str() {
            "status" => status = field.string()?,
            "output" => output = field.string()?,
            _ => return Err(field.unknown().into()),
        }
    }
    match Status::parse(&status) {
        Some(status) => Ok((status, output)),
        None => Err(Refusal::new(400, format!("Invalid check status: '{status}'"))),
    }
}

fn maintenance(query: &Query) -> Result<(bool, &str), Refusal> {
    let enable = match query.get("enable") {
        None | Some("") => return Err(Refusal::new(400, "Missing value for enable")),
        Some(text) => {
            go_bool(text).ok_or_else(|| Refusal::new(400, format!("Invalid value for enable: {text:?}")))?
        }
    };
    Ok((enable, query.get("reason").unwrap_or_default()))
}

/// `PUT /v1/catalog/register`: puts another node, a service or a check into the catalog, without an agent behind it.
fn register_catalog(state: &mut State, body: &[u8], now: Instant) -> Result<Reply, Refusal> {
    let map = go_json::object(body)?;
    let mut node = Node {
        id: String::new(),
        name: String::new(),
        address: String::new(),
        datacenter: state.settings.datacenter.as_str().into(),
        tagged: None,
        meta: None,
    };
    let (mut service, mut checks, mut skip_node) = (None, Vec::new(), false);
    for field in go_json::fields(&map, "") {
        match field.key.as_str() {
            "id" => node.id = field.string()?,
            "node" => node.name = field.string()?,
            "address" => node.address = field.string()?,
            "datacenter" => drop(field.string()?),
            "taggedaddresses" => node.tagged = some_pairs(field.pairs()?),
            "nodemeta" => node.meta = some_pairs(field.pairs()?),
            "skipnodeupdate" => skip_node = field.boolean()?,
            "service" => service = field.object()?.map(catalog_service).transpose()?,
            "check" => checks.extend(field.object()?.map(catalog_check).transpose()?),
            "checks" => {
                for map in field.objects()? {
                    checks.push(catalog_check(map)?);
                }
            }
            _ => return Err(field.unknown().into()),
        }
    }
    if node.name.is_empty() {
        return Err(Refusal::new(
            500,
            "Must provide node if SkipNodeUpdate is not set",
        ));
    }
    if node.address.is_empty() && !skip_node {
        return Err(Refusal::new(
            500,
            "Must provide address if SkipNodeUpdate is not set",
        ));
    }
    state.edit_catalog(now, body.len(), |catalog| {
        let name = node.name.clone();
        if !skip_node {
            catalog.put_node(node);
        }
        if let Some(service) = service {
            catalog.put_service(&name, service);
        }
        for check in checks {
            catalog.put_check(&name, check);
        }
    })?;
    Ok(Reply::json(Bytes::from_static(b"true\n")))
}

/// `PUT /v1/catalog/deregister`: takes a node, a service or a check out of the catalog, whoever put it there.
fn deregister_catalog(state: &mut State, body: &[u8], now: Instant) -> Result<Reply, Refusal> {
    let map = go_json::object(body)?;
    let (mut node, mut service, mut check) = (String::new(), String::new(), String::new());
    for field in go_json::fields(&map, "") {
        match field.key.as_str() {
            "node" => node = field.string()?,
            "serviceid" => service = field.string()?,
            "checkid" => check = field.string()?,
            "datacenter" => drop(field.string()?),
            _ => return Err(field.unknown().into()),
        }
    }
    if node.is_empty() {
        return Err(Refusal::new(500, "Must provide node"));
    }
    if service.is_empty() && check.is_empty() && node == state.settings.node {
        return Err(Refusal::dev_agent(
            500,
            format_args!("its own node stays in the catalog"),
        ));
    }
    state.edit_catalog(now, 0, |catalog| {
        if !service.is_empty() {
            catalog.remove_service(&node, &service);
        } else if !check.is_empty() {
            catalog.remove_check(&node, &check);
        } else {
            catalog.remove_node(&node);
        }
    })?;
    Ok(Reply::json(Bytes::from_static(b"true\n")))
}

fn some_pairs(pairs: Vec<(String, String)>) -> Option<std::collections::BTreeMap<String, String>> {
    (!pairs.is_empty()).then(|| pairs.into_iter().collect())
}

fn catalog_service(map: &Map<String, Value>) -> Result<ServiceDefinition, DecodeError> {
    let mut service = ServiceDefinition::default();
    for field in go_json::fields(map, "Service") {
        match field.key.as_str() {
            "id" => service.id = field.string()?,
            "service" => service.name = field.string()?,
            "kind" => service.kind = field.string()?,
            "tags" => service.tags = field.strings()?,
            "address" => service.address = field.string()?,
            "port" => service.port = field.integer()?,
            "meta" => service.meta = field.pairs()?.into_iter().collect(),
            "taggedaddresses" => service.tagged = definition::tagged_addresses(&field)?,
            "weights" | "proxy" | "connect" | "enabletagoverride" => {}
            _ => return Err(field.unknown()),
        }
    }
    if service.id.is_empty() {
        service.id.clone_from(&service.name);
    }
    Ok(service)
}

fn catalog_check(map: &Map<String, Value>) -> Result<Check, DecodeError> {
    let mut check = Check {
        id: String::new(),
        name: String::new(),
        status: Status::Critical,
        notes: String::new(),
        output: String::new(),
        service_id: String::new(),
        service_name: String::new(),
        service_tags: Vec::new(),
        kind: "",
    };
    for field in go_json::fields(map, "Check") {
        match field.key.as_str() {
            "checkid" => check.id = field.string()?,
            "name" => check.name = field.string()?,
            "status" => check.status = Status::parse(&field.string()?).unwrap_or(Status::Critical),
            "notes" => check.notes = field.string()?,
            "output" => check.output = field.string()?,
            "serviceid" => check.service_id = field.string()?,
            "node" | "servicename" | "servicetags" | "definition" | "type" => {}
            _ => return Err(field.unknown()),
        }
    }
    if check.id.is_empty() {
        check.id.clone_from(&check.name);
    }
    Ok(check)
}
