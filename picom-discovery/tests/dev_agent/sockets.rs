//! The agent on real loopback sockets, on its own thread.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use picom_discovery::dev_agent::{DevAgent, DevAgentConfig, DevAgentError, RequestLine};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::caller::{Answered, Unanswered, exchange};

async fn call(addr: SocketAddr, method: Method, target: &str, body: &str) -> Result<Answered, Unanswered> {
    let stream = TcpStream::connect(addr).await.map_err(|_| Unanswered)?;
    exchange(stream, method, target, body).await
}

async fn get(addr: SocketAddr, target: &str) -> Answered {
    call(addr, Method::GET, target, "").await.expect("an answer")
}

#[tokio::test]
async fn it_starts_on_a_free_port_and_gives_it_back() {
    let agent = DevAgent::start(DevAgentConfig::default())
        .await
        .expect("an agent");
    let addr = agent.addr();
    assert!(addr.ip().is_loopback() && addr.port() != 0);
    assert_eq!(get(addr, "/v1/status/leader").await.status, 200);
    agent.stop().await;
    let again = DevAgent::start(DevAgentConfig {
        bind: addr,
        ..DevAgentConfig::default()
    })
    .await
    .expect("its port");
    assert_eq!(again.addr(), addr);
    again.stop().await;
}

#[tokio::test]
async fn it_listens_on_loopback_only() {
    for ip in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 1)] {
        let bind = SocketAddr::from((ip, 0));
        let refused = DevAgent::start(DevAgentConfig {
            bind,
            ..DevAgentConfig::default()
        })
        .await;
        assert!(matches!(refused, Err(DevAgentError::NotLoopback { addr }) if addr == bind));
    }
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let first = DevAgent::start(DevAgentConfig::default())
        .await
        .expect("an agent");
    let second = DevAgent::start(DevAgentConfig {
        bind: first.addr(),
        ..DevAgentConfig::default()
    })
    .await;
    let error = second.expect_err("the port is taken");
    assert_eq!(error.to_string(), format!("could not listen on {}", first.addr()));
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_blocked_runtime_does_not_stop_it() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let agent = runtime
        .block_on(DevAgent::start(DevAgentConfig::default()))
        .expect("an agent");
    // Nobody drives the runtime from here on; the agent answers all the same.
    let mut stream = std::net::TcpStream::connect(agent.addr()).expect("a connection");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a time-out");
    stream
        .write_all(b"GET /v1/status/leader HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut back = String::new();
    stream.read_to_string(&mut back).expect("an answer");
    assert!(back.starts_with("HTTP/1.1 200 OK\r\n"), "{back}");
    assert!(
        back.contains("\r\nContent-Type: application/json\r\n"),
        "Consul's spelling: {back}"
    );
    drop(agent);
}

#[tokio::test]
async fn stop_answers_blocked_reads_and_is_quick() {
    let agent = DevAgent::start(DevAgentConfig::default())
        .await
        .expect("an agent");
    let addr = agent.addr();
    let index = get(addr, "/v1/health/service/x").await.index();
    let blocked = tokio::spawn(async move {
        call(
            addr,
            Method::GET,
            &format!("/v1/health/service/x?index={index}&wait=60s"),
            "",
        )
        .await
    });
    wait_until(|| agent.counters().blocked == 1).await;
    timeout(Duration::from_secs(5), agent.stop())
        .await
        .expect("stopped in time");
    assert_eq!(
        blocked.await.expect("the call").expect("an answer").index(),
        index
    );
    assert!(TcpStream::connect(addr).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn one_connection_too_many_is_reset_without_an_answer() {
    let config = DevAgentConfig {
        connection_cap: 3,
        ..DevAgentConfig::default()
    };
    let agent = DevAgent::start(config).await.expect("an agent");
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(agent.addr()).await.expect("a connection"));
    }
    wait_until(|| agent.counters().connections == 3).await;
    assert!(
        call(agent.addr(), Method::GET, "/v1/status/leader", "")
            .await
            .is_err()
    );
    held.pop();
    wait_until(|| agent.counters().connections == 2).await;
    assert_eq!(get(agent.addr(), "/v1/status/leader").await.status, 200);
    agent.stop().await;
}

#[tokio::test]
async fn it_can_go_away_and_come_back_on_the_same_port() {
    let agent = DevAgent::start(DevAgentConfig::default())
        .await
        .expect("an agent");
    let addr = agent.addr();
    call(
        addr,
        Method::PUT,
        "/v1/agent/service/register",
        r#"{"Name":"b","ID":"b-1"}"#,
    )
    .await
    .expect("an answer");
    agent.faults().go_away();
    agent.until_listening(false).await;
    assert!(TcpStream::connect(addr).await.is_err(), "refused");
    agent.faults().come_back();
    agent.until_listening(true).await;
    assert_eq!(get(addr, "/v1/health/service/b").await.ids(), ["b-1"]);
    agent.stop().await;
}

#[tokio::test]
async fn an_observer_sees_every_request_and_no_token() {
    let lines: Arc<Mutex<Vec<RequestLine>>> = Arc::default();
    let seen = lines.clone();
    let observer = move |line: &RequestLine| seen.lock().expect("the lines").push(line.clone());
    let config = DevAgentConfig {
        observer: Some(Arc::new(observer)),
        ..DevAgentConfig::default()
    };
    let agent = DevAgent::start(config).await.expect("an agent");
    get(agent.addr(), "/v1/health/service/x?token=secret&passing").await;
    get(agent.addr(), "/v1/nope").await;
    agent.stop().await;
    let lines = lines.lock().expect("the lines");
    let seen: Vec<_> = lines
        .iter()
        .map(|line| (line.method.as_str(), line.target.as_str(), line.status))
        .collect();
    assert_eq!(
        seen,
        [
            ("GET", "/v1/health/service/x?token=<hidden>&passing", 200),
            ("GET", "/v1/nope", 404)
        ]
    );
}

/// Asks again and again, for things that another thread does and tells nobody about.
async fn wait_until(mut so: impl FnMut() -> bool) {
    let patience = timeout(Duration::from_secs(10), async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    patience.await.expect("it comes to pass");
}
