//! Whether an agent can be used yet: two questions over HTTP/1.0, which needs no library.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// An agent without a leader holds a request for up to 7 s; the one we ask has nobody to wait for.
const PATIENCE: Duration = Duration::from_secs(2);

/// No answer we ask for comes near this; it bounds what a stranger on the port could make us read.
const LARGEST_ANSWER: u64 = 1 << 20;

/// `Ok` once there is a leader and the agent's own node has come into the catalog, with the health of the node: until
/// then a service that is registered is not yet passing.
pub(super) fn probe(address: SocketAddr, node: &str) -> anyhow::Result<()> {
    let leader = get(address, "/v1/status/leader")?;
    if leader.trim().trim_matches('"').is_empty() {
        bail!("there is no leader yet");
    }
    let health = get(address, &format!("/v1/health/node/{node}"))?;
    if !health.contains("serfHealth") {
        bail!("the node is not in the catalog yet");
    }
    Ok(())
}

/// The body of a 200.
fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream =
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("no answer at {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER).read_to_end(&mut answer)?;
    body(&String::from_utf8_lossy(&answer)).map(str::to_owned)
}

fn body(answer: &str) -> anyhow::Result<&str> {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("an answer without a body")
    };
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        bail!("HTTP status {status}: {}", body.trim());
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request after the other with these bodies.
    fn agent(bodies: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for body in bodies {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).unwrap();
                stream
                    .write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes())
                    .unwrap();
            }
        });
        address
    }

    #[test]
    fn an_agent_is_ready_when_it_has_a_leader_and_knows_its_node() {
        let ready = agent(&["\"127.0.0.1:8300\"", "[{\"CheckID\": \"serfHealth\"}]"]);
        probe(ready, "n").unwrap();
        let leaderless = agent(&["\"\"\n"]);
        assert_eq!(
            probe(leaderless, "n").unwrap_err().to_string(),
            "there is no leader yet"
        );
        let unknown = agent(&["\"127.0.0.1:8300\"", "[]"]);
        assert_eq!(
            probe(unknown, "n").unwrap_err().to_string(),
            "the node is not in the catalog yet"
        );
    }

    #[test]
    fn answers_other_than_200_are_errors_that_say_so() {
        assert_eq!(body("HTTP/1.1 200 OK\r\nA: b\r\n\r\nx").unwrap(), "x");
        let error = body("HTTP/1.1 500 Internal\r\n\r\nNo cluster leader").unwrap_err();
        assert_eq!(error.to_string(), "HTTP status 500: No cluster leader");
        assert!(body("").is_err());
    }
}
