//! The agent a test runs against: the real one that `cargo xtask integration` has started, or the dev agent within the
//! test's own process, or that of a cluster of the test's own. What can be done to all stands here; the real one's process is
//! `agent/process.rs`, the cluster is `cluster.rs`.

mod process;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use picom_discovery::dev_agent::{DevAgent, DevAgentConfig, Restart};

use crate::cluster::Cluster;
use crate::patience::within;
use crate::registry::Registry;
use process::Process;

/// An agent that is told to come or go does so in milliseconds.
const SOON: Duration = Duration::from_secs(10);

/// Between two looks.
const REST: Duration = Duration::from_millis(10);

/// A Consul agent, or what stands in for one.
#[derive(Debug)]
pub struct Agent {
    kind: Kind,
    address: SocketAddr,
}

#[derive(Debug)]
enum Kind {
    Real(Process),
    Dev(DevAgent),
    Cluster(Cluster),
}

impl Agent {
    /// A dev agent of one's own, on a free port.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn dev() -> Self {
        let agent = DevAgent::start(DevAgentConfig::default())
            .await
            .expect("a dev agent starts");
        Self {
            address: agent.addr(),
            kind: Kind::Dev(agent),
        }
    }

    /// The real agent that the environment names. One that an earlier test left dead or halted is brought back first.
    ///
    /// # Panics
    ///
    /// When the environment names none, or it does not come up.
    pub async fn real() -> Self {
        let process = Process::from_environment();
        process.ensure_ready().await;
        Self {
            address: process.address(),
            kind: Kind::Real(process),
        }
    }

    /// The agent of a cluster of its own.
    ///
    /// # Panics
    ///
    /// When that does not come up.
    pub async fn of_cluster() -> Self {
        let cluster = Cluster::start().await;
        Self {
            address: cluster.agent().http(),
            kind: Kind::Cluster(cluster),
        }
    }

    /// The cluster it belongs to.
    ///
    /// # Panics
    ///
    /// When it belongs to none.
    pub fn cluster(&self) -> &Cluster {
        match &self.kind {
            Kind::Cluster(cluster) => cluster,
            Kind::Real(_) | Kind::Dev(_) => panic!("this agent belongs to no cluster"),
        }
    }

    /// Where its HTTP API is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it knows.
    pub fn registry(&self) -> Registry {
        Registry {
            address: self.address,
        }
    }

    /// Ends it at once. Returns when nobody listens any more.
    pub async fn kill(&self) {
        match &self.kind {
            Kind::Real(process) => process.kill().await,
            Kind::Cluster(cluster) => cluster.agent().kill().await,
            Kind::Dev(agent) => {
                agent.faults().go_away();
                agent.faults().forget_state();
            }
        }
        let refused = async {
            while TcpStream::connect(self.address).await.is_ok() {
                sleep(REST).await
            }
        };
        within(SOON, "the agent's port to be closed", refused).await;
    }

    /// Starts it again on the same ports, without what it knew. Returns when it answers.
    pub async fn start(&self) {
        match &self.kind {
            Kind::Real(process) => process.start().await,
            Kind::Cluster(cluster) => cluster.agent().start(),
            Kind::Dev(agent) => agent.faults().come_back(),
        }
        let answered = async {
            while self.registry().look("consul").await.is_err() {
                sleep(REST).await
            }
        };
        within(SOON, "the agent to answer", answered).await;
    }

    /// Kills it and starts it again: everything it knew is lost.
    pub async fn restart(&self) {
        match &self.kind {
            Kind::Real(_) | Kind::Cluster(_) => {
                self.kill().await;
                self.start().await;
            }
            Kind::Dev(agent) => agent.faults().restart(Restart::Killed),
        }
    }

    /// Halts it: it takes connections and requests and answers none.
    pub async fn halt(&self) {
        match &self.kind {
            Kind::Real(process) => process.halt().await,
            Kind::Cluster(cluster) => cluster.agent().halt().await,
            Kind::Dev(agent) => agent.faults().pause(),
        }
    }

    /// Lets it go on.
    pub async fn go_on(&self) {
        match &self.kind {
            Kind::Real(process) => process.go_on().await,
            Kind::Cluster(cluster) => cluster.agent().go_on().await,
            Kind::Dev(agent) => agent.faults().resume(),
        }
    }
}
