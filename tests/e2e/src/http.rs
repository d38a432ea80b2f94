//! HTTP of the plainest kind, to look at a registry with other eyes than the product's: one request, one connection,
//! version 1.0, in which an answer ends where the connection does.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Consul's index; 0 if it says none.
    pub index: u64,
    /// Its body.
    pub body: String,
}

/// Sends a request and reads the whole answer.
///
/// # Errors
///
/// When there is no such answer within `patience`.
pub async fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    body: &str,
    patience: Duration,
) -> anyhow::Result<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let head = format!(
            "{method} {target} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        parse(&String::from_utf8_lossy(&bytes))
    };
    timeout(patience, exchange)
        .await
        .with_context(|| format!("no answer from {address} to {method} {target} in {patience:?}"))?
        .with_context(|| format!("{method} {target} at {address}"))
}

fn parse(text: &str) -> anyhow::Result<Answer> {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("an answer without a body: {text:?}")
    };
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("an answer without a status: {head:?}"))?;
    let index = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("X-Consul-Index")
            .then(|| value.trim().parse().ok())?
    });
    Ok(Answer {
        status,
        index: index.unwrap_or(0),
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_index_and_body_are_read() {
        let answer = parse("HTTP/1.0 200 OK\r\nx-consul-index: 57\r\nVary: a\r\n\r\n[]\n").unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 200,
                index: 57,
                body: "[]\n".into()
            }
        );
        assert_eq!(
            parse("HTTP/1.0 500 Internal\r\n\r\nNo cluster leader")
                .unwrap()
                .index,
            0
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "",
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.0\r\n\r\nx",
            "HTTP/1.0 x\r\n\r\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
