//! Peers in Node: a service as a process, and calls made by one.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Each test takes seconds; a minute is a hang.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where the peers are, if they can be run. If not, that is said; where they must run, it is a failure.
///
/// # Panics
///
/// When `PICOM_TEST_NODE` is set and they cannot.
pub fn peers() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    let runs = std::process::Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if runs && dir.join("node_modules/msgpack5").exists() {
        return Some(dir);
    }
    let missing = "node is not there, or `npm ci` was not run in tests/classic-node/node";
    assert!(std::env::var_os("PICOM_TEST_NODE").is_none(), "{missing}");
    say_skipped(missing);
    None
}

/// Says that a test is skipped, where it is seen: what tests print otherwise is kept from the screen when they pass.
pub fn say_skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    // Whoever has closed it does not want to know.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// A service as a process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Node {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    pid: u32,
    asks: Option<ChildStdin>,
    says: Lines<BufReader<ChildStdout>>,
    child: Child,
}

impl Node {
    /// Starts one, and with the address of a Consul registers it there.
    ///
    /// # Panics
    ///
    /// When that fails.
    pub async fn start(dir: &Path, name: &str, consul: Option<&str>) -> Node {
        let mut command = Command::new("node");
        command.arg("service.js").arg(name).current_dir(dir);
        if let Some(consul) = consul {
            command.env("CONSUL", consul);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let pid = child.id().expect("it has just started");
        let mut says = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let port = says.next_line().await.expect("a line").expect("its port");
        Node {
            port: port.parse().expect("a number"),
            pid,
            asks: child.stdin.take(),
            says,
            child,
        }
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Connections that it holds, by its own account.
    async fn connections(&mut self) -> u32 {
        let asks = self.asks.as_mut().expect("it was not told to end");
        asks.write_all(b"\n").await.expect("it listens");
        let answer = self.says.next_line().await.expect("a line");
        answer.expect("an answer").parse().expect("a number")
    }

    /// Waits until it holds no connection any more.
    ///
    /// # Panics
    ///
    /// When some are left after a minute.
    pub async fn no_connections_are_left(&mut self) {
        let all_closed = async {
            while self.connections().await > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all_closed)
            .await
            .expect("sockets are left at the Node side");
    }

    /// Ends it at once: what it does is lost.
    ///
    /// # Panics
    ///
    /// When it cannot be ended.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Has it leave Consul and end.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn end(mut self) {
        self.asks = None;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("it ends").expect("it has a status");
        assert!(status.success(), "{status}");
    }
}

/// Runs `caller.js` and gives what it prints.
///
/// # Panics
///
/// When it fails: the message has what it said.
pub async fn call_from_node(dir: &Path, arguments: &[&str]) -> String {
    let run = Command::new("node")
        .arg("caller.js")
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run)
        .await
        .expect("it comes to an end")
        .expect("node starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    said
}
