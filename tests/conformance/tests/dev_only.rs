//! Behaviours that the dev agent has to be told to show: a refusal, a limit of its rate, and one of connections.

use std::error::Error as _;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use picom_conformance::{Dev, Entry, Subject, service};
use picom_discovery::consul::{ByteStream, Consul, ConsulConfig, Dial};
use picom_discovery::dev_agent::{
    Calls, Compat, DevAgent, DevAgentConfig, Failure, InMemoryAgent, RequestLine,
};
use picom_discovery::{
    Discovery, DiscoveryError, Freshness, Lane, OnUnavailable, RegisterError, Registration, Snapshot, Watch,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn ports(now: &Snapshot) -> Vec<u16> {
    now.usable().map(|one| one.port).collect()
}

async fn until(watch: &mut Watch, wanted: impl Fn(&Snapshot) -> bool) {
    let waiting = async {
        let mut latest = watch.latest();
        while !wanted(&latest) {
            latest = watch.changed().await;
        }
    };
    if timeout(30 * SECOND, waiting).await.is_err() {
        panic!("there is {:?}", watch.latest());
    }
}

fn is_denied(error: &DiscoveryError) -> bool {
    matches!(error, DiscoveryError::Denied { .. })
}

/// 41: a refused token is an error; it empties nothing, and announces nothing.
#[tokio::test(start_paused = true)]
async fn a_refused_token_is_an_error_and_empties_nothing() {
    for compat in [Compat::V1_8, Compat::V1_11] {
        let dev = Dev::new(compat);
        dev.put(&Entry::new(&dev, "a", 9000)).await;
        let process = dev.process();
        let mut known = process.watch(&service());
        until(&mut known, |now| ports(now) == [9000]).await;
        dev.faults().fail(Some(Failure {
            calls: Calls::All,
            status: 403,
            text: "ACL not found".to_owned(),
            retry_after: None,
        }));
        // So that the blocked query is asked again.
        dev.faults().drop_connections();
        let is_stale = |now: &Snapshot| match &now.freshness {
            Freshness::Stale { error, .. } => ports(now) == [9000] && !error.to_string().is_empty(),
            _ => false,
        };
        until(&mut known, is_stale).await;
        let mut unknown = dev.process().watch(&service());
        let is_pending = |now: &Snapshot| match &now.freshness {
            Freshness::Pending { error: Some(error) } => is_denied(error),
            _ => false,
        };
        until(&mut unknown, is_pending).await;
        let refused = process
            .register(dev.registration(9001), OnUnavailable::Fail)
            .await;
        let Err(RegisterError::Unavailable { source, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert!(is_denied(&source), "{source}");
        dev.faults().heal();
        until(&mut unknown, |now| {
            now.freshness.is_live() && ports(now) == [9000]
        })
        .await;
    }
}

/// What is asked of an agent: when, and by which path.
type Asked = Arc<Mutex<Vec<(Instant, String)>>>;

#[derive(Debug)]
struct ToAgent(InMemoryAgent);

#[async_trait]
impl Dial for ToAgent {
    async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(self.0.connect()?))
    }
}

/// An agent that writes down what it is asked, and a process that uses it.
fn observed() -> (Arc<ToAgent>, Asked, Consul) {
    let asked = Asked::default();
    let log = asked.clone();
    let observer = Arc::new(move |line: &RequestLine| {
        log.lock().unwrap().push((Instant::now(), line.target.clone()));
    });
    let agent = DevAgent::in_memory(DevAgentConfig {
        observer: Some(observer),
        seed: Some(1),
        ..DevAgentConfig::default()
    });
    let agent = Arc::new(ToAgent(agent));
    let mut config = ConsulConfig::new("agent.test", 8500);
    (config.lane, config.seed, config.settling) = (Lane::Inline, Some(1), Duration::ZERO);
    let process = Consul::with_dial(config, agent.clone()).unwrap();
    (agent, asked, process)
}

/// The pauses between requests of this path.
fn pauses(asked: &Asked, path: &str) -> Vec<Duration> {
    let asked = asked.lock().unwrap();
    let times: Vec<_> = asked.iter().filter(|(_, target)| target.contains(path)).collect();
    times.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
}

/// 43: heartbeats, maintenance and the end are put off by 429 and 503 too, for as long as the time to live and the bound
/// of the end allow.
#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_kept_by_heartbeats_maintenance_and_the_end() {
    for (status, retry_after) in [(429, None), (503, None), (429, Some(5 * SECOND))] {
        let (agent, asked, process) = observed();
        let registration = Registration::new(service(), "127.0.0.1", 9000).unwrap();
        let lease = process.register(registration, OnUnavailable::Fail).await.unwrap();
        agent.0.faults().fail(Some(Failure {
            calls: Calls::All,
            status,
            text: String::new(),
            retry_after,
        }));
        let least = retry_after.unwrap_or(SECOND);
        asked.lock().unwrap().clear();
        sleep(25 * SECOND).await;
        let beats = pauses(&asked, "/check/pass/");
        assert!(beats.len() >= 2, "{beats:?}");
        assert!(beats.iter().all(|pause| *pause >= least), "{beats:?}");
        asked.lock().unwrap().clear();
        assert!(!lease.drain(20 * SECOND).await);
        let maintenance = pauses(&asked, "/maintenance/");
        assert!(maintenance.len() >= 2, "{maintenance:?}");
        assert!(maintenance.iter().all(|pause| *pause >= least), "{maintenance:?}");
        asked.lock().unwrap().clear();
        lease.end(8 * SECOND).await.unwrap_err();
        let ends = pauses(&asked, "/deregister/");
        assert!(!ends.is_empty() && ends.len() <= 8, "{ends:?}");
        assert!(ends.iter().all(|pause| *pause >= SECOND), "{ends:?}");
        agent.0.faults().heal();
        // It goes on behind.
        let mut watch = process.watch(&service());
        until(&mut watch, |now| {
            now.freshness.is_live() && now.instances.is_empty()
        })
        .await;
    }
}

/// 47: with all of its connections in use by others the error says what to look for, and ends with the cause.
#[tokio::test]
async fn the_connection_too_many_is_told_with_a_hint() {
    let agent = DevAgent::start(DevAgentConfig {
        connection_cap: 3,
        ..DevAgentConfig::default()
    });
    let agent = agent.await.unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(agent.addr()).await.unwrap());
    }
    // The fourth is closed at once: the others were counted.
    let mut fourth = TcpStream::connect(agent.addr()).await.unwrap();
    let closed = timeout(10 * SECOND, fourth.read(&mut [0; 1])).await;
    assert!(!matches!(closed.unwrap(), Ok(1..)));
    let config = ConsulConfig::new(agent.addr().ip().to_string(), agent.addr().port());
    let process = Consul::new(config).unwrap();
    let mut watch = process.watch(&service());
    let is_pending = |now: &Snapshot| matches!(now.freshness, Freshness::Pending { error: Some(_) });
    until(&mut watch, is_pending).await;
    let Freshness::Pending { error: Some(error) } = &watch.latest().freshness else {
        panic!("{:?}", watch.latest());
    };
    assert!(error.to_string().contains("http_max_conns_per_client"), "{error}");
    assert!(error.source().is_some(), "the system's words are behind it");
    drop(held);
    until(&mut watch, |now| now.freshness.is_live()).await;
    drop(watch);
    sleep(Duration::from_millis(1)).await;
    agent.stop().await;
}
