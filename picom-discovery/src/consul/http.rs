//! HTTP/1.1 exchanges with the agent over connections from a [`Dial`]: deadlines, caps, no redirects. What is asked and
//! what an answer means is in `api.rs` and `answer.rs`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::api::Request;
use super::dial::Dial;
use crate::error::{Cause, DiscoveryError, Phase, ProtocolFault};

/// Bytes of a head we take; Consul's have some 500.
const MAX_HEAD: usize = 64 << 10;
/// Header lines of an answer; Consul's have about ten, proxies add a few.
const MAX_HEADERS: usize = 100;
/// Bytes of an error's body we look at: its texts are one line.
const MAX_ERROR_BODY: usize = 4 << 10;
/// The header the token travels in.
const TOKEN: &str = "x-consul-token";

/// How to speak to one agent.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) agent: Arc<str>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) host: HeaderValue,
    /// For a proxy before the agent.
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) prefix: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_body: usize,
}

/// How long to wait for an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// From now until its head has come.
    pub(crate) head: Duration,
    /// From then until the whole body has come; `None` is within the time for the head.
    pub(crate) body: Option<Duration>,
    /// Whether a request that fails on a used connection is sent once more on a new one: a server may close an idle
    /// connection at any moment.
    pub(crate) again: bool,
}

/// An answer with its whole body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// One connection. Dropping it closes it, whatever is under way.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
}

impl Http {
    /// Sends `request` on `connection`, or on a new one if there is none or it has been closed meanwhile, and reads the
    /// answer. The connection is put back if it can be used again.
    ///
    /// Cancel safe: dropping the future closes the connection, which ends a blocked query at the server.
    pub(crate) async fn exchange(
        &self,
        connection: &mut Option<Connection>,
        request: &Request,
        token: Option<&HeaderValue>,
        patience: Patience,
    ) -> Result<Answer, DiscoveryError> {
        let deadline = Instant::now() + patience.head;
        let timeout = |phase, after| DiscoveryError::Timeout {
            agent: self.agent.clone(),
            phase,
            after,
        };
        let mut used = connection.take().filter(|connection| !connection.is_closed());
        let (mut open, response) = loop {
            let is_used = used.is_some();
            let mut open = match used.take() {
                Some(open) => open,
                None => self.connect(deadline).await?,
            };
            let sent = timeout_at(deadline, open.send(self.head(request, token)?)).await;
            match sent {
                Ok(Ok(response)) => break (open, response),
                Ok(Err(_)) if is_used && patience.again => {
                    tracing::trace!(agent = %self.agent, "kept connection was closed, dialling")
                }
                Ok(Err(error)) => return Err(self.broken(Phase::Exchange, error)),
                Err(_) => return Err(timeout(Phase::Exchange, patience.head)),
            }
        };
        let (parts, body) = response.into_parts();
        let (deadline, after) = match patience.body {
            Some(body) => (Instant::now() + body, body),
            None => (deadline, patience.head),
        };
        let reading = async {
            if parts.status.is_success() {
                self.read_whole(request, &parts.headers, body).await
            } else {
                self.read_error(body).await
            }
        };
        let (body, complete) = timeout_at(deadline, reading)
            .await
            .map_err(|_| timeout(Phase::Body, after))??;
        if complete && open.is_ready(deadline).await {
            *connection = Some(open);
        }
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }

    async fn connect(&self, deadline: Instant) -> Result<Connection, DiscoveryError> {
        let begun = Instant::now();
        let deadline = deadline.min(begun + self.connect_timeout);
        let opening = async {
            let stream = self.dial.dial().await.map_err(|error| Arc::new(error) as Cause)?;
            let mut builder = http1::Builder::new();
            builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
            let (sender, driver) = builder
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| Arc::new(error) as Cause)?;
            let driver = tokio::spawn(async move {
                // Its error reaches the exchange too; here it would be told twice.
                let _ = driver.await;
            });
            Ok(Connection {
                sender,
                driver: driver.abort_handle(),
            })
        };
        match timeout_at(deadline, opening).await {
            Ok(opened) => opened.map_err(|source: Cause| {
                // Taken and then reset: somebody is there, and has too many connections already.
                let phase = match source.downcast_ref::<io::Error>().map(io::Error::kind) {
                    Some(io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted) => {
                        Phase::Exchange
                    }
                    _ => Phase::Dial,
                };
                self.transport(phase, source)
            }),
            Err(_) => Err(DiscoveryError::Timeout {
                agent: self.agent.clone(),
                phase: Phase::Dial,
                after: deadline - begun,
            }),
        }
    }

    fn head(
        &self,
        request: &Request,
        token: Option<&HeaderValue>,
    ) -> Result<hyper::Request<Full<Bytes>>, DiscoveryError> {
        let mut builder = hyper::Request::builder()
            .method(request.method.clone())
            .uri(format!("{}{}", self.prefix, request.path))
            .header(HOST, &self.host);
        if let Some(token) = token {
            builder = builder.header(TOKEN, token);
        }
        if let Some(authorization) = &self.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if request.body.is_some() {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        // Paths are percent-encoded and prefixes checked, so this cannot fail; if it does, nothing was sent.
        builder
            .body(Full::new(request.body.clone().unwrap_or_default()))
            .map_err(|error| DiscoveryError::Transport {
                agent: self.agent.clone(),
                phase: Phase::Dial,
                source: Arc::new(error),
            })
    }

    /// The whole body, and that the connection may be used again.
    async fn read_whole(
        &self,
        request: &Request,
        headers: &HeaderMap,
        mut body: Incoming,
    ) -> Result<(Bytes, bool), DiscoveryError> {
        let too_large = || DiscoveryError::Protocol {
            agent: self.agent.clone(),
            request: request.purpose,
            fault: ProtocolFault::BodyTooLarge { limit: self.max_body },
        };
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > self.max_body as u64) {
            return Err(too_large());
        }
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.broken(Phase::Body, error))?;
            let Some(data) = frame.data_ref() else { continue };
            if data.len() > self.max_body - whole.len() {
                return Err(too_large());
            }
            whole.extend_from_slice(data);
        }
        Ok((whole.freeze(), true))
    }

    /// The beginning of an error's body, and whether that was all of it.
    async fn read_error(&self, mut body: Incoming) -> Result<(Bytes, bool), DiscoveryError> {
        let mut text = BytesMut::new();
        while let Some(frame) = body.frame().await {
            // The status has said what matters.
            let Ok(frame) = frame else {
                return Ok((text.freeze(), false));
            };
            let Some(data) = frame.data_ref() else { continue };
            let room = MAX_ERROR_BODY - text.len();
            text.extend_from_slice(data.get(..room).unwrap_or(data));
            if data.len() > room {
                return Ok((text.freeze(), false));
            }
        }
        Ok((text.freeze(), true))
    }

    fn broken(&self, phase: Phase, error: hyper::Error) -> DiscoveryError {
        self.transport(phase, Arc::new(error))
    }

    /// An error of a connection; those of TLS come while it is made, or with the first answer.
    fn transport(&self, phase: Phase, source: Cause) -> DiscoveryError {
        let agent = self.agent.clone();
        #[cfg(feature = "tls")]
        if let Some(fault) = super::tls::fault(&*source) {
            return DiscoveryError::Tls { agent, fault, source };
        }
        DiscoveryError::Transport { agent, phase, source }
    }
}

impl Connection {
    /// Whether the agent has closed it since it was last used.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    async fn send(&mut self, request: hyper::Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// Whether it can take another request, now that an answer was read to its end.
    async fn is_ready(&mut self, deadline: Instant) -> bool {
        matches!(timeout_at(deadline, self.sender.ready()).await, Ok(Ok(())))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}
