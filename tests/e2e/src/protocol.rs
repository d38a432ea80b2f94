//! What a test says to a node and what the node says to the test: one line of JSON each. How lines travel is `node.rs` on
//! the test's side and the program `picom-e2e-node` on the other.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A command and the number its answer carries. Commands run side by side; answers come as they are ready.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// Chosen by the test.
    pub number: u64,
    /// What to do.
    pub command: Command,
}

/// What a node can be told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Builds the node's `Picom`. Once, before anything else.
    Start(Settings),
    /// Exposes all methods of `service.rs`.
    Expose,
    /// Ends the node on SIGTERM and SIGINT: it then says [`Event::Ended`] and exits.
    EndOnSignal,
    /// Ends the node's `Picom`; the answer is a [`Report`].
    End,
    /// What the node says of itself; the answer is a [`Standing`].
    Status,
    /// Calls and waits for the first value.
    Fetch(Call),
    /// Calls and waits for all values; the answer is an array.
    FetchAll(Call),
    /// Opens a call with a stream each way; the answer is its number.
    Open(Call),
    /// Sends items on an open call.
    Send(u64, Vec<Value>),
    /// Ends the sending half of an open call properly.
    Finish(u64),
    /// Drops the sending half of an open call.
    DropSender(u64),
    /// Reads up to so many items of an open call; the answer is an array, shorter at the end.
    Receive(u64, usize),
    /// Drops the receiving half of an open call.
    DropReceiver(u64),
    /// Drops the work on an earlier command that has not been answered, which then never will be.
    Cancel(u64),
    /// Begins to call again and again.
    Load(Load),
    /// The load's clock, in microseconds: what began before this was asked began earlier, what begins after the answer
    /// begins later.
    Mark,
    /// Waits until so many more calls of the load have ended.
    AwaitCalls(u64),
    /// Ends the load, when every call of it has ended; the answer is an array of [`Record`](crate::history::Record).
    EndLoad,
    /// Occupies every thread of the runtime for so many milliseconds, without awaiting. The answer comes afterwards.
    Block(u64),
}

/// How a node's `Picom` is built. What is `None` is left to the environment and the defaults.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Its name.
    pub service: String,
    /// Where its Consul is, as `host:port`.
    pub consul: Option<String>,
    /// Time to live of its check.
    pub ttl: Option<Duration>,
    /// The port it listens on.
    pub port: Option<u16>,
    /// The port of a dev agent that nodes share, instead of Consul.
    pub dev: Option<u16>,
    /// Expose although Consul cannot be asked.
    pub keep_trying: bool,
    /// How long it goes on accepting when it ends.
    pub keep_accepting: Option<Duration>,
    /// How long calls may take to finish when it ends.
    pub drain_timeout: Option<Duration>,
    /// Where executions are written down.
    pub journal: Option<PathBuf>,
}

/// A call to be made.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Call {
    /// Whom to ask.
    pub service: String,
    /// What to ask for.
    pub method: String,
    /// With which arguments.
    pub args: Value,
    /// In which time; `None` leaves the default.
    pub timeout: Option<Duration>,
    /// May it run more than once?
    pub idempotent: bool,
    /// Wait for an instance if there is none?
    pub wait_for_ready: bool,
    /// Further attempts; `None` leaves the client's.
    pub retries: Option<u32>,
}

impl Call {
    /// A call without options.
    pub fn new(service: &str, method: &str, args: impl Serialize) -> Self {
        let args = serde_json::to_value(args).expect("arguments of tests are JSON");
        Self {
            service: service.to_owned(),
            method: method.to_owned(),
            args,
            ..Self::default()
        }
    }

    /// The same, to be done in that time.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The same, allowed to run more than once.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// The same, waiting for an instance.
    #[must_use]
    pub fn wait_for_ready(mut self) -> Self {
        self.wait_for_ready = true;
        self
    }

    /// The same with so many further attempts.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }
}

/// Calls of `work`, made by several callers until they are told to stop.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    /// Whom to ask.
    pub service: String,
    /// How many callers, each with one call at a time.
    pub callers: u32,
    /// How long each call works.
    pub work: Duration,
    /// How long a caller rests between calls.
    pub rest: Duration,
    /// May they run more than once?
    pub idempotent: bool,
    /// The id of the first call; later ones count up.
    pub first: u64,
    /// The deadline of each call.
    pub timeout: Duration,
}

impl Load {
    /// Eight callers of 10 ms each, with ids from `first`: busy enough that a fault finds calls in flight, idle enough
    /// for two cores.
    pub fn on(service: &str, first: u64) -> Self {
        Self {
            service: service.to_owned(),
            callers: 8,
            work: Duration::from_millis(10),
            rest: Duration::from_millis(2),
            idempotent: false,
            first,
            timeout: Duration::from_secs(10),
        }
    }

    /// The same, allowed to run more than once.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }
}

/// Anything a node says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// The answer to a command.
    Answer(u64, Result<Value, Failure>),
    /// Something happened.
    Event(Event),
}

/// What happens at a node by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A handler that reports its life has begun; the text is what its caller named it.
    Begun(String),
    /// It came to its end.
    Completed(String),
    /// It was dropped before that.
    Dropped(String),
    /// A handler says something.
    Said(String),
    /// The node ended on a signal and exits.
    Ended(Report),
}

/// How an end went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Consul did not confirm that the registration is gone.
    pub left_registered: bool,
    /// Calls that were cut.
    pub cut: u64,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its instance's id, once it has exposed.
    pub instance: Option<String>,
    /// Where it listens.
    pub listens: Option<String>,
    /// Calls its handlers work on.
    pub handling: u64,
}

/// An error as a node reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The error and its sources, joined by colons.
    pub text: String,
    /// Whether the call ran; `None` if it is not the error of a call.
    pub outcome: Option<Ran>,
    /// Its time was over.
    pub timeout: bool,
    /// There was nobody to answer.
    pub unavailable: bool,
    /// The code of the fault the peer stated.
    pub code: Option<u16>,
    /// The `left` of the typed error `OutOfStock`, if it is one.
    pub left: Option<u32>,
    /// How many attempts failed.
    pub attempts: usize,
    /// The host of the last one.
    pub host: Option<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// Whether a call ran, as its caller knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ran {
    /// The peer cannot have seen it.
    NeverSent,
    /// The peer did not begin.
    Refused,
    /// Nobody knows.
    Maybe,
    /// The handler was started.
    Yes,
}

/// Who answers: the value of the method `whoami`, and part of others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The id of its registration.
    pub instance: String,
    /// Its process.
    pub pid: u32,
}

/// The value of the method `work`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The id the call was made with.
    pub id: u64,
    /// Who did it.
    pub by: Identity,
}

/// The arguments of the method `work`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The id of the call.
    pub id: u64,
    /// How long to work, in milliseconds.
    pub ms: u64,
}

/// How long an item of the method `pour` is, in bytes.
pub const POURED: usize = 16 * 1024;
