//! What a scenario plays in: an agent, the program of nodes, a directory for their journals, and names nobody else has.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::agent::Agent;
use crate::history::{self, Record};
use crate::journal;
use crate::node::Node;
use crate::patience::within;
use crate::protocol::{Call, Command, Failure, Identity, Settings, Standing};
use crate::registry::{Registry, Sighting};
use crate::scratch::Scratch;

/// The time to live in scenarios that wait for it to pass: the shortest there is, as everybody waits.
pub const SHORT_TTL: Duration = Duration::from_secs(1);

/// The time to live in scenarios in which it must not pass although other tests keep both cores busy.
pub const STEADY_TTL: Duration = Duration::from_secs(3);

/// How long anything may take that should be there in milliseconds, on a machine with other things to do.
pub const SOON: Duration = Duration::from_secs(10);

/// Between two calls of a service that is down.
const REST: Duration = Duration::from_millis(5);

/// The surroundings of one scenario.
#[derive(Debug)]
pub struct World {
    /// The agent all its nodes use.
    pub agent: Agent,
    program: PathBuf,
    scratch: Scratch,
    /// Part of every name, so that scenarios that share an agent do not meet.
    mark: String,
    nodes: AtomicU32,
    is_real: bool,
}

/// A node that serves, with what it said when it had exposed.
#[derive(Debug)]
pub struct Server {
    /// The node.
    pub node: Node,
    /// The id of its registration.
    pub instance: String,
    /// Where it listens, as it is written in Consul.
    pub listens: String,
}

impl World {
    /// With a dev agent of its own.
    pub async fn dev(program: &str) -> Self {
        Self::new(program, Agent::dev().await, false)
    }

    /// With the real agent of the environment.
    pub async fn real(program: &str) -> Self {
        Self::new(program, Agent::real().await, true)
    }

    /// With a cluster of real servers of its own, and its agent.
    pub async fn cluster(program: &str) -> Self {
        Self::new(program, Agent::of_cluster().await, true)
    }

    fn new(program: &str, agent: Agent, is_real: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            agent,
            program: program.into(),
            scratch: Scratch::new(),
            mark: format!("{}-{count}", std::process::id()),
            nodes: AtomicU32::new(0),
            is_real,
        }
    }

    /// Whether the agent is a real one. Scenarios are the same; some take more rounds then.
    pub fn is_real(&self) -> bool {
        self.is_real
    }

    /// A service's name that no other scenario has.
    pub fn name(&self, name: &str) -> String {
        format!("e2e-{name}-{}", self.mark)
    }

    /// What the agent knows.
    pub fn registry(&self) -> Registry {
        self.agent.registry()
    }

    /// Settings for a node of a service, at our agent, with a journal of its own.
    pub fn settings(&self, service: &str) -> Settings {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed);
        Settings {
            service: service.to_owned(),
            consul: Some(self.agent.address().to_string()),
            ttl: Some(STEADY_TTL),
            journal: Some(self.scratch.path().join(format!("{number}.{}", journal::ENDING))),
            ..Settings::default()
        }
    }

    /// Where the program of nodes is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A node that exposes nothing.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn caller(&self) -> Node {
        let settings = self.settings(&self.name("caller"));
        self.start(settings).await.expect("a node starts")
    }

    /// A node with these settings, not exposed.
    ///
    /// # Errors
    ///
    /// When its `Picom` cannot be built.
    pub async fn start(&self, settings: Settings) -> Result<Node, Failure> {
        Node::start(&self.program, &[], settings).await
    }

    /// A node that serves.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn server(&self, service: &str) -> Server {
        self.server_with(self.settings(service)).await
    }

    /// A node that serves, with these settings.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn server_with(&self, settings: Settings) -> Server {
        let node = self.start(settings).await.expect("a node starts");
        let standing = node.expose().await.expect("a node exposes");
        Server::new(node, standing)
    }

    /// The same, ending on SIGTERM.
    ///
    /// # Panics
    ///
    /// When it does not serve.
    pub async fn server_until_signal(&self, settings: Settings) -> Server {
        let server = self.server_with(settings).await;
        let told: Result<serde_json::Value, Failure> = server.node.ask(Command::EndOnSignal).await;
        told.expect("a node that serves waits for a signal");
        server
    }

    /// Waits until exactly these instances of a service pass.
    ///
    /// # Panics
    ///
    /// When that does not come soon.
    pub async fn until_passing(&self, service: &str, wanted: &[&str]) -> Sighting {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        let what = format!("{wanted:?} pass");
        self.registry()
            .until(service, SOON, &what, |seen| seen.passing() == wanted)
            .await
    }

    /// Waits until nothing of a service is left, neither in the catalog nor at the agent.
    ///
    /// # Panics
    ///
    /// When that does not come soon.
    pub async fn until_gone(&self, service: &str) {
        self.registry()
            .until(service, SOON, "it is gone", |seen| seen.entries.is_empty())
            .await;
        let left = self
            .registry()
            .registered(service)
            .await
            .expect("the agent tells its services");
        assert!(left.is_empty(), "the agent still has {left:?}");
    }

    /// Holds what callers saw against what handlers did, at all nodes of this world.
    ///
    /// # Panics
    ///
    /// If the two do not fit.
    pub fn check(&self, records: &[Record]) {
        let runs = journal::runs(self.scratch.path()).expect("journals can be read");
        history::check(records, &runs);
    }
}

impl Server {
    fn new(node: Node, standing: Standing) -> Self {
        let instance = standing.instance.expect("who has exposed has an id");
        let listens = standing.listens.expect("who has exposed listens");
        Self {
            node,
            instance,
            listens,
        }
    }

    /// Calls the service until this instance has answered.
    ///
    /// # Panics
    ///
    /// When that does not come soon.
    pub async fn answers(&self, caller: &Node, service: &str) {
        let answered = async {
            loop {
                let call = Call::new(service, "whoami", ()).idempotent();
                match caller.fetch::<Identity>(call).await {
                    Ok(who) if who.instance == self.instance => return,
                    Ok(_) => {}
                    // Nobody tells when a service that is down is up again.
                    Err(_) => sleep(REST).await,
                }
            }
        };
        within(SOON, &format!("an answer of {}", self.instance), answered).await;
    }
}
