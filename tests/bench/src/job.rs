//! What the processes of a run tell each other, as JSON: one argument down, one line up.

use serde::{Deserialize, Serialize};

use crate::caller::Target;
use crate::peers::Peer;

/// How many workers a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workers {
    /// tokio's current-thread runtime.
    CurrentThread,
    /// tokio's multi-thread runtime with so many workers.
    Threads(usize),
}

/// What a server's process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hosting {
    /// Who serves.
    pub peer: Peer,
    /// Its workers.
    pub workers: Workers,
    /// On how many ports it listens; each is an instance of the service.
    pub listeners: usize,
    /// Messages may have 64 MiB and more.
    pub large: bool,
    /// The Consul API to register in, as `host:port`.
    pub agent: Option<String>,
}

/// What it says when it is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hosted {
    /// `host:port` of each listener.
    pub addresses: Vec<String>,
    /// A port that answers every connection with a line of [`HostState`].
    pub control: String,
    /// Its process.
    pub pid: u32,
}

/// What a server's process knows of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostState {
    /// Slow handlers started so far.
    pub slow_started: usize,
}

/// What a client's process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Who calls.
    pub peer: Peer,
    /// Its workers.
    pub workers: Workers,
    /// What it does.
    pub load: Load,
    /// Before anything counts.
    pub warm_up_ms: u64,
    /// What counts.
    pub measure_ms: u64,
    /// The server.
    pub host: Hosted,
    /// Messages may have 64 MiB and more.
    pub large: bool,
    /// The Consul API to find the service in, as `host:port`.
    pub agent: Option<String>,
    /// Connections that stand by and do nothing.
    pub idle: usize,
}

impl Job {
    /// The server as a caller sees it.
    pub fn target(&self) -> Target {
        Target {
            addresses: self.host.addresses.clone(),
            large: self.large,
            agent: self.agent.clone(),
        }
    }
}

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// The sum of two numbers.
    Add,
    /// So many bytes there and back.
    Echo(usize),
    /// A handler that computes for so many microseconds.
    Burn(u64),
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// So many tasks, each with its next call when the last has been answered.
    Closed {
        /// Which call.
        call: Call,
        /// How many tasks.
        in_flight: usize,
    },
    /// Calls at fixed times, answered or not; latency counts from the time that was meant.
    Open {
        /// Which call.
        call: Call,
        /// Calls a second.
        rate: f64,
    },
    /// The most that the generator of the open loop makes: a new task for each call, begun as soon as fewer are under way.
    Saturated {
        /// Which call.
        call: Call,
        /// How many.
        under_way: u64,
    },
    /// A stream of items from the server.
    Items,
    /// A stream of 64 KiB chunks from the server.
    Chunks,
    /// Items there and back, a stream each.
    BothWays,
    /// The same, each item sent by a call of its own.
    OneByOne,
    /// Echoes of so many bytes without ids, so many under way.
    Pipelined {
        /// Bytes.
        bytes: usize,
        /// Under way.
        depth: usize,
    },
    /// Small calls at fixed times, while one large message after the other is sent.
    Beside {
        /// Bytes of the large message.
        bytes: usize,
        /// Small calls a second.
        rate: f64,
    },
    /// Connections that have made one call: the server's memory for each.
    IdleConnections(usize),
    /// Calls that are not answered: the server's memory for each.
    SlowCalls(usize),
}

/// What a client's process found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Calls, items or bytes.
    pub count: u64,
    /// In so many seconds.
    pub seconds: f64,
    /// Latencies, where they were taken.
    pub latency: Option<Latency>,
    /// Processor time of the client for each, in microseconds, the kernel's share included.
    pub client_cpu_us: Option<f64>,
    /// The same of the server.
    pub server_cpu_us: Option<f64>,
    /// The server's memory for each, in bytes.
    pub bytes_each: Option<f64>,
    /// Large messages a second that were sent beside.
    pub beside: Option<f64>,
    /// Calls that were not begun, because too many were under way, or not answered in time (open loop): the peer could not
    /// keep up.
    pub skipped: u64,
    /// Calls that ended in an error (open loop), and the first of the errors.
    pub failed: u64,
    /// See `failed`.
    pub error: Option<String>,
}

impl Sample {
    /// So many a second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.seconds
    }
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "percentiles name themselves")]
pub struct Latency {
    pub count: u64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}
