//! One agent for all processes. Other processes are agents of their own, or this test's binary run once more.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use hyper::Method;
use picom_discovery::dev_agent::{DevAgent, DevAgentConfig, DevAgentError, Role, Shared};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::caller::exchange;

/// Far above what a take-over takes, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says to this test's binary that it is the other process.
const PORT: &str = "PICOM_TEST_SHARED_PORT";

async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    listener.local_addr().expect("its address").port()
}

async fn answers(addr: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(addr).await else {
        return false;
    };
    exchange(stream, Method::GET, "/v1/agent/self", "")
        .await
        .is_ok_and(|answer| answer.status == 200)
}

async fn becomes(shared: &Shared, role: Role) {
    timeout(PATIENCE, shared.until(role))
        .await
        .unwrap_or_else(|_| panic!("{role:?} in time"));
}

async fn reaches(owner: &DevAgent, requests: usize) {
    let reached = timeout(PATIENCE, async {
        while owner.counters().requests < requests {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    reached.await.expect("tied in time");
}

#[tokio::test]
async fn the_first_comer_serves_and_its_whole_process_shares() {
    let port = free_port().await;
    let first = DevAgent::shared(port).await.expect("a share");
    let second = DevAgent::shared(port).await.expect("a share");
    assert_eq!((first.role(), second.role()), (Role::Owner, Role::Owner));
    assert_eq!(first.addr(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    assert!(answers(first.addr()).await);
    first.stop().await;
    assert!(answers(second.addr()).await, "there is still a share");
    let addr = second.addr();
    second.stop().await;
    assert!(!answers(addr).await, "that was the last");
}

#[tokio::test]
async fn a_guest_takes_over_when_the_owner_goes() {
    let owner = DevAgent::start(DevAgentConfig::default())
        .await
        .expect("an agent");
    let shared = DevAgent::shared(owner.addr().port()).await.expect("a share");
    assert_eq!(shared.role(), Role::Guest);
    owner.stop().await;
    becomes(&shared, Role::Owner).await;
    assert!(answers(shared.addr()).await);
    shared.stop().await;
}

#[tokio::test]
async fn dropped_connections_alone_take_nothing_over() {
    let owner = DevAgent::start(DevAgentConfig::default())
        .await
        .expect("an agent");
    let shared = DevAgent::shared(owner.addr().port()).await.expect("a share");
    // It asks who is there, and ties itself; after the loss it does both again.
    reaches(&owner, 2).await;
    owner.faults().drop_connections();
    reaches(&owner, 4).await;
    assert_eq!(shared.role(), Role::Guest);
    shared.stop().await;
    owner.stop().await;
}

#[tokio::test]
async fn a_stranger_on_the_port_is_named() {
    for hello in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-stranger\r\n",
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let addr = listener.local_addr().expect("its address");
        let stranger = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                drop(stream.read(&mut [0; 1024]).await);
                drop(stream.write_all(hello.as_bytes()).await);
            }
        });
        let refused = DevAgent::shared(addr.port()).await.expect_err("a stranger");
        assert!(
            matches!(refused, DevAgentError::Foreign { addr: named } if named == addr),
            "{refused:?}"
        );
        assert_eq!(
            refused.to_string(),
            format!("what listens on {addr} is not a picom dev agent")
        );
        stranger.abort();
    }
}

#[tokio::test]
async fn silence_on_the_port_is_given_up() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let addr = listener.local_addr().expect("its address");
    let refused = timeout(PATIENCE, DevAgent::shared(addr.port()))
        .await
        .expect("in time");
    assert!(matches!(refused, Err(DevAgentError::Unresponsive { addr: named, .. }) if named == addr));
    drop(listener);
    let shared = DevAgent::shared(addr.port())
        .await
        .expect("a failure is not remembered");
    assert_eq!(shared.role(), Role::Owner);
    shared.stop().await;
}

#[tokio::test]
async fn a_shared_agent_needs_a_port() {
    assert!(matches!(DevAgent::shared(0).await, Err(DevAgentError::NoPort)));
}

/// This test's binary, run once more, with a share of its own.
struct Other {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn spawn(port: u16) -> Other {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args([
                "--exact",
                "shared::the_other_process",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(PORT, port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the other process");
        let out = child.stdout.take().expect("its output");
        Other {
            child,
            lines: BufReader::new(out).lines(),
        }
    }

    /// Waits until it says that it has the part. Its output ends when it does, so this cannot hang.
    fn says(&mut self, role: &str) {
        let wanted = format!("role {role}");
        let found = self
            .lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.ends_with(&wanted));
        assert!(found, "the other process ended without becoming {role}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // SIGKILL: it must work without a farewell.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Not a test by itself: what the other process runs. Ends when its input does.
#[test]
fn the_other_process() {
    let Ok(port) = std::env::var(PORT) else { return };
    let port = port.parse().expect("a port");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let shared = DevAgent::shared(port).await.expect("a share");
        let ends = tokio::task::spawn_blocking(|| drop(std::io::stdin().lines().next()));
        let report = async {
            loop {
                let role = shared.role();
                let mut out = std::io::stdout();
                writeln!(out, "role {role:?}")
                    .and_then(|()| out.flush())
                    .expect("output");
                shared
                    .until(if role == Role::Owner {
                        Role::Guest
                    } else {
                        Role::Owner
                    })
                    .await;
            }
        };
        // Longer than any test here waits.
        let _ended = timeout(Duration::from_secs(60), async {
            tokio::select! { _ = ends => {}, () = report => {} }
        })
        .await;
    });
    std::process::exit(0);
}

#[tokio::test]
async fn processes_take_over_from_each_other_when_one_is_killed() {
    let port = free_port().await;
    let mut first = Other::spawn(port);
    first.says("Owner");
    let mut second = Other::spawn(port);
    second.says("Guest");
    let third = DevAgent::shared(port).await.expect("a share");
    assert_eq!(third.role(), Role::Guest);
    drop(first);
    // Either of the two may be the quicker one.
    timeout(PATIENCE, async {
        while !answers(third.addr()).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("somebody serves");
    drop(second);
    becomes(&third, Role::Owner).await;
    assert!(answers(third.addr()).await);
    third.stop().await;
}
