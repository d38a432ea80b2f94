//! A caller for the tests: an agent in memory, one connection for each call, answers with all there is to compare.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::TokioIo;
use picom_discovery::dev_agent::{DevAgent, DevAgentConfig, Faults, InMemoryAgent};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// An agent under the test's own clock.
pub(crate) struct Caller {
    pub(crate) agent: InMemoryAgent,
}

/// Everything about an answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) took: Duration,
}

/// Why there was none.
#[derive(Debug)]
pub(crate) struct Unanswered;

impl Caller {
    pub(crate) fn new() -> Caller {
        Caller::with(DevAgentConfig::default())
    }

    pub(crate) fn with(config: DevAgentConfig) -> Caller {
        Caller {
            agent: DevAgent::in_memory(DevAgentConfig {
                seed: Some(7),
                ..config
            }),
        }
    }

    pub(crate) fn faults(&self) -> Faults {
        self.agent.faults()
    }

    pub(crate) async fn get(&self, target: &str) -> Answered {
        self.call(Method::GET, target, "").await
    }

    pub(crate) async fn put(&self, target: &str, body: &str) -> Answered {
        self.call(Method::PUT, target, body).await
    }

    pub(crate) async fn call(&self, method: Method, target: &str, body: &str) -> Answered {
        self.try_call(method, target, body).await.expect("an answer")
    }

    pub(crate) async fn try_call(
        &self,
        method: Method,
        target: &str,
        body: &str,
    ) -> Result<Answered, Unanswered> {
        exchange(
            self.agent.connect().map_err(|_| Unanswered)?,
            method,
            target,
            body,
        )
        .await
    }

    /// Begins a call, and returns when the agent has seen it.
    pub(crate) async fn begin(
        &self,
        method: Method,
        target: &str,
        body: &str,
    ) -> JoinHandle<Result<Answered, Unanswered>> {
        let before = self.agent.counters().requests;
        let io = self.agent.connect().expect("a connection");
        let (target, body) = (target.to_owned(), body.to_owned());
        let call = tokio::spawn(async move { exchange(io, method, &target, &body).await });
        while self.agent.counters().requests == before {
            tokio::task::yield_now().await;
        }
        settle().await;
        call
    }

    /// Begins a read that waits for a change, with the index of the present.
    pub(crate) async fn watch(&self, target: &str, wait: &str) -> Watching {
        let now = self.get(target).await;
        let glue = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{glue}index={}&wait={wait}", now.index());
        let call = self.begin(Method::GET, &target, "").await;
        Watching {
            index: now.index(),
            call,
        }
    }

    /// Registers a service with a TTL check.
    pub(crate) async fn register(&self, name: &str, id: &str, more: Value) {
        let mut body = serde_json::json!({
            "Name": name, "ID": id, "Port": 1, "Check": { "TTL": "600s", "Status": "passing" }
        });
        if let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) {
            body.extend(more.clone());
        }
        let answer = self
            .put(
                "/v1/agent/service/register?replace-existing-checks=true",
                &body.to_string(),
            )
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// A change that must succeed.
    pub(crate) async fn done(&self, target: &str) {
        let answer = self.put(target, "").await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text);
    }

    /// Ids of the instances a read lists.
    pub(crate) async fn ids(&self, target: &str) -> Vec<String> {
        self.get(target).await.ids()
    }
}

/// A read that was waiting for a change.
pub(crate) struct Watching {
    pub(crate) index: u64,
    pub(crate) call: JoinHandle<Result<Answered, Unanswered>>,
}

impl Watching {
    /// Whether it has been answered, after all that could happen at this moment has happened.
    pub(crate) async fn woke(&self) -> bool {
        settle().await;
        self.call.is_finished()
    }

    pub(crate) async fn answer(self) -> Answered {
        self.call.await.expect("the call").expect("an answer")
    }
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("a text"))
    }

    pub(crate) fn index(&self) -> u64 {
        self.header("x-consul-index")
            .expect("an index")
            .parse()
            .expect("a number")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        let id = |entry: &Value| entry["Service"]["ID"].as_str().expect("an id").to_owned();
        self.json().as_array().expect("a list").iter().map(id).collect()
    }
}

/// Lets everything run that can run without time going on.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// One request on a connection of its own.
pub(crate) async fn exchange<I>(
    io: I,
    method: Method,
    target: &str,
    body: &str,
) -> Result<Answered, Unanswered>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let began = Instant::now();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .map_err(|_| Unanswered)?;
    let driver = Aborting(tokio::spawn(connection));
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", "dev-agent")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .expect("a request");
    let answer = sender.send_request(request).await.map_err(|_| Unanswered)?;
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_| Unanswered)?.to_bytes();
    drop(driver);
    Ok(Answered {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8(body.to_vec()).expect("UTF-8"),
        took: began.elapsed(),
    })
}

/// A client that goes takes its connection with it.
struct Aborting<T>(JoinHandle<T>);

impl<T> Drop for Aborting<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
