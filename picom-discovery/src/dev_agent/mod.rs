//! An agent that speaks Consul's HTTP API, for what picom uses of it: examples and tests need no Consul.
//!
//! The *real* client runs against it, over real HTTP. It serves loopback only, one node, no ACLs, no TLS; checks are TTL
//! checks. It has Consul's blocking queries with Consul's indexes, exact TTLs, the reaper, maintenance, the answers and
//! the texts of 1.8 (or, with [`Compat::V1_11`], of later versions), and [`Faults`] that a real one shows only on bad
//! days. What it lacks it refuses in words that begin with `picom's dev agent`: filter expressions, polled checks,
//! proxies.
//!
//! - [`DevAgent::start`]: a port and a thread of its own.
//! - [`DevAgent::shared`]: one agent for all processes of a machine; whoever comes first has it.
//! - [`DevAgent::in_memory`]: no port and no thread, for tests under virtual time.

mod agent;
mod agent_calls;
mod answer;
mod catalog;
mod check_draft;
mod checks;
mod config;
mod definition;
mod error;
mod faults;
mod go_duration;
mod go_json;
mod hub;
#[cfg(test)]
mod model;
mod probe;
mod query;
mod reads;
mod refusal;
mod reply;
mod request_log;
mod respond;
mod routes;
mod server;
mod shared;
mod state;
mod timers;
mod views;

pub use agent::{DevAgent, InMemoryAgent};
pub use config::{Compat, DevAgentConfig, Observer, RequestLine};
pub use error::DevAgentError;
pub use faults::{Calls, Failure, Faults, IndexFault, Restart};
pub use hub::Counters;
pub use shared::{DEFAULT_SHARED_PORT, Role, Shared};
