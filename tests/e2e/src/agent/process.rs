//! The process of a real agent, as `cargo xtask integration` describes it in the environment: killed, halted and started
//! again by its number. Whoever started the suite ends the last one.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use tokio::time::{sleep, timeout};

use crate::http;
use crate::patience::{eventually, within};
use crate::signal::{self, Signal};

/// A server of its own elects itself within 3 s; a loaded machine may need longer.
const READY: Duration = Duration::from_secs(30);

/// A killed process is gone in milliseconds.
const GONE: Duration = Duration::from_secs(10);

/// Between two looks at an agent that is coming up.
const REST: Duration = Duration::from_millis(50);

/// A real agent's process.
#[derive(Debug)]
pub(super) struct Process {
    address: SocketAddr,
    binary: PathBuf,
    arguments: Vec<String>,
    pid_file: PathBuf,
    log: PathBuf,
}

/// Agents that this process has started, so that none stays a zombie when it is killed. They are meant to outlive us.
static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());

impl Process {
    pub(super) fn from_environment() -> Self {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| {
                panic!(
                    "{name} is not set: these tests run by `cargo xtask integration`, which starts a Consul"
                )
            })
        };
        Self {
            address: variable("PICOM_TEST_CONSUL")
                .parse()
                .expect("PICOM_TEST_CONSUL is an address and a port"),
            binary: variable("PICOM_TEST_CONSUL_BIN").into(),
            arguments: serde_json::from_str(&variable("PICOM_TEST_CONSUL_ARGS"))
                .expect("PICOM_TEST_CONSUL_ARGS is a JSON array of strings"),
            pid_file: variable("PICOM_TEST_CONSUL_PID_FILE").into(),
            log: variable("PICOM_TEST_CONSUL_LOG").into(),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Brings it back if an earlier test, failing, left it dead or halted.
    pub(super) async fn ensure_ready(&self) {
        match self.pid() {
            Some(pid) => signal::go_on(pid).await,
            None => self.spawn(),
        }
        self.await_ready().await;
    }

    pub(super) async fn kill(&self) {
        let Some(pid) = self.pid() else { return };
        signal::send(pid, Signal::Kill);
        within(GONE, "the agent to end", eventually(|| reaped(pid))).await;
    }

    pub(super) async fn start(&self) {
        self.spawn();
        self.await_ready().await;
    }

    pub(super) async fn halt(&self) {
        signal::stop(self.pid().expect("the agent runs")).await;
    }

    pub(super) async fn go_on(&self) {
        signal::go_on(self.pid().expect("the agent runs")).await;
        self.await_ready().await;
    }

    /// The process that runs now, by the file that Consul keeps.
    fn pid(&self) -> Option<u32> {
        let pid = fs::read_to_string(&self.pid_file).ok()?.trim().parse().ok()?;
        signal::state(pid).map(|_| pid)
    }

    fn spawn(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("the agent's log can be written");
        let errors = log.try_clone().expect("a file has a second handle");
        let child = Command::new(&self.binary)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("the agent starts");
        CHILDREN
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(child);
    }

    async fn await_ready(&self) {
        let ready = async {
            let mut why = String::new();
            let ready = timeout(READY, async {
                while let Err(error) = self.probe().await {
                    why = format!("{error:#}");
                    sleep(REST).await;
                }
            });
            (ready.await.is_ok(), why)
        };
        let (is_ready, why) = ready.await;
        assert!(is_ready, "the agent is not ready after {READY:?}: {why}");
    }

    /// Whether it leads and knows its own node: before that a new service would not be passing.
    async fn probe(&self) -> anyhow::Result<()> {
        let second = Duration::from_secs(1);
        let leader = http::request(self.address, "GET", "/v1/status/leader", "", second).await?;
        ensure!(
            leader.status == 200 && leader.body.trim().len() > 2,
            "there is no leader yet"
        );
        let health = http::request(self.address, "GET", "/v1/health/state/passing", "", second).await?;
        ensure!(
            health.body.contains("serfHealth"),
            "the node is not in the catalog yet"
        );
        Ok(())
    }
}

/// Whether a process is gone; one that we started is taken off the system's hands.
fn reaped(pid: u32) -> bool {
    let mut children = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    children.retain_mut(|child| child.id() != pid || !matches!(child.try_wait(), Ok(Some(_))));
    signal::state(pid).is_none()
}
