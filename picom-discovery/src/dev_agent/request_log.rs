//! One line for every request, whether it was answered or its connection went away first.

use hyper::Request;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::config::{Observer, RequestLine};

/// Reports when it is dropped.
pub(crate) struct RequestLog {
    line: RequestLine,
    began: Instant,
    observer: Option<Observer>,
}

impl RequestLog {
    pub(crate) fn new(request: &Request<Incoming>, observer: Option<Observer>) -> RequestLog {
        let target = request
            .uri()
            .path_and_query()
            .map_or("*", |target| target.as_str());
        RequestLog {
            line: RequestLine {
                method: request.method().to_string(),
                target: without_token(target),
                status: 0,
                took: std::time::Duration::ZERO,
            },
            began: Instant::now(),
            observer,
        }
    }

    pub(crate) fn answered(&mut self, status: u16) {
        self.line.status = status;
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        self.line.took = self.began.elapsed();
        let RequestLine {
            method,
            target,
            status,
            took,
        } = &self.line;
        tracing::debug!(%method, %target, status, ?took, "request");
        if let Some(observer) = &self.observer {
            observer(&self.line);
        }
    }
}

/// Tokens in queries must not reach a log.
fn without_token(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let shown = |pair: &str| match pair.split_once('=') {
        Some(("token", _)) => "token=<hidden>".to_owned(),
        _ => pair.to_owned(),
    };
    let query: Vec<String> = query.split('&').map(shown).collect();
    format!("{path}?{}", query.join("&"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_token_in_a_query_is_hidden() {
        assert_eq!(
            super::without_token("/v1/x?a=1&token=secret&b"),
            "/v1/x?a=1&token=<hidden>&b"
        );
        assert_eq!(super::without_token("/v1/x"), "/v1/x");
    }
}
