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
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// One record. Its name is that of the question unless it has one of its own.
#[derive(Debug, Clone)]
struct Record {
    owner: Option<&'static str>,
    kind: u16,
    ttl: u32,
    data: Vec<u8>,
}

/// What it answers to a question.
#[derive(Debug, Clone)]
enum Reply {
    /// The records of the type that is asked for, and aliases.
    Records(Vec<Record>),
    /// The records of the type that is asked for, and these besides.
    With(Vec<Record>, Vec<Record>),
    /// A code that says why not.
    Code(u8),
    /// Nothing: the packet is lost.
    Silence,
    /// The first of these whose name and type are asked for; 0 is every type. To other names there is no such name.
    Of(Vec<(&'static str, u16, Reply)>),
}

/// A name server.
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
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, peer).await;
                }
            }
        });
        server
    }

    fn set(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }

    /// A source that asks it for the addresses of `db.example`.
    fn host(&self) -> Dns {
        let dns = Dns::server(self.address).unwrap();
        dns.with_host(name(), "db.example", 9000).unwrap()
    }

    /// A source that asks it for the targets of `_svc._tcp.example`.
    fn srv(&self) -> Dns {
        let dns = Dns::server(self.address).unwrap();
        dns.with_srv(name(), "_svc._tcp.example").unwrap()
    }
}

/// An answer by RFC 1035: the question repeated, and the records.
fn answer(question: &[u8], reply: &Reply) -> Option<Vec<u8>> {
    let name_end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let kind = u16::from_be_bytes([question[name_end], question[name_end + 1]]);
    let mut reply = reply;
    if let Reply::Of(table) = reply {
        let asked = |name: &str| question[12..name_end].eq_ignore_ascii_case(&labels(name));
        let found = table
            .iter()
            .find(|(name, of, _)| asked(name) && (*of == 0 || *of == kind));
        reply = found.map_or(&Reply::Code(NXDOMAIN), |(.., reply)| reply);
    }
    let (code, records, besides) = match reply {
        Reply::Code(code) => (*code, &[][..], &[][..]),
        Reply::Records(records) => (0, &records[..], &[][..]),
        Reply::With(records, besides) => (0, &records[..], &besides[..]),
        Reply::Silence | Reply::Of(_) => return None,
    };
    let records = records.iter().filter(|one| one.kind == kind || one.kind == CNAME);
    let records: Vec<_> = records.collect();
    let mut answer = question[..2].to_vec();
    let counts = [records.len() as u8, besides.len() as u8];
    answer.extend([0x84, 0x80 | code, 0, 1, 0, counts[0], 0, 0, 0, counts[1]]);
    answer.extend(&question[12..name_end + 4]);
    for record in records.into_iter().chain(besides) {
        match record.owner {
            Some(owner) => answer.extend(labels(owner)),
            None => answer.extend([0xc0, 12]),
        }
        answer.extend(record.kind.to_be_bytes());
        answer.extend([0, 1]);
        answer.extend(record.ttl.to_be_bytes());
        answer.extend((record.data.len() as u16).to_be_bytes());
        answer.extend(&record.data);
    }
    Some(answer)
}

fn labels(name: &str) -> Vec<u8> {
    let mut data = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        data.push(label.len() as u8);
        data.extend(label.as_bytes());
    }
    data.push(0);
    data
}

fn record(kind: u16, ttl: u32, data: Vec<u8>) -> Record {
    Record {
        owner: None,
        kind,
        ttl,
        data,
    }
}

fn a(ttl: u32, last: u8) -> Record {
    record(A, ttl, vec![10, 0, 0, last])
}

/// An address from the same network as `authorities` prints them: `2001:db8::last`.
fn aaaa(ttl: u32, last: u8) -> Record {
    let data = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    record(AAAA, ttl, data.to_vec())
}

fn of(owner: &'static str, record: Record) -> Record {
    Record {
        owner: Some(owner),
        ..record
    }
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Record {
    let mut data = Vec::new();
    for number in [priority, weight, port] {
        data.extend(number.to_be_bytes());
    }
    data.extend(labels(target));
    record(SRV, 1, data)
}

fn name() -> ServiceName {
    ServiceName::new("svc").unwrap()
}

fn authorities(snapshot: &Arc<Snapshot>) -> Vec<String> {
    snapshot.usable().map(|one| one.authority()).collect()
}

async fn next(watch: &mut Watch) -> Arc<Snapshot> {
    timeout(PATIENCE, watch.changed()).await.unwrap()
}

async fn ready(watch: &mut Watch) -> Arc<Snapshot> {
    timeout(PATIENCE, watch.ready()).await.unwrap()
}

fn is_stale(now: &Snapshot) -> bool {
    matches!(now.freshness, Freshness::Stale { .. })
}

#[tokio::test]
async fn addresses_of_both_kinds_are_seen_and_asked_for_again_at_their_ttl() {
    let server = Server::new(Reply::Records(vec![a(1, 2), a(1, 1), aaaa(60, 7)])).await;
    let mut watch = server.host().watch(&name());
    let first = ready(&mut watch).await;
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
    let asked = server.asked();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(server.asked(), asked);
}

#[tokio::test]
async fn an_alias_is_asked_for_again_at_its_own_ttl() {
    let alias = |target: &str| record(CNAME, 1, labels(target));
    let server = Server::new(Reply::Of(vec![
        (
            "db.example",
            A,
            Reply::Records(vec![alias("one.example"), of("one.example", a(600, 1))]),
        ),
        ("db.example", AAAA, Reply::Records(vec![])),
    ]))
    .await;
    let mut watch = server.host().watch(&name());
    assert_eq!(authorities(&ready(&mut watch).await), ["10.0.0.1:9000"]);
    // Now it points elsewhere, and the server leaves it to us to ask there.
    server.set(Reply::Of(vec![
        ("db.example", A, Reply::Records(vec![alias("two.example")])),
        ("db.example", AAAA, Reply::Records(vec![])),
        ("two.example", A, Reply::Records(vec![a(600, 2)])),
    ]));
    let begun = Instant::now();
    assert_eq!(authorities(&next(&mut watch).await), ["10.0.0.2:9000"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.set(Reply::Records(vec![a(600, 3)]));
    assert_eq!(authorities(&next(&mut watch).await), ["10.0.0.3:9000"]);
}

#[tokio::test]
async fn targets_of_an_srv_name_have_ports_and_weights() {
    let records = vec![
        srv(1, 5, 9001, "a.example"),
        srv(1, 0, 9002, "b.example"),
        srv(2, 9, 9003, "spare.example"),
        srv(1, 1, 0, "none.example"),
        srv(1, 1, 9004, "."),
        srv(1, 7, 9005, "gone.example"),
        srv(1, 9, 9006, "two.example"),
    ];
    let server = Server::new(Reply::Of(vec![
        ("_svc._tcp.example", SRV, Reply::Records(records)),
        ("a.example", 0, Reply::Records(vec![a(60, 1)])),
        ("b.example", 0, Reply::Records(vec![aaaa(60, 2)])),
        ("two.example", 0, Reply::Records(vec![a(60, 3), aaaa(60, 3)])),
    ]))
    .await;
    let snapshot = ready(&mut server.srv().watch(&name())).await;
    assert!(snapshot.freshness.is_live());
    assert_eq!(
        authorities(&snapshot),
        [
            "10.0.0.1:9001",
            "10.0.0.3:9006",
            "[2001:db8::2]:9002",
            "[2001:db8::3]:9006"
        ]
    );
    let weights: Vec<_> = snapshot.instances.iter().map(|one| one.weight).collect();
    assert_eq!(weights, [5, 4, 1, 4], "addresses of one target share its weight");
}

#[tokio::test]
async fn addresses_that_come_with_the_targets_are_not_asked_for() {
    let server = Server::new(Reply::With(
        vec![srv(1, 1, 9001, "n.node.dc1.consul")],
        vec![of("n.node.dc1.consul", a(60, 1)), of("else.example", a(60, 2))],
    ))
    .await;
    let snapshot = ready(&mut server.srv().watch(&name())).await;
    assert_eq!(authorities(&snapshot), ["10.0.0.1:9001"]);
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_target_that_cannot_be_asked_for_keeps_its_addresses_and_the_others_are_followed() {
    let table = |a_example: Reply, b_example: Reply| {
        Reply::Of(vec![
            (
                "_svc._tcp.example",
                SRV,
                Reply::Records(vec![srv(1, 1, 9001, "a.example"), srv(1, 1, 9002, "b.example")]),
            ),
            ("a.example", 0, a_example),
            ("b.example", 0, b_example),
        ])
    };
    let at = |last| Reply::Records(vec![a(1, last)]);
    let server = Server::new(table(at(1), Reply::Code(SERVFAIL))).await;
    let mut watch = server.srv().watch(&name());
    let first = next(&mut watch).await;
    assert!(is_stale(&first), "{first:?}");
    assert_eq!(authorities(&first), ["10.0.0.1:9001"]);
    server.set(table(at(1), at(2)));
    let both = next(&mut watch).await;
    assert!(both.freshness.is_live());
    assert_eq!(authorities(&both), ["10.0.0.1:9001", "10.0.0.2:9002"]);
    server.set(table(Reply::Code(SERVFAIL), at(3)));
    let kept = next(&mut watch).await;
    assert!(is_stale(&kept), "{kept:?}");
    assert_eq!(authorities(&kept), ["10.0.0.1:9001", "10.0.0.3:9002"]);
}

#[tokio::test]
async fn a_family_that_fails_keeps_its_addresses_and_is_told() {
    let four = |reply| {
        Reply::Of(vec![
            ("db.example", A, reply),
            ("db.example", AAAA, Reply::Records(vec![aaaa(1, 7)])),
        ])
    };
    let server = Server::new(four(Reply::Records(vec![a(1, 1)]))).await;
    let mut watch = server.host().watch(&name());
    assert_eq!(authorities(&ready(&mut watch).await).len(), 2);
    server.set(four(Reply::Code(SERVFAIL)));
    let failing = next(&mut watch).await;
    let Freshness::Stale { error, .. } = &failing.freshness else {
        panic!("{failing:?}");
    };
    let text = error.to_string();
    assert!(text.contains("db.example") && !text.contains("Consul"), "{text}");
    assert!(!text.contains("limits."), "{text}");
    assert_eq!(
        authorities(&failing),
        ["10.0.0.1:9000", "[2001:db8::7]:9000"],
        "an error changes nothing"
    );
    server.set(four(Reply::Records(vec![a(1, 2)])));
    let again = next(&mut watch).await;
    assert!(again.freshness.is_live());
    assert_eq!(authorities(&again), ["10.0.0.2:9000", "[2001:db8::7]:9000"]);
}

#[tokio::test]
async fn a_family_whose_packets_are_lost_holds_the_other_up_for_a_few_seconds_only() {
    let four = |last| {
        Reply::Of(vec![
            ("db.example", A, Reply::Records(vec![a(1, last)])),
            ("db.example", AAAA, Reply::Silence),
        ])
    };
    let server = Server::new(four(1)).await;
    let mut watch = server.host().watch(&name());
    let begun = Instant::now();
    let first = next(&mut watch).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert!(is_stale(&first), "{first:?}");
    assert_eq!(authorities(&first), ["10.0.0.1:9000"]);
    server.set(four(2));
    let begun = Instant::now();
    assert_eq!(authorities(&next(&mut watch).await), ["10.0.0.2:9000"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_error_keeps_what_is_known_and_a_name_that_is_gone_empties_it() {
    let server = Server::new(Reply::Records(vec![a(1, 1)])).await;
    let mut watch = server.host().watch(&name());
    ready(&mut watch).await;
    server.set(Reply::Code(SERVFAIL));
    let failing = next(&mut watch).await;
    assert!(is_stale(&failing), "{failing:?}");
    assert_eq!(authorities(&failing), ["10.0.0.1:9000"]);
    server.set(Reply::Records(vec![a(1, 1)]));
    assert!(next(&mut watch).await.freshness.is_live());
    server.set(Reply::Code(NXDOMAIN));
    let gone = next(&mut watch).await;
    assert!(gone.freshness.is_live() && gone.instances.is_empty());
}

#[tokio::test]
async fn a_service_that_is_not_listed_is_live_and_empty_and_bad_names_are_refused() {
    let server = Server::new(Reply::Code(NXDOMAIN)).await;
    let dns = Dns::server(server.address).unwrap();
    assert!(dns.watch(&name()).latest().freshness.is_live());
    for (host, port) in [("", 1), ("a b", 1), ("db.example", 0), ("0.0.0.0", 1)] {
        let error = dns.clone().with_host(name(), host, port).unwrap_err();
        assert!(matches!(error, DnsError::Name { .. }), "{error}");
    }
    let error = dns.with_srv(name(), "127.0.0.1").unwrap_err().to_string();
    assert!(error.contains("SRV"), "{error}");
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn an_address_is_taken_as_it_is() {
    let server = Server::new(Reply::Code(NXDOMAIN)).await;
    for (host, shown) in [("127.0.0.5", "127.0.0.5:9"), ("::1", "[::1]:9")] {
        let dns = Dns::server(server.address).unwrap();
        let dns = dns.with_host(name(), host, 9).unwrap();
        let snapshot = ready(&mut dns.watch(&name())).await;
        assert!(snapshot.freshness.is_live());
        assert_eq!(authorities(&snapshot), [shown]);
    }
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn nobody_asks_after_the_last_watch_and_two_share_a_question() {
    let server = Server::new(Reply::With(
        vec![srv(1, 1, 9001, "a.example")],
        vec![of("a.example", a(60, 1))],
    ))
    .await;
    let dns = server.srv();
    let (mut first, mut second) = (dns.watch(&name()), dns.watch(&name()));
    for watch in [&mut first, &mut second] {
        ready(watch).await;
    }
    assert_eq!(server.asked(), 1);
    drop((first, second));
    // It would be asked for again after a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(server.asked(), 1);
}
