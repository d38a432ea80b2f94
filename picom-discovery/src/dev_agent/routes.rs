//! Which path means what. The table of what this agent understands; what is done about it is decided elsewhere.

use hyper::Method;

use super::definition::Status;

/// A path that is understood, with the text behind its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// Something the agent is told or asked about itself.
    Agent(AgentCall),
    /// Something that may wait for the catalog to change.
    Read(Read),
    /// Who leads.
    Leader,
    /// The servers.
    Peers,
    /// The data centres.
    Datacenters,
    /// Never answered: its connection ends when the agent does. This agent's own.
    Hold,
}

/// Calls of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AgentCall {
    RegisterService,
    DeregisterService(String),
    RegisterCheck,
    DeregisterCheck(String),
    Heartbeat(Status, String),
    UpdateCheck(String),
    ServiceMaintenance(String),
    NodeMaintenance,
    RegisterCatalog,
    DeregisterCatalog,
    About,
    Members,
    Services,
    Service(String),
    Checks,
    HealthById(String),
    HealthByName(String),
}

/// Reads of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    Health(String),
    HealthConnect(String),
    HealthChecks(String),
    HealthNode(String),
    HealthState(String),
    Services,
    Service(String),
    Nodes,
}

/// The path that is never answered.
pub(crate) const HOLD: &str = "/v1/picom-dev-agent/hold";

/// What a path turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Understood, with the one method it takes.
    Route(Method, Route),
    /// Consul redirects: a doubled slash, or a missing one at the end.
    Moved(String),
    /// Unknown.
    Nothing,
}

/// Looks up a decoded path.
pub(crate) fn find(path: &str) -> Found {
    if path.contains("//") {
        let mut clean = path.to_owned();
        let mut before = '.';
        clean.retain(|c| std::mem::replace(&mut before, c) != '/' || c != '/');
        return Found::Moved(clean);
    }
    let exact = match path {
        "/v1/agent/service/register" => (Method::PUT, Route::Agent(AgentCall::RegisterService)),
        "/v1/agent/check/register" => (Method::PUT, Route::Agent(AgentCall::RegisterCheck)),
        "/v1/agent/maintenance" => (Method::PUT, Route::Agent(AgentCall::NodeMaintenance)),
        "/v1/agent/self" => (Method::GET, Route::Agent(AgentCall::About)),
        "/v1/agent/members" => (Method::GET, Route::Agent(AgentCall::Members)),
        "/v1/agent/services" => (Method::GET, Route::Agent(AgentCall::Services)),
        "/v1/agent/checks" => (Method::GET, Route::Agent(AgentCall::Checks)),
        "/v1/catalog/register" => (Method::PUT, Route::Agent(AgentCall::RegisterCatalog)),
        "/v1/catalog/deregister" => (Method::PUT, Route::Agent(AgentCall::DeregisterCatalog)),
        "/v1/catalog/services" => (Method::GET, Route::Read(Read::Services)),
        "/v1/catalog/nodes" => (Method::GET, Route::Read(Read::Nodes)),
        "/v1/catalog/datacenters" => (Method::GET, Route::Datacenters),
        "/v1/status/leader" => (Method::GET, Route::Leader),
        "/v1/status/peers" => (Method::GET, Route::Peers),
        HOLD => (Method::GET, Route::Hold),
        _ => return find_prefixed(path),
    };
    Found::Route(exact.0, exact.1)
}

type Make = fn(String) -> Route;

/// Longer prefixes first: `/v1/agent/service/` would swallow the others.
const PREFIXES: [(&str, Method, Make); 16] = [
    ("/v1/agent/service/deregister/", Method::PUT, |id| {
        Route::Agent(AgentCall::DeregisterService(id))
    }),
    ("/v1/agent/service/maintenance/", Method::PUT, |id| {
        Route::Agent(AgentCall::ServiceMaintenance(id))
    }),
    ("/v1/agent/service/", Method::GET, |id| {
        Route::Agent(AgentCall::Service(id))
    }),
    ("/v1/agent/check/deregister/", Method::PUT, |id| {
        Route::Agent(AgentCall::DeregisterCheck(id))
    }),
    ("/v1/agent/check/pass/", Method::PUT, |id| {
        Route::Agent(AgentCall::Heartbeat(Status::Passing, id))
    }),
    ("/v1/agent/check/warn/", Method::PUT, |id| {
        Route::Agent(AgentCall::Heartbeat(Status::Warning, id))
    }),
    ("/v1/agent/check/fail/", Method::PUT, |id| {
        Route::Agent(AgentCall::Heartbeat(Status::Critical, id))
    }),
    ("/v1/agent/check/update/", Method::PUT, |id| {
        Route::Agent(AgentCall::UpdateCheck(id))
    }),
    ("/v1/agent/health/service/id/", Method::GET, |id| {
        Route::Agent(AgentCall::HealthById(id))
    }),
    ("/v1/agent/health/service/name/", Method::GET, |name| {
        Route::Agent(AgentCall::HealthByName(name))
    }),
    ("/v1/catalog/service/", Method::GET, |name| {
        Route::Read(Read::Service(name))
    }),
    ("/v1/health/service/", Method::GET, |name| {
        Route::Read(Read::Health(name))
    }),
    ("/v1/health/connect/", Method::GET, |name| {
        Route::Read(Read::HealthConnect(name))
    }),
    ("/v1/health/checks/", Method::GET, |name| {
        Route::Read(Read::HealthChecks(name))
    }),
    ("/v1/health/node/", Method::GET, |node| {
        Route::Read(Read::HealthNode(node))
    }),
    ("/v1/health/state/", Method::GET, |state| {
        Route::Read(Read::HealthState(state))
    }),
];

fn find_prefixed(path: &str) -> Found {
    for (prefix, method, make) in &PREFIXES {
        if let Some(rest) = path.strip_prefix(prefix) {
            return Found::Route(method.clone(), make(rest.to_owned()));
        }
    }
    let with_slash = format!("{path}/");
    if PREFIXES.iter().any(|(prefix, _, _)| *prefix == with_slash) {
        return Found::Moved(with_slash);
    }
    Found::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        let agent = |method: Method, call| Found::Route(method, Route::Agent(call));
        for (path, found) in [
            (
                "/v1/agent/service/register",
                agent(Method::PUT, AgentCall::RegisterService),
            ),
            (
                "/v1/agent/service/a/b",
                agent(Method::GET, AgentCall::Service("a/b".into())),
            ),
            (
                "/v1/agent/service/deregister/",
                agent(Method::PUT, AgentCall::DeregisterService(String::new())),
            ),
            (
                "/v1/agent/check/pass/x",
                agent(Method::PUT, AgentCall::Heartbeat(Status::Passing, "x".into())),
            ),
            (
                "/v1/health/service/a",
                Found::Route(Method::GET, Route::Read(Read::Health("a".into()))),
            ),
            (
                "/v1/catalog/service/a",
                Found::Route(Method::GET, Route::Read(Read::Service("a".into()))),
            ),
            ("/v1/health/service", Found::Moved("/v1/health/service/".into())),
            ("/v1/catalog/service", Found::Moved("/v1/catalog/service/".into())),
            ("/v1///agent//self", Found::Moved("/v1/agent/self".into())),
            ("/v1/nope", Found::Nothing),
            ("/v1/", Found::Nothing),
            ("/", Found::Nothing),
            ("", Found::Nothing),
        ] {
            assert_eq!(find(path), found, "{path}");
        }
    }
}
