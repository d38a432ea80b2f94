//! An agent that does what a test says, byte by byte, over in-memory pipes: the test takes each request and decides
//! what comes back, if anything. With a paused clock a dialogue of hours takes milliseconds.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use picom_discovery::consul::{ByteStream, Consul, ConsulConfig, Dial};
use picom_discovery::{Lane, ServiceName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// The test's side.
pub(crate) struct Script {
    network: Arc<Network>,
    exchanges: mpsc::UnboundedReceiver<Exchange>,
}

/// One request that waits for its answer. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
    pub(crate) at: Instant,
    answer: oneshot::Sender<Vec<u8>>,
}

#[derive(Debug)]
struct Network {
    exchanges: mpsc::UnboundedSender<Exchange>,
    refuses: AtomicBool,
    opened: AtomicUsize,
    open: Arc<AtomicUsize>,
}

#[async_trait]
impl Dial for Network {
    async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        let number = self.opened.fetch_add(1, Ordering::SeqCst);
        if self.refuses.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = tokio::io::duplex(256 << 10);
        self.open.fetch_add(1, Ordering::SeqCst);
        let (exchanges, open) = (self.exchanges.clone(), self.open.clone());
        tokio::spawn(async move {
            serve(ours, number, exchanges).await;
            open.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(Box::new(theirs))
    }
}

impl Script {
    /// The agent, and a client of it with everything on the test's runtime.
    pub(crate) fn new(change: impl FnOnce(&mut ConsulConfig)) -> (Self, Consul) {
        let (sender, exchanges) = mpsc::unbounded_channel();
        let network = Arc::new(Network {
            exchanges: sender,
            refuses: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            open: Arc::default(),
        });
        let mut config = ConsulConfig::new("agent.test", 8500);
        config.lane = Lane::Inline;
        // What heartbeats say while a registration is new is tested where they are decided.
        config.settling = std::time::Duration::ZERO;
        config.seed = Some(7);
        change(&mut config);
        let consul = Consul::with_dial(config, network.clone()).unwrap();
        (Self { network, exchanges }, consul)
    }

    /// The next request, whenever it comes.
    pub(crate) async fn next(&mut self) -> Exchange {
        let day = Duration::from_secs(24 * 3600);
        tokio::time::timeout(day, self.exchanges.recv())
            .await
            .expect("no request came in a day")
            .unwrap()
    }

    /// The next request if it comes within this time.
    pub(crate) async fn next_within(&mut self, time: Duration) -> Option<Exchange> {
        tokio::time::timeout(time, self.exchanges.recv())
            .await
            .ok()
            .flatten()
    }

    /// From now on nobody listens (or someone does again). Open connections stay.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.network.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.network.open.load(Ordering::SeqCst)
    }

    /// Dials so far, refused ones too.
    pub(crate) fn dials(&self) -> usize {
        self.network.opened.load(Ordering::SeqCst)
    }
}

impl Exchange {
    /// Answers 200 as an agent does, with an index.
    pub(crate) fn read(self, index: u64, body: &str) {
        self.respond(
            200,
            &[
                ("X-Consul-Index", &index.to_string()),
                ("X-Consul-Knownleader", "true"),
            ],
            body,
        );
    }

    /// Answers 200 without a body.
    pub(crate) fn done(self) {
        self.respond(200, &[], "");
    }

    /// Answers with this status and text; errors carry the index 1, as Consul's do.
    pub(crate) fn fail(self, status: u16, text: &str) {
        self.respond(
            status,
            &[("X-Consul-Index", "1"), ("X-Consul-Knownleader", "false")],
            text,
        );
    }

    pub(crate) fn respond(self, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let length = body.len();
        self.raw(
            format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}").as_bytes(),
        );
    }

    /// Answers with these bytes.
    pub(crate) fn raw(self, bytes: &[u8]) {
        // The client may have given up.
        let _ = self.answer.send(bytes.to_vec());
    }

    /// Waits until the client has closed the connection.
    pub(crate) async fn given_up(mut self) {
        self.answer.closed().await;
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// A query parameter; empty for a flag.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|part| match part.split_once('=') {
            Some((key, value)) if key == name => Some(value),
            None if part == name => Some(""),
            _ => None,
        })
    }

    /// "METHOD path", without the query.
    pub(crate) fn what(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// Takes requests off one connection until it is closed by either side.
async fn serve(mut stream: DuplexStream, number: usize, exchanges: mpsc::UnboundedSender<Exchange>) {
    let mut buffer = Vec::new();
    loop {
        let Some((head, body)) = request(&mut stream, &mut buffer).await else {
            return;
        };
        let mut lines = head.lines();
        let mut first = lines.next().unwrap_or_default().split(' ');
        let method = first.next().unwrap_or_default().to_owned();
        let target = first.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = lines.filter_map(|line| line.split_once(": "));
        let (answer, mut told) = oneshot::channel();
        let exchange = Exchange {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            headers: headers
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            body,
            connection: number,
            at: Instant::now(),
            answer,
        };
        if exchanges.send(exchange).is_err() {
            return;
        }
        let mut more = [0; 1];
        tokio::select! {
            answer = &mut told => {
                let Ok(bytes) = answer else { return };
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            // Nothing is pipelined: whatever comes is the end.
            _ = stream.read(&mut more) => return,
        }
    }
}

async fn request(stream: &mut DuplexStream, buffer: &mut Vec<u8>) -> Option<(String, String)> {
    loop {
        let text = String::from_utf8(buffer.clone()).unwrap();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")
                    .map(|length| length.parse().unwrap())
            });
            let length: usize = length.unwrap_or(0);
            if rest.len() >= length {
                let body = rest[..length].to_owned();
                *buffer = rest.as_bytes()[length..].to_vec();
                return Some((head.to_owned(), body));
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

pub(crate) fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

/// A health answer with passing instances `svc-<port>` at these ports.
pub(crate) fn entries(ports: &[u16]) -> String {
    let list: Vec<_> = ports.iter().map(|port| entry(*port, "passing")).collect();
    format!("[{}]", list.join(","))
}

/// One entry of a health answer.
pub(crate) fn entry(port: u16, status: &str) -> String {
    format!(
        r#"{{"Node": {{"Node": "n", "Address": "10.0.0.1", "Meta": null}}, "Service": {{"ID": "svc-{port}",
        "Service": "svc", "Tags": null, "Address": "", "Port": {port}, "CreateIndex": {port}}}, "Checks":
        [{{"CheckID": "serfHealth", "Status": "passing"}}, {{"CheckID": "service:svc-{port}", "Status": "{status}"}}]}}"#
    )
}
