//! Behaviours that the dev agent has to be told to show: a refusal, and a limit of connections.

use std::error::Error as _;
use std::time::Duration;

use picom_conformance::{Dev, Entry, Subject, service};
use picom_discovery::consul::{Consul, ConsulConfig};
use picom_discovery::dev_agent::{Calls, Compat, DevAgent, DevAgentConfig, Failure};
use picom_discovery::{Discovery, DiscoveryError, Freshness, OnUnavailable, RegisterError, Snapshot, Watch};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

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
