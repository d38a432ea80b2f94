//! A real Consul as a subject: an agent of its own for every behaviour, on free loopback ports, ended with the value.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use picom_discovery::Discovery;
use picom_discovery::consul::{ByteStream, Consul, ConsulConfig, Dial, Secret, Token};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::http::Api;
use crate::meter::{Meter, Metered};
use crate::subject::{Entry, Kind, Subject, Word};

/// A development server answers within half a second; a loaded machine needs longer.
const READY: Duration = Duration::from_secs(30);
/// Between two looks at an agent that is coming up.
const REST: Duration = Duration::from_millis(50);

/// The other ways to an agent.
#[derive(Debug)]
pub(crate) struct Ways {
    /// The port of HTTPS.
    pub(crate) https: u16,
    dir: PathBuf,
}

impl Ways {
    /// A certificate, a key or a socket.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// One Consul.
#[derive(Debug)]
pub struct RealConsul {
    address: SocketAddr,
    arguments: Vec<String>,
    dir: PathBuf,
    child: Mutex<Option<Child>>,
    api: Api,
    dial: Arc<Metered>,
    token: Option<String>,
    https: u16,
}

#[derive(Debug)]
struct ToPort(SocketAddr);

#[async_trait]
impl Dial for ToPort {
    async fn dial(&self) -> io::Result<Box<dyn ByteStream>> {
        let stream = TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

impl RealConsul {
    /// A development server that keeps everything in memory.
    ///
    /// # Panics
    /// Without PICOM_TEST_CONSUL_BIN, and when it does not come up.
    pub async fn start() -> Self {
        Self::start_with(&["-dev"], "").await
    }

    /// One that keeps its state in a directory.
    pub async fn start_durable() -> Self {
        Self::start_with(
            &["-server", "-bootstrap-expect=1"],
            "performance { raft_multiplier = 1 }",
        )
        .await
    }

    /// A development server whose ACLs deny by default, and whose first token is [`token`](Self::token).
    pub async fn start_with_acls() -> Self {
        let hcl = "acl { enabled = true default_policy = \"deny\" enable_token_persistence = false }";
        let mut made = Self::start_with(&["-dev"], hcl).await;
        let token = loop {
            let answer = made.api.call("PUT", "/acl/bootstrap", None).await;
            if let Some(token) = answer.json()["SecretID"].as_str() {
                break token.to_owned();
            }
            sleep(REST).await;
        };
        made.api = made.api.with_token(&token);
        made.token = Some(token);
        made
    }

    /// A development server that listens on HTTPS and on a unix socket too, with certificates of Consul's own making;
    /// it insists on one of its clients.
    pub async fn start_with_tls() -> Self {
        Self::start_with(&["-dev"], "verify_incoming_https = true").await
    }

    /// How it is reached besides, after [`start_with_tls`](Self::start_with_tls).
    pub(crate) fn ways(&self) -> Ways {
        Ways {
            https: self.https,
            dir: self.dir.clone(),
        }
    }

    /// The token that may do everything, with ACLs.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Its HTTP API.
    pub fn plain_api(&self) -> &Api {
        &self.api
    }

    /// The name of its node.
    pub fn node(&self) -> String {
        format!("picom-{}", self.address.port())
    }

    /// Its version, without a distributor's suffix.
    pub async fn version(&self) -> String {
        let about = self.api.call("GET", "/agent/self", None).await.json();
        let version = about["Config"]["Version"].as_str().unwrap_or_default();
        version.split(['+', '-']).next().unwrap_or_default().to_owned()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its settings for a client.
    pub fn config(&self) -> ConsulConfig {
        let mut config = ConsulConfig::new(self.address.ip().to_string(), self.address.port());
        if let Some(token) = &self.token {
            config.token = Token::Value(Secret::new(token).expect("a token in order"));
        }
        config
    }

    /// Ends it as an operator does.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Waits until its process is gone.
    pub async fn ended(&self) {
        let gone = async {
            while self.is_running() {
                sleep(REST).await;
            }
        };
        timeout(READY, gone).await.expect("it ends");
    }

    /// Starts it again, with what it was started with.
    pub async fn start_again(&self) {
        self.spawn();
        self.until_ready().await;
    }

    async fn start_with(words: &[&str], hcl: &str) -> Self {
        let [http, serf, wan, server, https] = free_ports();
        let dir = std::env::temp_dir().join(format!("picom-conformance-{}-{http}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory for its state");
        let mut arguments: Vec<String> = ["agent", "-log-level", "warn", "-disable-host-node-id"]
            .iter()
            .chain(words)
            .map(|word| (*word).to_owned())
            .collect();
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("-node", format!("picom-{http}"));
        option("-bind", "127.0.0.1".to_owned());
        option("-client", "127.0.0.1".to_owned());
        option("-http-port", http.to_string());
        option("-serf-lan-port", serf.to_string());
        option("-serf-wan-port", wan.to_string());
        option("-server-port", server.to_string());
        for unused in ["-dns-port", "-grpc-port"] {
            option(unused, "-1".to_owned());
        }
        if !words.contains(&"-dev") {
            option("-data-dir", dir.to_string_lossy().into_owned());
        }
        if !hcl.is_empty() {
            option("-hcl", hcl.to_owned());
        }
        if hcl.contains("https") {
            certificates(&dir);
            let path = dir.to_string_lossy();
            option("-https-port", https.to_string());
            option(
                "-hcl",
                format!(
                    "ca_file = \"{path}/consul-agent-ca.pem\" cert_file = \"{path}/dc1-server-consul-0.pem\" \
                     key_file = \"{path}/dc1-server-consul-0-key.pem\" \
                     addresses {{ http = \"127.0.0.1 unix://{path}/http.sock\" }}"
                ),
            );
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, http));
        let dial: Arc<dyn Dial> = Arc::new(ToPort(address));
        let made = Self {
            address,
            arguments,
            dir,
            child: Mutex::default(),
            api: Api::new(dial.clone()),
            dial: Arc::new(Metered {
                dial,
                meter: Meter::default(),
            }),
            token: None,
            https,
        };
        made.spawn();
        made.until_ready().await;
        made
    }

    fn spawn(&self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .expect("a log");
        let child = Command::new(binary())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("Consul starts");
        *self.lock() = Some(child);
    }

    /// Until it leads, and its own node has come into the catalog with its health.
    async fn until_ready(&self) {
        let ready = async {
            loop {
                let leader = self.api.exchange("GET", "/status/leader", None).await;
                let has_leader = leader.is_ok_and(|answer| answer.status == 200 && answer.text.len() > 4);
                let health = self.api.exchange("GET", "/health/state/any", None).await;
                // With ACLs nobody may see the node yet.
                let known = health
                    .is_ok_and(|answer| answer.text.contains("serfHealth") || answer.text.trim() == "[]");
                if has_leader && known {
                    return;
                }
                sleep(REST).await;
            }
        };
        let log = || fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        if timeout(READY, ready).await.is_err() {
            panic!("Consul does not come up: {}", log());
        }
        if self.arguments.iter().all(|word| !word.contains("acl")) {
            let known = async {
                while !self
                    .api
                    .call("GET", "/health/state/passing", None)
                    .await
                    .text
                    .contains("serfHealth")
                {
                    sleep(REST).await;
                }
            };
            timeout(READY, known)
                .await
                .expect("its node comes into the catalog");
        }
    }

    fn is_running(&self) -> bool {
        self.lock()
            .as_mut()
            .is_some_and(|child| !matches!(child.try_wait(), Ok(Some(_))))
    }

    fn kill(&self) {
        if let Some(mut child) = self.lock().take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn signal(&self, name: &str) {
        let Some(pid) = self.lock().as_ref().map(Child::id) else {
            return;
        };
        let status = Command::new("kill")
            .args([format!("-{name}"), pid.to_string()])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RealConsul {
    fn drop(&mut self) {
        self.kill();
        // Best effort: it lies where temporary files lie.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[async_trait]
impl Subject for RealConsul {
    fn kind(&self) -> Kind {
        Kind::Consul
    }

    fn process(&self) -> Arc<dyn Discovery> {
        self.process_with(&|_| {})
    }

    fn process_with(&self, change: &dyn Fn(&mut ConsulConfig)) -> Arc<dyn Discovery> {
        let mut config = self.config();
        change(&mut config);
        Arc::new(Consul::with_dial(config, self.dial.clone()).expect("a configuration in order"))
    }

    async fn put(&self, entry: &Entry) {
        self.api.register(entry).await;
    }

    async fn say(&self, id: &str, word: Word) {
        self.api.say(id, word).await;
    }

    async fn take(&self, id: &str) {
        self.api.take(id).await;
    }

    async fn forget(&self) {
        self.kill();
        self.start_again().await;
    }

    async fn leave(&self) {
        self.kill();
    }

    async fn come_back(&self) {
        self.start_again().await;
    }

    async fn hang(&self) {
        self.signal("STOP");
    }

    async fn go_on(&self) {
        self.signal("CONT");
    }

    async fn pass_time(&self, time: Duration) {
        sleep(time).await;
    }

    fn api(&self) -> Option<&Api> {
        Some(&self.api)
    }

    fn meter(&self) -> Option<&Meter> {
        Some(&self.dial.meter)
    }
}

/// An authority, a server's certificate and a client's, by Consul's own tool.
fn certificates(dir: &std::path::Path) {
    for words in [
        &["ca", "create"][..],
        &["cert", "create", "-server"],
        &["cert", "create", "-client"],
    ] {
        let made = Command::new(binary())
            .arg("tls")
            .args(words)
            .current_dir(dir)
            .stdin(Stdio::null())
            .output()
            .expect("consul tls runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

fn binary() -> String {
    std::env::var("PICOM_TEST_CONSUL_BIN")
        .expect("PICOM_TEST_CONSUL_BIN is not set: these tests run by `cargo xtask integration`")
}

/// Five ports nobody listens on, below those the system takes for outgoing connections, so that an agent that is started
/// again finds them free.
fn free_ports() -> [u16; 5] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 100).unwrap_or(0) * 100;
    let is_free = |port: u16| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
    };
    std::array::from_fn(|_| {
        loop {
            let port = 21_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 11_000;
            if is_free(port) {
                break port;
            }
        }
    })
}
