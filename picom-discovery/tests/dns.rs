//! DNS as a source, against a name server of our own on loopback that answers what a test says.
#![cfg(feature = "dns")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use picom_discovery::{Discovery, Dns, DnsError, Freshness, ServiceName, Snapshot, Watch};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(20);
const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

/// What it answers to questions of one type: records, or a code that says why not.
#[derive(Debug, Clone)]
enum Reply {
    Records(Vec<(u16, u32, Vec<u8>)>),
    Code(u8),
}

/// A name server with one name.
struct Server {
    address: SocketAddr,
    reply: Arc<Mutex<Reply>>,
    asked: Arc<Mutex<u32>>,
}

impl Server {
    async fn new(reply: Reply) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = Self {
            address: socket.local_addr().unwrap(),
            reply: Arc::new(Mutex::new(reply)),
            asked: Arc::default(),
        };
        let (reply, asked) = (server.reply.clone(), server.asked.clone());
        tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut question).await {
                *asked.lock().unwrap() += 1;
                let answer = answer(&question[..length], &reply.lock().unwrap());
                let _ = socket.send_to(&answer, peer).await;
            }
        });
        server
    }

    fn set(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }
}

/// An answer by RFC 1035: the question repeated, and the records of the type it asked for.
fn answer(question: &[u8], reply: &Reply) -> Vec<u8> {
    let name_end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let kind = u16::from_be_bytes([question[name_end], question[name_end + 1]]);
    let (code, records) = match reply {
        Reply::Code(code) => (*code, Vec::new()),
        Reply::Records(records) => (0, records.iter().filter(|(of, ..)| *of == kind).collect()),
    };
    let mut answer = question[..2].to_vec();
    answer.extend([0x84, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    answer.extend(&question[12..name_end + 4]);
    for (of, ttl, data) in records {
        answer.extend([0xc0, 12]);
        answer.extend(of.to_be_bytes());
        answer.extend([0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend((data.len() as u16).to_be_bytes());
        answer.extend(data);
    }
    answer
}

fn a(ttl: u32, last: u8) -> (u16, u32, Vec<u8>) {
    (A, ttl, vec![10, 0, 0, last])
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> (u16, u32, Vec<u8>) {
    let mut data = Vec::new();
    for number in [priority, weight, port] {
        data.extend(number.to_be_bytes());
    }
    for label in target.split('.').filter(|label| !label.is_empty()) {
        data.push(label.len() as u8);
        data.extend(label.as_bytes());
    }
    data.push(0);
    (SRV, 1, data)
}

fn name() -> ServiceName {
    ServiceName::new("svc").unwrap()
}

fn authorities(snapshot: &Snapshot) -> Vec<String> {
    snapshot.usable().map(|one| one.authority()).collect()
}

async fn next(watch: &mut Watch) -> Arc<Snapshot> {
    timeout(PATIENCE, watch.changed()).await.unwrap()
}

#[tokio::test]
async fn addresses_of_both_kinds_are_seen_and_asked_for_again_at_their_ttl() {
    let six = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7].to_vec();
    let server = Server::new(Reply::Records(vec![a(1, 2), a(1, 1), (AAAA, 60, six)])).await;
    let dns = Dns::server(server.address)
        .unwrap()
        .with_host(name(), "db.example", 9000)
        .unwrap();
    let mut watch = dns.watch(&name());
    let first = timeout(PATIENCE, watch.ready()).await.unwrap();
    assert_eq!(
        authorities(&first),
        ["10.0.0.1:9000", "10.0.0.2:9000", "[2001:db8::7]:9000"]
    );
    assert!(first.instances.iter().all(|one| one.native_version() == Some(1)));
    let begun = Instant::now();
    server.set(Reply::Records(vec![a(60, 1), a(60, 3)]));
    let second = next(&mut watch).await;
    assert_eq!(authorities(&second), ["10.0.0.1:9000", "10.0.0.3:9000"]);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(Arc::ptr_eq(&second.instances[0], &first.instances[0]));
    // A minute was asked for: nobody asks before.
    let asked = *server.asked.lock().unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(*server.asked.lock().unwrap(), asked);
}

#[tokio::test]
async fn targets_of_an_srv_name_have_ports_and_weights() {
    let records = vec![
        srv(1, 5, 9001, "a.example"),
        srv(1, 0, 9002, "b.example"),
        srv(2, 9, 9003, "spare.example"),
        srv(1, 1, 0, "none.example"),
        srv(1, 1, 9004, "."),
    ];
    let server = Server::new(Reply::Records(records)).await;
    let dns = Dns::server(server.address)
        .unwrap()
        .with_srv(name(), "_svc._tcp.example")
        .unwrap();
    let snapshot = timeout(PATIENCE, dns.watch(&name()).ready()).await.unwrap();
    assert_eq!(authorities(&snapshot), ["a.example:9001", "b.example:9002"]);
    let weights: Vec<_> = snapshot.instances.iter().map(|one| one.weight).collect();
    assert_eq!(weights, [5, 1]);
}

#[tokio::test]
async fn an_error_keeps_what_is_known_and_a_name_that_is_gone_empties_it() {
    let server = Server::new(Reply::Records(vec![a(1, 1)])).await;
    let dns = Dns::server(server.address)
        .unwrap()
        .with_host(name(), "db.example", 9000)
        .unwrap();
    let mut watch = dns.watch(&name());
    timeout(PATIENCE, watch.ready()).await.unwrap();
    // SERVFAIL.
    server.set(Reply::Code(2));
    let failing = next(&mut watch).await;
    assert!(
        matches!(failing.freshness, Freshness::Stale { .. }),
        "{failing:?}"
    );
    assert_eq!(authorities(&failing), ["10.0.0.1:9000"]);
    server.set(Reply::Records(vec![a(1, 1)]));
    assert!(next(&mut watch).await.freshness.is_live());
    // NXDOMAIN.
    server.set(Reply::Code(3));
    let gone = next(&mut watch).await;
    assert!(gone.freshness.is_live() && gone.instances.is_empty());
}

#[tokio::test]
async fn a_service_that_is_not_listed_is_live_and_empty_and_bad_names_are_refused() {
    let server = Server::new(Reply::Code(3)).await;
    let dns = Dns::server(server.address).unwrap();
    assert!(dns.watch(&name()).latest().freshness.is_live());
    for (host, port) in [("", 1), ("a b", 1), ("db.example", 0)] {
        let error = dns.clone().with_host(name(), host, port).unwrap_err();
        assert!(matches!(error, DnsError::Name { .. }), "{error}");
    }
    assert_eq!(*server.asked.lock().unwrap(), 0);
}

#[tokio::test]
async fn nobody_asks_after_the_last_watch_and_two_share_a_question() {
    let server = Server::new(Reply::Records(vec![srv(1, 1, 9001, "a.example")])).await;
    let dns = Dns::server(server.address)
        .unwrap()
        .with_srv(name(), "_svc._tcp.example")
        .unwrap();
    let (mut first, mut second) = (dns.watch(&name()), dns.watch(&name()));
    for watch in [&mut first, &mut second] {
        timeout(PATIENCE, watch.ready()).await.unwrap();
    }
    assert_eq!(*server.asked.lock().unwrap(), 1);
    drop((first, second));
    // It would be asked for again after a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(*server.asked.lock().unwrap(), 1);
}
