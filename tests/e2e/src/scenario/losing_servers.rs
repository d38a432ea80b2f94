//! A cluster of three servers loses its leader, its quorum, or everything: callers go on as if nothing had happened, and
//! an instance that came meanwhile is seen as soon as there is a leader.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::cluster::{Sight, Times, is_stale, usable};
use crate::history;
use crate::node::Node;
use crate::protocol::{Command, Load, Settings, Standing};
use crate::signal::Signal;
use crate::world::{Server, World};

/// The time to live in production: elections are shorter.
const TTL: Duration = Duration::from_secs(30);

/// A watch must have noticed within this that nobody answers, as far as anything tells it.
const NOTICED: Duration = Duration::from_secs(60);

/// A closed connection makes a set stale within this, killing everything included.
const TOLD: Duration = Duration::from_secs(1);

/// How long a newcomer may stay unseen behind the first answer of a leader.
const SEEN: Duration = Duration::from_secs(1);

/// How long no server answers in the scenarios that decide it themselves: longer than the seven seconds for which Consul
/// holds a request that needs a leader.
const OUTAGE: Duration = Duration::from_secs(12);

/// How long a leader hangs: longer than the fifteen seconds a registration may take, shorter than the time to live.
const HANGS: Duration = Duration::from_secs(20);

/// Who plays in each of them.
struct Play<'a> {
    world: &'a World,
    service: String,
    first: [Server; 2],
    caller: Node,
    sight: Sight,
    times: Times,
    struck: Instant,
    /// Kept until the load has ended.
    newcomer: Option<Server>,
    /// How long after a leader's return it was seen.
    behind: Duration,
}

/// A leader that is killed.
pub async fn a_leader_that_is_killed_costs_no_call(world: &World) {
    let mut play = Play::begin(world, "leader killed").await;
    let cluster = world.agent.cluster();
    let leader = cluster.leader().await;
    play.strikes();
    leader.kill().await;
    let newcomer = play.newcomer().await;
    let (elected, answers) = tokio::join!(cluster.elected(Some(leader.server())), cluster.answers());
    let play = play.ends(newcomer, elected, answers).await;
    // The one that was lost comes back as a follower, and nobody notices.
    leader.start();
    cluster.until_whole().await;
    // Nor does the one that took over keep an instance alive that was killed.
    play.checks().await.a_killed_one_is_out().await;
}

/// A leader that takes everything and answers nothing, for twenty seconds. The others elect one of themselves, but the
/// agent stays with the server it has chosen: it may tell nobody of the newcomer before that one is back, and holds the
/// heartbeats of all meanwhile. So such a time has to be shorter than the time to live.
pub async fn a_leader_that_hangs_costs_no_call(world: &World) {
    let mut play = Play::begin(world, "leader halted").await;
    let cluster = world.agent.cluster();
    let leader = cluster.leader().await;
    play.strikes();
    leader.halt().await;
    let newcomer = play.newcomer().await;
    let elected = cluster.elected(Some(leader.server())).await;
    // Nothing tells of time that passes.
    sleep_until(play.struck + HANGS).await;
    leader.go_on().await;
    let play = play.ends(newcomer, elected, Instant::now()).await;
    cluster.until_whole().await;
    play.checks().await;
}

/// Two of three servers are gone for a while, so that nobody can be elected.
pub async fn a_lost_quorum_costs_no_call(world: &World) {
    let mut play = Play::begin(world, "quorum lost").await;
    let cluster = world.agent.cluster();
    let lost = [cluster.leader().await, cluster.followers().await[0]];
    play.strikes();
    tokio::join!(lost[0].kill(), lost[1].kill());
    let newcomer = play.newcomer().await;
    // Nothing tells of time that passes.
    sleep(OUTAGE).await;
    lost[1].start();
    let (elected, answers) = tokio::join!(cluster.elected(None), cluster.answers());
    let play = play.ends(newcomer, elected, answers).await;
    lost[0].start();
    cluster.until_whole().await;
    play.checks().await;
}

/// All servers and the agent are killed at once and started again.
pub async fn a_restart_of_everything_costs_no_call(world: &World) {
    let mut play = Play::begin(world, "all restarted").await;
    let cluster = world.agent.cluster();
    play.strikes();
    for member in cluster.members() {
        member.kill().await;
    }
    // Every connection is closed, so the watch knows at once.
    let stale = play
        .sight
        .first(play.struck, NOTICED, "a stale set", is_stale)
        .await;
    let stale = stale - play.struck;
    assert!(stale <= TOLD, "known as stale after {stale:?}");
    let newcomer = play.newcomer().await;
    for member in cluster.members() {
        member.start();
    }
    let (elected, answers) = tokio::join!(cluster.elected(None), cluster.answers());
    let play = play.ends(newcomer, elected, answers).await;
    cluster.until_whole().await;
    play.checks().await;
}

impl<'a> Play<'a> {
    /// Two instances, a caller that calls all the time, and somebody who watches.
    async fn begin(world: &'a World, fault: &str) -> Self {
        let service = world.name("led");
        let first = [
            world.server_with(settings(world, &service)).await,
            world.server_with(settings(world, &service)).await,
        ];
        let sight = Sight::of(world.agent.address(), &service);
        let both = |now: &picom_discovery::Snapshot| now.freshness.is_live() && usable(now).len() == 2;
        let begun = Instant::now() - TTL;
        sight.first(begun, NOTICED, "both instances", both).await;
        let caller = world.caller().await;
        caller.load(Load::on(&service, 1)).await;
        for server in &first {
            server.answers(&caller, &service).await;
        }
        caller.calls(50).await;
        Self {
            world,
            service,
            first,
            caller,
            sight,
            times: Times::of(fault),
            struck: Instant::now(),
            newcomer: None,
            behind: Duration::ZERO,
        }
    }

    /// The fault comes now.
    fn strikes(&mut self) {
        self.struck = Instant::now();
    }

    /// Somebody exposes the service while there is no leader. The work on it goes on.
    async fn newcomer(&self) -> (Node, crate::node::Order) {
        let settings = Settings {
            keep_trying: true,
            ..settings(self.world, &self.service)
        };
        let node = self.world.start(settings).await.expect("a node starts");
        let order = node.order(Command::Expose);
        (node, order)
    }

    /// There is a leader again: the newcomer must be seen, and serve.
    async fn ends(
        mut self,
        (node, expose): (Node, crate::node::Order),
        elected: Instant,
        returned: Instant,
    ) -> Self {
        expose
            .answer::<serde_json::Value>()
            .await
            .expect("the newcomer exposes");
        let standing = node.status().await.expect("it says who it is");
        let port = port(&standing);
        let seen = |now: &picom_discovery::Snapshot| now.freshness.is_live() && usable(now).contains(&port);
        let seen = self
            .sight
            .first(self.struck, NOTICED, "the newcomer in a live set", seen)
            .await;
        let newcomer = Server {
            instance: standing.instance.expect("who has exposed has an id"),
            listens: standing.listens.expect("who has exposed listens"),
            node,
        };
        newcomer.answers(&self.caller, &self.service).await;
        self.newcomer = Some(newcomer);
        let stale = self
            .sight
            .all()
            .into_iter()
            .find(|(at, now)| *at >= self.struck && is_stale(now));
        if let Some((stale, _)) = stale {
            self.times.span("stale", stale - self.struck);
        }
        self.times.span("elected", elected - self.struck);
        self.times.span("returned", returned - self.struck);
        self.times.span("newcomer", seen - self.struck);
        self.times
            .span("behind", seen.saturating_duration_since(returned));
        self
    }

    /// Nobody was lost from sight, no call failed, and the newcomer was seen in time.
    async fn checks(mut self) -> Self {
        self.caller.calls(50).await;
        let records = self.caller.end_load().await;
        let failures = history::failures(&records);
        self.times.count("calls", records.len());
        self.times.count("failed", failures.len());
        let longest = records.iter().map(|record| record.took).max().unwrap_or(0);
        self.times.span("longest", Duration::from_micros(longest));
        let known: Vec<u16> = self.first.iter().map(|server| port_of(&server.listens)).collect();
        let missed = self.sight.all().into_iter().filter(|(at, _)| *at >= self.struck);
        let missed: Vec<_> = missed
            .filter(|(_, now)| known.iter().any(|port| !usable(now).contains(port)))
            .map(|(at, now)| (at - self.struck, usable(&now), now.freshness.clone()))
            .collect();
        self.times.tell();
        assert!(
            failures.is_empty(),
            "{} of {} calls failed: {:?}",
            failures.len(),
            records.len(),
            failures.first()
        );
        self.world.check(&records);
        assert!(
            self.behind <= SEEN,
            "the newcomer was seen {:?} after a leader's return",
            self.behind
        );
        assert!(missed.is_empty(), "{known:?} was not always usable: {missed:?}");
        self
    }

    /// An instance whose process is killed is out of service once its time to live has passed.
    async fn a_killed_one_is_out(mut self) {
        let port = port_of(&self.first[0].listens);
        let killed = Instant::now();
        self.first[0].node.signal(Signal::Kill);
        self.first[0].node.exit(SEEN).await;
        let out = |now: &picom_discovery::Snapshot| now.freshness.is_live() && !usable(now).contains(&port);
        let out = self
            .sight
            .first(killed, TTL + TTL / 3, "the killed one out of service", out)
            .await;
        let took = out - killed;
        assert!(took <= TTL + SEEN, "out after {took:?}");
    }
}

fn settings(world: &World, service: &str) -> Settings {
    Settings {
        ttl: Some(TTL),
        ..world.settings(service)
    }
}

fn port(standing: &Standing) -> u16 {
    port_of(standing.listens.as_deref().expect("who has exposed listens"))
}

fn port_of(listens: &str) -> u16 {
    let port = listens.rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("{listens} has no port"))
}
