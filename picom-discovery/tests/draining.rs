//! What drains must not be seen as usable by anybody, however slowly the agent answers and whatever makes the
//! registration be renewed meanwhile. Against the embedded dev agent, on a virtual clock.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use picom_discovery::consul::{ByteStream, Consul, ConsulConfig, Dial, Token};
use picom_discovery::dev_agent::{Compat, DevAgent, DevAgentConfig, InMemoryAgent, RequestLine};
use picom_discovery::{
    Discovery, Health, Lane, Lease, OnUnavailable, Registration, ServiceName, Snapshot, Watch,
};
use tokio::time::{Instant, timeout_at};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct ToAgent(Arc<InMemoryAgent>);

#[async_trait]
impl Dial for ToAgent {
    async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(self.0.connect()?))
    }
}

fn name() -> ServiceName {
    ServiceName::new("svc").unwrap()
}

/// An agent, and how many registrations it has answered.
fn agent(compat: Compat) -> (Arc<InMemoryAgent>, Arc<AtomicUsize>) {
    let registrations = Arc::new(AtomicUsize::new(0));
    let count = registrations.clone();
    let observer = Arc::new(move |line: &RequestLine| {
        if line.target.starts_with("/v1/agent/service/register") {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let agent = DevAgent::in_memory(DevAgentConfig {
        compat,
        seed: Some(1),
        observer: Some(observer),
        ..DevAgentConfig::default()
    });
    (Arc::new(agent), registrations)
}

fn client(agent: &Arc<InMemoryAgent>, token: Token) -> Consul {
    let mut config = ConsulConfig::new("agent.test", 8500);
    (config.lane, config.seed, config.token) = (Lane::Inline, Some(1), token);
    Consul::with_dial(config, Arc::new(ToAgent(agent.clone()))).unwrap()
}

/// A lease that drains, and a watch that has seen it.
async fn drained(agent: &Arc<InMemoryAgent>, token: Token) -> (Lease, Watch) {
    let registration = Registration::new(name(), "127.0.0.1", 9000)
        .and_then(|one| one.with_id("svc-1"))
        .unwrap();
    let server = client(agent, token);
    let lease = server.register(registration, OnUnavailable::Fail).await.unwrap();
    assert!(lease.drain(SECOND).await);
    let mut watch = client(agent, Token::None).watch(&name());
    assert!(rests(&watch.ready().await));
    (lease, watch)
}

/// Whether the one instance is there and in maintenance.
fn rests(now: &Arc<Snapshot>) -> bool {
    matches!(&now.instances[..], [one] if one.health == Health::Maintenance)
}

/// Everything that is seen for so long must keep the promise.
async fn throughout(watch: &mut Watch, time: Duration, promise: impl Fn(&Arc<Snapshot>) -> bool) {
    let end = Instant::now() + time;
    loop {
        assert!(promise(&watch.latest()), "{:?}", watch.latest());
        if timeout_at(end, watch.changed()).await.is_err() {
            return;
        }
    }
}

/// Registers something else under the id, as an operator would, and keeps or replaces its checks.
async fn overwrite(agent: &Arc<InMemoryAgent>, query: &str) {
    let body = r#"{"ID": "svc-1", "Name": "svc", "Address": "127.0.0.1", "Port": 9000, "Tags": ["else"],
        "Check": {"TTL": "30s"}}"#;
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(agent.connect().unwrap()))
        .await
        .unwrap();
    let driving = tokio::spawn(driver);
    let request = hyper::Request::put(format!("/v1/agent/service/register{query}"))
        .header("host", "agent.test")
        .body(Full::new(bytes::Bytes::from_static(body.as_bytes())))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert!(answer.status().is_success());
    answer.into_body().collect().await.unwrap();
    driving.abort();
}

#[tokio::test(start_paused = true)]
async fn a_rotated_token_does_not_make_a_drained_instance_usable() {
    for compat in [Compat::V1_8, Compat::V1_11] {
        let path = std::env::temp_dir().join(format!("picom-drain-token-{}-{compat:?}", std::process::id()));
        std::fs::write(&path, "one").unwrap();
        let (agent, registrations) = agent(compat);
        let token = Token::File {
            path: path.clone(),
            fallback: None,
        };
        let (lease, mut watch) = drained(&agent, token).await;
        agent.faults().slow(2 * SECOND);
        std::fs::write(&path, "two").unwrap();
        throughout(&mut watch, 60 * SECOND, rests).await;
        assert_eq!(registrations.load(Ordering::Relaxed), 2, "it was renewed");
        agent.faults().heal();
        lease.end(5 * SECOND).await.unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_overwritten_is_repaired_without_being_usable() {
    for compat in [Compat::V1_8, Compat::V1_11] {
        let (agent, _) = agent(compat);
        let (lease, mut watch) = drained(&agent, Token::None).await;
        agent.faults().slow(2 * SECOND);
        overwrite(&agent, "").await;
        throughout(&mut watch, 100 * SECOND, rests).await;
        assert!(watch.latest().instances[0].tags.is_empty(), "it was repaired");
        agent.faults().heal();
        lease.end(5 * SECOND).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_took_maintenance_away_finds_it_set_again() {
    let (agent, _) = agent(Compat::V1_8);
    let (lease, mut watch) = drained(&agent, Token::None).await;
    overwrite(&agent, "?replace-existing-checks=true").await;
    while !watch.changed().await.instances[0].is_usable() {}
    let shown = Instant::now();
    while !rests(&watch.changed().await) {}
    assert!(shown.elapsed() < 70 * SECOND, "a look every minute");
    throughout(&mut watch, 100 * SECOND, rests).await;
    assert!(watch.latest().instances[0].tags.is_empty(), "it was repaired");
    lease.end(5 * SECOND).await.unwrap();
}
