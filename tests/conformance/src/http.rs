//! Plain requests to an agent, for what a test does by hand: one connection each, over the dial of the subject.

use std::sync::Arc;
use std::time::Duration;

use picom_discovery::consul::Dial;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::subject::{Entry, Word};

/// No call made by hand blocks; a leaderless cluster holds one for 14 s at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// An agent's HTTP API.
#[derive(Debug, Clone)]
pub struct Api {
    dial: Arc<dyn Dial>,
    token: Option<String>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status; 0 if the connection ended without one.
    pub status: u16,
    /// Names and values, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub text: String,
}

impl Api {
    /// Of the agent that this dial reaches.
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        Self { dial, token: None }
    }

    /// The same with a token.
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            dial: self.dial.clone(),
            token: Some(token.to_owned()),
        }
    }

    /// One request.
    ///
    /// # Panics
    /// When the agent cannot be reached or hangs.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        timeout(PATIENCE, self.exchange(method, path, body))
            .await
            .unwrap_or_else(|_| panic!("{method} {path}: no answer within {PATIENCE:?}"))
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// One request that must succeed.
    ///
    /// # Panics
    /// When it does not.
    pub async fn put(&self, path: &str, body: Option<&Value>) -> Answer {
        let answer = self.call("PUT", path, body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer
    }

    /// Announces an entry, in place of what its id meant before.
    pub(crate) async fn register(&self, entry: &Entry) {
        let path = "/agent/service/register?replace-existing-checks=true";
        self.put(path, Some(&entry.body())).await;
    }

    /// Speaks for the check of an id.
    pub(crate) async fn say(&self, id: &str, word: Word) {
        let path = format!("/agent/check/{}/service:{}", word.verb(), escaped(id));
        self.put(&path, None).await;
    }

    /// Takes an id away.
    pub(crate) async fn take(&self, id: &str) {
        let path = format!("/agent/service/deregister/{}", escaped(id));
        let answer = self.call("PUT", &path, None).await;
        // Later versions say that it was gone already.
        assert!(matches!(answer.status, 200 | 404), "{path}: {}", answer.text);
    }

    /// One request, or why there is no answer.
    pub async fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.plain(method, &format!("/v1{path}"), &[], &body).await
    }

    /// One request as it stands: a whole path, headers, and a body that need not be JSON.
    pub async fn plain(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<Answer> {
        let token = self.token.as_deref().map(|token| ("X-Consul-Token", token));
        let headers = headers.iter().copied().chain(token);
        let headers: String = headers
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = self.dial.dial().await?;
        stream.write_all((head + body).as_bytes()).await?;
        let mut all = Vec::new();
        // An agent that closes early may reset the connection; what came before counts.
        let _ = stream.read_to_end(&mut all).await;
        Ok(Answer::parse(&String::from_utf8_lossy(&all)))
    }
}

impl Answer {
    fn parse(all: &str) -> Self {
        let (head, rest) = all.split_once("\r\n\r\n").unwrap_or((all, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .unwrap_or(0);
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let text = if chunked { joined(rest) } else { rest.to_owned() };
        let headers = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        Self {
            status,
            headers: headers.collect(),
            text,
        }
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// A text as it stands in a path.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    let escape = |byte: &u8| match plain(byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.as_bytes().iter().map(escape).collect()
}

/// The chunks of a body put together.
fn joined(mut rest: &str) -> String {
    let mut text = String::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        match tail.get(..size) {
            Some(chunk) if size > 0 => text.push_str(chunk),
            _ => break,
        }
        rest = tail.get(size + 2..).unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together() {
        let all = "HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let answer = Answer::parse(all);
        assert_eq!((answer.status, answer.text.as_str()), (500, "abcde"));
        assert_eq!(Answer::parse("").status, 0);
    }
}
