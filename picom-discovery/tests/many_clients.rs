//! Many clients of one agent in one process: an agent takes so many connections from one address and no more, so they
//! have to share. Over real sockets.

use std::time::Duration;

use picom_discovery::consul::{Consul, ConsulConfig};
use picom_discovery::dev_agent::{DevAgent, DevAgentConfig};
use picom_discovery::{Discovery, LeaseState, OnUnavailable, Registration, ServiceName};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

const PATIENCE: Duration = Duration::from_secs(30);
const CLIENTS: u16 = 120;
/// A watch, and what heartbeats and other calls of all clients have together, with a little for those that are closing.
const CONNECTIONS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_and_twenty_clients_with_a_lease_each_share_their_connections() {
    let agent = DevAgent::start(DevAgentConfig {
        connection_cap: CONNECTIONS,
        ..DevAgentConfig::default()
    });
    let agent = agent.await.unwrap();
    let address = agent.addr();
    let name = ServiceName::new("svc").unwrap();
    let config = move || ConsulConfig::new(address.ip().to_string(), address.port());
    let mut watch = Consul::new(config()).unwrap().watch(&name);
    let mut registering = JoinSet::new();
    for number in 0..CLIENTS {
        let name = name.clone();
        registering.spawn(async move {
            let consul = Consul::new(config()).unwrap();
            let registration = Registration::new(name, "127.0.0.1", 9000 + number).unwrap();
            consul.register(registration, OnUnavailable::Fail).await
        });
    }
    let mut leases = Vec::new();
    while let Some(lease) = registering.join_next().await {
        leases.push(lease.unwrap().unwrap());
    }
    let all = async {
        while watch.latest().usable().count() < usize::from(CLIENTS) {
            watch.changed().await;
        }
    };
    timeout(PATIENCE, all).await.unwrap();
    // New registrations are beaten every half second: some rounds of that.
    let begun = Instant::now();
    let beaten = agent.counters().requests + 4 * usize::from(CLIENTS);
    let mut looks = interval(Duration::from_millis(5));
    while agent.counters().requests < beaten {
        assert!(begun.elapsed() < PATIENCE, "heartbeats have come to a stop");
        assert!(agent.counters().connections <= CONNECTIONS);
        looks.tick().await;
    }
    for lease in &leases {
        assert!(
            matches!(lease.state(), LeaseState::Passing),
            "{:?}",
            lease.state()
        );
    }
    let mut ending = JoinSet::new();
    for lease in leases {
        ending.spawn(lease.end(PATIENCE));
    }
    while let Some(ended) = ending.join_next().await {
        ended.unwrap().unwrap();
    }
    drop(watch);
    agent.stop().await;
}
