//! An agent that speaks Consul's HTTP API, for what picom uses of it: examples and tests need no Consul.
//!
//! The *real* client runs against it, over real HTTP. It has Consul's blocking queries with Consul's indexes, exact
//! TTLs, the reaper, maintenance, the answers and the texts of 1.8 (or, with [`Compat::V1_11`], of later versions), and
//! [`Faults`] that a real one shows only on bad days.
//!
//! - [`DevAgent::start`]: a port and a thread of its own.
//! - [`DevAgent::shared`]: one agent for all processes of a machine; whoever comes first has it.
//! - [`DevAgent::in_memory`]: no port and no thread, for tests under virtual time.
//!
//! # Where it differs from Consul 1.8.7
//!
//! Recorded exchanges and random sequences of calls, sent to both, gave the same answers, shapes, texts and wake-ups
//! but for these:
//!
//! - It serves loopback only, one node that is its own leader, no ACLs (tokens are taken and not looked at), no TLS.
//! - What it lacks it refuses in words that begin with `picom's dev agent`: `filter` (a 500, so that no unfiltered
//!   answer is taken for a filtered one), polled checks, proxies and sidecars, more than 64 checks in a registration,
//!   more than 256 MiB of registrations. Other paths, such as `/v1/kv`, are an empty 404.
//! - Bodies are written without line breaks unless asked with `?pretty`, as by an agent that is not in Consul's own dev
//!   mode. They are never compressed.
//! - `/v1/agent/self` and `/v1/agent/members` say less; the first carries `X-Picom-Dev-Agent: 1`. The `consul` service
//!   has less metadata. The server's address is always `127.0.0.1:8300`.
//! - Where Consul's order is that of a hash table (tags of a name, checks in the agent's local health), its order is
//!   fixed. Local health says `null` for no tags even where they were announced as `[]`.
//! - The catalog is compared with what was announced only after someone else edited it, 75 s later, not every minute.
//! - Idle connections are closed after 2 min; Consul keeps them.

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
