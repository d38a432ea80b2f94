//! What a dev agent is told when it starts. Defaults are Consul's, so that what runs against it runs against Consul.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Whose texts and status codes the agent speaks where versions of Consul differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compat {
    /// Consul 1.8: an unknown check or service id is a 500, or even a 200.
    #[default]
    V1_8,
    /// Consul 1.11 and later: unknown ids are 404s, newer fields of a registration are taken, reads say which backend
    /// answered.
    V1_11,
}

impl Compat {
    pub(crate) fn is_newer(self) -> bool {
        self == Compat::V1_11
    }

    pub(crate) fn version(self) -> &'static str {
        match self {
            Compat::V1_8 => "1.8.7",
            Compat::V1_11 => "1.11.1",
        }
    }
}

/// One answered request, as an observer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestLine {
    /// The request's method.
    pub method: String,
    /// Its path and query as they were sent. A `token` in a query is replaced by `<hidden>`.
    pub target: String,
    /// The status answered; 0 if the connection was closed instead.
    pub status: u16,
    /// Time from the request's head to the answer, blocked time included.
    pub took: Duration,
}

/// Called after every answered request, on the thread that serves; it must not block.
pub type Observer = Arc<dyn Fn(&RequestLine) + Send + Sync>;

/// Settings of a dev agent.
#[derive(Clone)]
pub struct DevAgentConfig {
    /// Where to listen: a loopback address; port 0 takes a free one. Default `127.0.0.1:0`.
    pub bind: SocketAddr,
    /// Which Consul to be like. Default 1.8.
    pub compat: Compat,
    /// The name of the one node. Default `picom-dev`.
    pub node: String,
    /// The data centre. Default `dc1`, as Consul's.
    pub datacenter: String,
    /// Lower bound of `DeregisterCriticalServiceAfter`. Default 1 min, as Consul's
    /// `check_deregister_interval_min`.
    pub deregister_min: Duration,
    /// How often services that were critical for too long are looked for. Default 30 s, as Consul's
    /// `check_reap_interval`.
    pub reap_interval: Duration,
    /// A heartbeat that changes only a check's output reaches the catalog after between ½ and 1½ of this. Default
    /// 5 min, as Consul's `check_update_interval`.
    pub output_interval: Duration,
    /// Connections allowed from one client address; one more is reset without an answer. Default 200, as Consul's
    /// `limits.http_max_conns_per_client`.
    pub connection_cap: usize,
    /// The longest request body in bytes; a longer one is a 413. Default 512 KiB, as Consul's `kv_max_value_size`: far
    /// above any registration, far below what would hurt.
    pub body_limit: usize,
    /// A connection that has not sent a whole head after this is closed, idle ones included. Default 2 min: longer
    /// than any heartbeat interval in use, because real Consul does not close idle connections at all.
    pub head_timeout: Duration,
    /// Seeds the jitter of blocking queries and the node's id. Default: different in each run.
    pub seed: Option<u64>,
    /// Told about every request.
    pub observer: Option<Observer>,
}

impl Default for DevAgentConfig {
    fn default() -> Self {
        DevAgentConfig {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            compat: Compat::default(),
            node: "picom-dev".to_owned(),
            datacenter: "dc1".to_owned(),
            deregister_min: Duration::from_secs(60),
            reap_interval: Duration::from_secs(30),
            output_interval: Duration::from_secs(300),
            connection_cap: 200,
            body_limit: 512 * 1024,
            head_timeout: Duration::from_secs(120),
            seed: None,
            observer: None,
        }
    }
}

impl std::fmt::Debug for DevAgentConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DevAgentConfig")
            .field("bind", &self.bind)
            .field("compat", &self.compat)
            .field("node", &self.node)
            .field("datacenter", &self.datacenter)
            .finish_non_exhaustive()
    }
}
