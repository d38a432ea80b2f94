//! DNS as a subject: a name server of our own on loopback, which answers questions for one SRV name with everybody there
//! is, to be asked again after a second.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use picom_discovery::consul::ConsulConfig;
use picom_discovery::{Discovery, Dns};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::http::Api;
use crate::meter::Meter;
use crate::subject::{Entry, Kind, Subject, Word, service};

/// The type of the records, by RFC 2782.
const SRV: u16 = 33;
/// By RFC 1035.
const SOA: u8 = 6;
/// "I cannot": what a name server says that has lost its own source.
const SERVFAIL: u8 = 2;
/// The name that is asked for.
const NAME: &str = "_svc._tcp.example";

/// A name server, and whom it knows.
#[derive(Debug)]
pub struct Named {
    address: SocketAddr,
    known: Arc<Mutex<Known>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Known {
    entries: BTreeMap<String, Entry>,
    fails: bool,
}

impl Named {
    /// A new one that knows nobody.
    ///
    /// # Panics
    /// When there is no port for it.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let known: Arc<Mutex<Known>> = Arc::default();
        let answers = known.clone();
        let task = tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut question).await {
                let answer = answer(&question[..length], &answers);
                let _ = socket.send_to(&answer, peer).await;
            }
        });
        Self { address, known, task }
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer by RFC 1035: the question repeated, and a record for each entry.
fn answer(question: &[u8], known: &Mutex<Known>) -> Vec<u8> {
    let known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let name_end = 12
        + question[12..]
            .iter()
            .position(|byte| *byte == 0)
            .expect("a name ends")
        + 1;
    let kind = u16::from_be_bytes([question[name_end], question[name_end + 1]]);
    let entries: Vec<&Entry> = match kind {
        SRV if !known.fails => known.entries.values().collect(),
        _ => Vec::new(),
    };
    let code = if known.fails { SERVFAIL } else { 0 };
    let count = u8::try_from(entries.len()).expect("tests have few entries");
    let mut answer = question[..2].to_vec();
    let says_nobody = entries.is_empty() && !known.fails;
    answer.extend([0x84, 0x80 | code, 0, 1, 0, count, 0, u8::from(says_nobody), 0, 0]);
    answer.extend(&question[12..name_end + 4]);
    if says_nobody {
        // A start of authority, by whose last number that holds for a second (RFC 2308); its names are the root.
        answer.extend([0xc0, 12, 0, SOA, 0, 1, 0, 0, 0, 1, 0, 22, 0, 0]);
        answer.extend([0; 16]);
        answer.extend([0, 0, 0, 1]);
    }
    for entry in entries {
        let port = u16::try_from(entry.port).expect("tests of names have ports");
        let mut data = [0, 1, 0, 1].to_vec();
        data.extend(port.to_be_bytes());
        for label in entry.host.split('.') {
            data.push(u8::try_from(label.len()).expect("labels are short"));
            data.extend(label.as_bytes());
        }
        data.push(0);
        // The name of the question, its type and class, and a second to live.
        answer.extend([0xc0, 12]);
        answer.extend(SRV.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 1]);
        answer.extend(u16::try_from(data.len()).expect("names are short").to_be_bytes());
        answer.extend(data);
    }
    answer
}

#[async_trait]
impl Subject for Named {
    fn kind(&self) -> Kind {
        Kind::Dns
    }

    fn process(&self) -> Arc<dyn Discovery> {
        let dns = Dns::server(self.address).and_then(|dns| dns.with_srv(service(), NAME));
        Arc::new(dns.expect("a name in order"))
    }

    fn process_with(&self, _: &dyn Fn(&mut ConsulConfig)) -> Arc<dyn Discovery> {
        panic!("names have no settings")
    }

    async fn put(&self, entry: &Entry) {
        self.change(|known| drop(known.entries.insert(entry.id.clone(), entry.clone())));
    }

    /// There are no checks: what is answered stays what it was.
    async fn say(&self, _: &str, _: Word) {}

    async fn take(&self, id: &str) {
        self.change(|known| drop(known.entries.remove(id)));
    }

    async fn forget(&self) {
        self.change(|known| known.entries.clear());
    }

    async fn leave(&self) {
        self.change(|known| known.fails = true);
    }

    async fn come_back(&self) {
        self.change(|known| known.fails = false);
    }

    async fn hang(&self) {
        panic!("no behaviour of names needs that")
    }

    async fn go_on(&self) {
        panic!("no behaviour of names needs that")
    }

    async fn pass_time(&self, time: Duration) {
        sleep(time).await;
    }

    fn api(&self) -> Option<&Api> {
        None
    }

    fn meter(&self) -> Option<&Meter> {
        None
    }
}
