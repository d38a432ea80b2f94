//! Finding out who listens on a port, and noticing when they go: two requests by hand, so that the agent does not depend
//! on the client it is there to test.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::reply::names;
use super::routes::HOLD;

/// A dev agent on loopback answers in a millisecond; one on a busy machine within this.
const PATIENCE: Duration = Duration::from_secs(1);

/// A head longer than this is not a dev agent's.
const LONGEST_HEAD: usize = 16 * 1024;

/// Who listens.
#[derive(Debug)]
pub(crate) enum Found {
    /// A dev agent, with a connection that lives as long as it does.
    Agent(Tie),
    /// Something else.
    Stranger,
    /// No answer, or nobody.
    Silence,
}

/// A connection to a dev agent that is never answered, and ends with it.
#[derive(Debug)]
pub(crate) struct Tie(TcpStream);

impl Tie {
    /// Returns when the agent is gone. Cancel safe.
    pub(crate) async fn broken(&mut self) {
        // Whatever comes, an end, an error or an answer: what was there is not there any more.
        drop(self.0.read(&mut [0; 1]).await);
    }
}

/// Asks who listens on an address.
pub(crate) async fn ask(addr: SocketAddr) -> Found {
    match timeout(PATIENCE, head_of_self(addr)).await {
        Ok(Some(head)) if is_dev_agent(&head) => match timeout(PATIENCE, tie(addr)).await {
            Ok(Ok(tie)) => Found::Agent(tie),
            Ok(Err(_)) | Err(_) => Found::Silence,
        },
        Ok(Some(_)) => Found::Stranger,
        Ok(None) | Err(_) => Found::Silence,
    }
}

async fn tie(addr: SocketAddr) -> std::io::Result<Tie> {
    let mut stream = TcpStream::connect(addr).await?;
    stream
        .write_all(format!("GET {HOLD} HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes())
        .await?;
    Ok(Tie(stream))
}

/// What the listener says first, up to the end of a head; `None` if it says nothing.
async fn head_of_self(addr: SocketAddr) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(addr).await.ok()?;
    let request = format!("GET /v1/agent/self HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = Vec::new();
    let mut chunk = [0; 2048];
    while head.len() < LONGEST_HEAD && !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(count) => head.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
    (!head.is_empty()).then_some(head)
}

fn is_dev_agent(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n").take_while(|line| !line.is_empty());
    let is_http = lines.next().is_some_and(|line| line.starts_with("HTTP/1.1 "));
    is_http
        && lines.any(|line| {
            line.split_once(':')
                .is_some_and(|(name, _)| name.eq_ignore_ascii_case(names::DEV_AGENT.as_str()))
        })
}

#[cfg(test)]
mod tests {
    use super::is_dev_agent;

    #[test]
    fn only_the_marked_answer_is_a_dev_agents() {
        assert!(is_dev_agent(b"HTTP/1.1 200 OK\r\nX-Picom-Dev-Agent: 1\r\n\r\n"));
        for head in [
            &b"HTTP/1.1 200 OK\r\nContent-Type: x\r\n\r\nx-picom-dev-agent: 1"[..],
            b"SSH-2.0-x\r\nx-picom-dev-agent: 1\r\n\r\n",
            b"",
            b"\xff\xfe",
        ] {
            assert!(!is_dev_agent(head));
        }
    }
}
