//! Behaviours 22, 25, 41, 42 and 47, of a real Consul only: its files, its signals, its ACLs, its limits.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use picom_discovery::consul::{Consul, ConsulConfig, Token};
use picom_discovery::{
    Discovery, DiscoveryError, Freshness, LeaseState, OnUnavailable, RegisterError, Snapshot,
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::{SECOND, announce, api, watched};
use crate::consul::RealConsul;
use crate::sight::{throughout, until, usable};
use crate::subject::{Entry, Subject, Word, service};

/// 22: an agent that comes back with its memory needs nothing from us, and what we do does no harm.
pub async fn an_agent_that_remembers_needs_nothing(consul: &RealConsul) {
    let mut watch = watched(consul).await;
    let process = consul.process();
    let longer = consul.registration(9000).with_ttl(30 * SECOND).unwrap();
    let lease = announce(&process, longer).await;
    until(&mut watch, 2 * SECOND, |now| usable(now) == [9000]).await;
    // Written to its files a moment after it is answered.
    tokio::time::sleep(SECOND).await;
    consul.leave().await;
    consul.come_back().await;
    until(&mut watch, 15 * SECOND, |now| now.freshness.is_live()).await;
    throughout(&mut watch, 12 * SECOND, |now| usable(now) == [9000]).await;
    assert!(
        matches!(lease.state(), LeaseState::Passing),
        "{:?}",
        lease.state()
    );
    lease.end(5 * SECOND).await.unwrap();
}

/// 25: an agent that is ended in order answers the blocked query with what it had; nobody sees the set change.
pub async fn an_agent_that_ends_in_order_causes_no_false_news(consul: &RealConsul) {
    let mut watch = watched(consul).await;
    consul
        .put(&Entry {
            ttl: 60 * SECOND,
            ..Entry::new(consul, "a", 9000)
        })
        .await;
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
    consul.terminate();
    throughout(&mut watch, 4 * SECOND, |now| usable(now) == [9000]).await;
    consul.ended().await;
    until(&mut watch, 4 * SECOND, |now| {
        matches!(now.freshness, Freshness::Stale { .. })
    })
    .await;
    throughout(&mut watch, SECOND, |now| usable(now) == [9000]).await;
}

/// 41: a token nobody knows is an error, here and there; it empties nothing.
pub async fn a_token_nobody_knows_is_an_error(consul: &RealConsul) {
    let path = std::env::temp_dir().join(format!("picom-unknown-token-{}", consul.address().port()));
    fs::write(&path, "11111111-2222-3333-4444-555555555555").unwrap();
    let process = with_token_file(consul, &path);
    let mut watch = process.watch(&service());
    let denied = |now: &Snapshot| match &now.freshness {
        Freshness::Pending { error: Some(error) } => matches!(**error, DiscoveryError::Denied { .. }),
        _ => false,
    };
    until(&mut watch, 5 * SECOND, denied).await;
    let refused = process
        .register(consul.registration(9000), OnUnavailable::Fail)
        .await;
    let Err(RegisterError::Unavailable { source, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(matches!(*source, DiscoveryError::Denied { .. }), "{source}");
    fs::remove_file(&path).unwrap();
}

/// 42: a token file that changes is used by the next requests, and the registrations are made again with it; what drains
/// is not usable meanwhile.
pub async fn a_changed_token_file_is_used_and_renews_the_registration(consul: &RealConsul) {
    let path = std::env::temp_dir().join(format!("picom-token-{}", consul.address().port()));
    let (first, accessor) = new_token(consul).await;
    fs::write(&path, &first).unwrap();
    let process = with_token_file(consul, &path);
    let made = |port| consul.registration(port).with_ttl(6 * SECOND).unwrap();
    let lease = announce(&process, made(9000)).await;
    let drains = announce(&process, made(9001)).await;
    assert!(drains.drain(5 * SECOND).await);
    let mut watch = process.watch(&service());
    until(&mut watch, 5 * SECOND, |now| {
        usable(now) == [9000] && now.instances.len() == 2
    })
    .await;
    let (second, _) = new_token(consul).await;
    fs::write(&path, &second).unwrap();
    // The old one is no good any more: who still used it would be refused.
    let gone = api(consul)
        .call("DELETE", &format!("/acl/token/{accessor}"), None)
        .await;
    assert_eq!(gone.status, 200, "{}", gone.text);
    throughout(&mut watch, 10 * SECOND, |now| usable(now) == [9000]).await;
    assert!(
        matches!(lease.state(), LeaseState::Passing),
        "{:?}",
        lease.state()
    );
    // Nobody is told which token the agent holds for a registration, but only with a good one can it tell the servers
    // what somebody else says of the check. Our next heartbeat may come at once, so it is said again.
    let mut told = false;
    for _ in 0..5 {
        consul.say(lease.id(), Word::Fail).await;
        let waiting = async {
            while !usable(&watch.latest()).is_empty() {
                watch.changed().await;
            }
        };
        told = tokio::time::timeout(2 * SECOND, waiting).await.is_ok();
        if told {
            break;
        }
    }
    assert!(told, "the agent still holds the token of before");
    // Our next heartbeat makes it pass again. Only then somebody else, whom nobody keeps up, is put beside it.
    until(&mut watch, 10 * SECOND, |now| usable(now) == [9000]).await;
    consul.put(&Entry::new(consul, "b", 9002)).await;
    until(&mut watch, 5 * SECOND, |now| usable(now) == [9000, 9002]).await;
    drains.end(5 * SECOND).await.unwrap();
    lease.end(5 * SECOND).await.unwrap();
    fs::remove_file(&path).unwrap();
}

/// A process with a token of its own.
fn with_token_file(consul: &RealConsul, path: &std::path::Path) -> Arc<dyn Discovery> {
    let mut config = ConsulConfig::new(consul.address().ip().to_string(), consul.address().port());
    config.token = Token::File {
        path: path.to_owned(),
        fallback: None,
    };
    // Heartbeats by their time to live, so that what others say of a check stays for a moment.
    config.settling = Duration::ZERO;
    Arc::new(Consul::new(config).expect("a configuration in order"))
}

/// A token with the policy the documentation tells operators to use, and its accessor.
async fn new_token(consul: &RealConsul) -> (String, String) {
    let rules = r#"service "svc" { policy = "write" } service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;
    let policy = json!({"Name": "picom", "Rules": rules});
    // The second time it is there already.
    api(consul).call("PUT", "/acl/policy", Some(&policy)).await;
    let token = api(consul)
        .put("/acl/token", Some(&json!({"Policies": [{"Name": "picom"}]})))
        .await
        .json();
    let text = |key: &str| {
        token
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    (text("SecretID"), text("AccessorID"))
}

/// 45: the agent is reached over TLS with a client certificate, which it insists on, and over a unix socket.
pub async fn tls_and_unix_sockets_reach_the_agent(consul: &RealConsul) {
    let ways = consul.ways();
    let mut tls = ConsulConfig::at(&format!("https://127.0.0.1:{}", ways.https)).unwrap();
    tls.tls.ca_file = Some(ways.file("consul-agent-ca.pem"));
    let without = Consul::new(tls.clone()).unwrap();
    let mut watch = without.watch(&service());
    let names = |now: &Snapshot, setting: &str| match &now.freshness {
        Freshness::Pending { error: Some(error) } => error.to_string().contains(setting),
        _ => false,
    };
    until(&mut watch, 5 * SECOND, |now| names(now, "CONSUL_CLIENT_CERT")).await;
    tls.tls.client_cert = Some(ways.file("dc1-client-consul-0.pem"));
    tls.tls.client_key = Some(ways.file("dc1-client-consul-0-key.pem"));
    let mut named = tls.clone();
    named.tls.server_name = Some("server.dc1.consul".to_owned());
    let mut misnamed = tls.clone();
    misnamed.tls.server_name = Some("other.example".to_owned());
    let mut watch = Consul::new(misnamed.clone()).unwrap().watch(&service());
    until(&mut watch, 5 * SECOND, |now| names(now, "CONSUL_TLS_SERVER_NAME")).await;
    misnamed.tls.verify = false;
    let socket = ConsulConfig::at(&format!("unix://{}", ways.file("http.sock").display())).unwrap();
    for (port, config) in (9000..).zip([tls, named, misnamed, socket]) {
        let process: Arc<dyn Discovery> = Arc::new(Consul::new(config).unwrap());
        let lease = announce(&process, consul.registration(port)).await;
        let mut watch = process.watch(&service());
        until(&mut watch, 5 * SECOND, |now| usable(now) == [port]).await;
        lease.end(5 * SECOND).await.unwrap();
    }
}

/// 47: with all of Consul's connections in use by others the error says what to look for, and ends with the cause.
pub async fn the_connection_too_many_is_told_with_a_hint(consul: &RealConsul) {
    let mut held = Vec::new();
    loop {
        let mut stream = TcpStream::connect(consul.address()).await.unwrap();
        // A connection that is refused is closed at once; one that is taken waits for a request.
        let closed = tokio::time::timeout(SECOND / 20, stream.read(&mut [0; 1])).await;
        if closed.is_ok() {
            break;
        }
        held.push(stream);
        assert!(held.len() <= 200, "Consul takes more than its limit");
    }
    let process = consul.process();
    let mut watch = process.watch(&service());
    let failing =
        |now: &picom_discovery::Snapshot| matches!(now.freshness, Freshness::Pending { error: Some(_) });
    until(&mut watch, 5 * SECOND, failing).await;
    let Freshness::Pending { error: Some(error) } = &watch.latest().freshness else {
        panic!("{:?}", watch.latest());
    };
    assert!(error.to_string().contains("http_max_conns_per_client"), "{error}");
    drop(held);
    until(&mut watch, 15 * SECOND, |now| now.freshness.is_live()).await;
    consul.put(&Entry::new(consul, "a", 9000)).await;
    until(&mut watch, SECOND, |now| usable(now) == [9000]).await;
}
