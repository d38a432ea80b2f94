//! One process of a cluster: started, killed, halted and started again by its number, with its state kept on disk.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{SERVERS, ports};
use crate::patience::{eventually, within};
use crate::signal::{self, Signal};

/// A killed process is gone in milliseconds; one that is asked to end takes its leave of the others first.
const GONE: Duration = Duration::from_secs(15);

/// Elections as quick as Consul can hold them: its own default, five times slower, is for small machines far apart.
const QUICK: &str = "performance { raft_multiplier = 1 }";

/// A dead server stays a member: by default the others throw it out after ten seconds, and one that comes back does not
/// vote for ten more.
const STEADY: &str = "autopilot { cleanup_dead_servers = false, server_stabilization_time = \"1s\" }";

/// One process of a cluster.
#[derive(Debug)]
pub struct Member {
    node: String,
    http: SocketAddr,
    /// Where the other members reach a server.
    server: SocketAddr,
    binary: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Mutex<Option<Child>>,
}

/// The members of a new cluster, not started; its agent is the last.
pub(super) fn all(binary: &Path, dir: &Path) -> Vec<Member> {
    // HTTP, gossip with its own kind, gossip with other datacenters, and what members tell servers.
    let ports = ports::free(4 * (SERVERS + 1));
    let ports: Vec<&[u16]> = ports.chunks(4).collect();
    let joins: Vec<String> = ports
        .iter()
        .take(SERVERS)
        .map(|ports| loopback(ports[1]).to_string())
        .collect();
    let closes_tls = at_least_1_14(binary);
    let made = ports.iter().enumerate().map(|(number, ports)| {
        let is_server = number < SERVERS;
        let node = format!("n{}", number + 1);
        let words = [
            "agent",
            "-bind",
            "127.0.0.1",
            "-client",
            "127.0.0.1",
            "-datacenter",
            "dc1",
            "-log-level",
            "info",
        ];
        let mut arguments: Vec<String> = words.map(str::to_owned).to_vec();
        // All would have the id of this machine, and refuse each other.
        arguments.push("-disable-host-node-id".to_owned());
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("-node", node.clone());
        option("-data-dir", dir.join(&node).to_string_lossy().into_owned());
        option("-http-port", ports[0].to_string());
        option("-serf-lan-port", ports[1].to_string());
        // -1 is Consul's "not at all".
        option("-dns-port", "-1".to_owned());
        option("-hcl", "leave_on_terminate = false".to_owned());
        if closes_tls {
            option("-hcl", "ports { grpc_tls = -1 }".to_owned());
        }
        option("-retry-interval", "1s".to_owned());
        for join in &joins {
            option("-retry-join", join.clone());
        }
        if is_server {
            option("-bootstrap-expect", SERVERS.to_string());
            option("-serf-wan-port", ports[2].to_string());
            option("-server-port", ports[3].to_string());
            option("-hcl", QUICK.to_owned());
            option("-hcl", STEADY.to_owned());
            arguments.push("-server".to_owned());
        }
        Member {
            http: loopback(ports[0]),
            server: loopback(ports[3]),
            binary: binary.to_owned(),
            arguments,
            log: dir.join(format!("{node}.log")),
            child: Mutex::default(),
            node,
        }
    });
    made.collect()
}

impl Member {
    /// Its name in the cluster.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Where its HTTP API is.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where the others reach it, if it is a server.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Starts it, with what it has on disk.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn start(&self) {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("a member's log can be written");
        let errors = log.try_clone().expect("a file has a second handle");
        let child = Command::new(&self.binary)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("Consul starts");
        *self.lock() = Some(child);
    }

    /// Kills it, and returns when it is gone.
    pub async fn kill(&self) {
        self.end(Signal::Kill).await;
    }

    /// Asks it to end, and returns when it has.
    pub async fn terminate(&self) {
        self.end(Signal::Terminate).await;
    }

    /// Halts it, and returns when it stands still.
    pub async fn halt(&self) {
        signal::stop(self.pid()).await;
    }

    /// Lets it go on.
    pub async fn go_on(&self) {
        signal::go_on(self.pid()).await;
    }

    async fn end(&self, signal: Signal) {
        signal::send(self.pid(), signal);
        let gone = || {
            self.lock()
                .as_mut()
                .is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
        };
        within(GONE, "a member to end", eventually(gone)).await;
        *self.lock() = None;
    }

    fn pid(&self) -> u32 {
        self.lock()
            .as_ref()
            .map(Child::id)
            .expect("the member was started")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.lock().take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// From 1.14 on servers open one port more, the same for all, unless told otherwise; earlier ones refuse to hear of it.
fn at_least_1_14(binary: &Path) -> bool {
    let output = Command::new(binary).arg("version").stdin(Stdio::null()).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    knows_tls_port(&String::from_utf8_lossy(&text))
}

fn knows_tls_port(version: &str) -> bool {
    let number = version.strip_prefix("Consul v").unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (1, 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_have_the_port_are_told_to_close_it() {
        assert!(!knows_tls_port("Consul v1.8.7\nRevision x"));
        assert!(!knows_tls_port("Consul v1.13.9\n"));
        assert!(knows_tls_port("Consul v1.14.0\n"));
        assert!(knows_tls_port("Consul v2.1.0\n"));
        assert!(!knows_tls_port(""));
    }
}
