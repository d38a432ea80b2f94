//! Three servers of Consul and one agent that is none, each a process of its own on loopback, for what a single server
//! cannot show: an election. Services and callers use the agent. One process of it is `cluster/member.rs`, where they
//! listen is `cluster/ports.rs`, what a watch saw meanwhile is `cluster/sight.rs`, what is told of it
//! afterwards is `cluster/times.rs`.

mod member;
mod ports;
mod sight;
mod times;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::http;
use crate::patience::within;
use crate::scratch::Scratch;

pub use member::Member;
pub use sight::{Shown, Sight, is_stale, usable};
pub use times::{TIMES, Times};

/// Three servers elect a leader in two to four seconds; after all were killed at once it was seen to take ten, and a
/// machine that does other things may need several times that.
const READY: Duration = Duration::from_secs(60);

/// Between two looks at a cluster that is coming up.
const REST: Duration = Duration::from_millis(50);

/// The patience of one look.
const LOOK: Duration = Duration::from_secs(1);

/// A read that followers do not answer by themselves.
const LEADERS_WORD: &str = "/v1/health/service/consul?consistent";

/// How many of them are servers.
pub const SERVERS: usize = 3;

/// A cluster. Its processes are killed when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The servers, and behind them the agent.
    members: Vec<Member>,
    _scratch: Scratch,
}

impl Cluster {
    /// Starts one and waits until it is [whole](Self::until_whole).
    ///
    /// # Panics
    ///
    /// Without a binary in `PICOM_TEST_CONSUL_BIN`, and when it does not come up.
    pub async fn start() -> Self {
        let binary = std::env::var("PICOM_TEST_CONSUL_BIN").unwrap_or_else(|_| {
            panic!("PICOM_TEST_CONSUL_BIN is not set: these tests run by `cargo xtask integration --cluster`")
        });
        let binary = PathBuf::from(binary);
        let scratch = Scratch::new();
        let members = member::all(&binary, scratch.path());
        for member in &members {
            member.start();
        }
        let cluster = Self {
            members,
            _scratch: scratch,
        };
        cluster.until_whole().await;
        cluster
    }

    /// The agent that services and callers use.
    pub fn agent(&self) -> &Member {
        &self.members[SERVERS]
    }

    /// The servers.
    pub fn servers(&self) -> &[Member] {
        &self.members[..SERVERS]
    }

    /// All of them, the agent last.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The server that leads, as the agent hears it.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn leader(&self) -> &Member {
        let leader = leader(self.agent().http()).await;
        let leader = leader.expect("the agent answers").expect("there is a leader");
        let found = self.servers().iter().find(|server| server.server() == leader);
        found.unwrap_or_else(|| panic!("{leader} is none of ours"))
    }

    /// The servers that do not lead.
    pub async fn followers(&self) -> Vec<&Member> {
        let leader = self.leader().await.http();
        let others = self.servers().iter().filter(|server| server.http() != leader);
        others.collect()
    }

    /// Waits until there is a leader, every server votes, everybody is known to be alive, and the agent is in the catalog.
    /// A server that has come back does not vote at once: to kill the next one earlier would cost the quorum.
    ///
    /// # Panics
    ///
    /// When that does not come, with what is missing.
    pub async fn until_whole(&self) {
        let mut why = String::new();
        let whole = timeout(READY, async {
            while let Err(error) = self.look().await {
                why = format!("{error:#}");
                sleep(REST).await;
            }
        });
        let is_whole = whole.await.is_ok();
        assert!(is_whole, "the cluster is not whole after {READY:?}: {why}");
    }

    /// Waits until a server leads again and says so itself, and gives the moment; one that is not to be believed, because
    /// it is the one that was lost, may be named.
    ///
    /// # Panics
    ///
    /// When none does.
    pub async fn elected(&self, lost: Option<SocketAddr>) -> Instant {
        let found = async {
            loop {
                for server in self
                    .servers()
                    .iter()
                    .filter(|server| Some(server.server()) != lost)
                {
                    // A server that is down or halted is no leader.
                    let said = timeout(REST, leader(server.http())).await;
                    if let Ok(Ok(Some(leader))) = said
                        && leader == server.server()
                    {
                        return Instant::now();
                    }
                }
                sleep(REST / 5).await;
            }
        };
        within(READY, "an election", found).await
    }

    /// Waits until the agent has an answer that only a leader can give, and gives the moment. Answers to questions asked
    /// before this was called do not count.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn answers(&self) -> Instant {
        let answered = async {
            let mut asked = JoinSet::new();
            loop {
                // Agents hold what they are asked while there is no leader, so each moment is asked anew.
                asked.spawn(http::request(self.agent().http(), "GET", LEADERS_WORD, "", READY));
                tokio::select! {
                    () = sleep(REST) => {}
                    Some(Ok(Ok(answer))) = asked.join_next() => if answer.status == 200 {
                        return Instant::now();
                    }
                }
            }
        };
        within(READY, "an answer of a leader", answered).await
    }

    async fn look(&self) -> anyhow::Result<()> {
        let raft = get(self.agent().http(), "/v1/operator/raft/configuration").await?;
        let servers = raft["Servers"].as_array().context("no list of servers")?;
        let count = |key: &str| servers.iter().filter(|server| server[key] == true).count();
        ensure!(count("Leader") == 1, "there is no leader");
        ensure!(count("Voter") == SERVERS, "not every server votes");
        let members = get(self.agent().http(), "/v1/agent/members").await?;
        // 1 is "alive" in Consul's gossip.
        let alive = members.as_array().context("no list of members")?.iter();
        let alive = alive.filter(|member| member["Status"] == 1).count();
        ensure!(alive == self.members.len(), "{alive} of all are alive");
        let path = format!("/v1/health/node/{}", self.agent().node());
        let checks = get(self.agent().http(), &path).await?;
        let checks = checks.as_array().context("no list of checks")?;
        let is_well = |check: &Value| check["CheckID"] == "serfHealth" && check["Status"] == "passing";
        ensure!(checks.iter().any(is_well), "the agent is not in the catalog");
        Ok(())
    }
}

/// Whom a member takes for the leader: the address of its server port, `None` if it knows nobody.
///
/// # Errors
///
/// When it does not say.
pub async fn leader(member: SocketAddr) -> anyhow::Result<Option<SocketAddr>> {
    let answer = get(member, "/v1/status/leader").await?;
    Ok(answer.as_str().and_then(|leader| leader.parse().ok()))
}

async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    let answer = http::request(address, "GET", path, "", LOOK).await?;
    ensure!(answer.status == 200, "{path}: {}", answer.body);
    Ok(serde_json::from_str(&answer.body)?)
}
