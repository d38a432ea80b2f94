//! One dial: a byte stream, a handshake, and the news for everybody who waits for it.

use crate::conn::{Connection, HandshakeError};
use crate::connector::{BoxIo, Connector};
use crate::proto::{ConnectionConfig, Identity, Outcome};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Why there is no connection. The call has not been sent, whatever the reason.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// The byte stream could not be opened.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Where to.
        authority: Arc<str>,
        /// What the network said.
        #[source]
        error: Arc<io::Error>,
    },
    /// Nobody answered.
    #[error("no connection to {authority} within {limit:?}")]
    Timeout {
        /// Where to.
        authority: Arc<str>,
        /// The connect time-out.
        limit: Duration,
    },
    /// Somebody answered, but not as the one that was meant.
    #[error("the handshake with {authority} failed")]
    Handshake {
        /// Where to.
        authority: Arc<str>,
        /// Why.
        #[source]
        error: HandshakeError,
    },
    /// Somebody answered, and takes no calls any more: it is ending, or ended at once.
    #[error("{authority} answers and takes no calls: it is ending")]
    Draining {
        /// Where to.
        authority: Arc<str>,
    },
    /// The last dial failed so recently that no new one is made.
    #[error("{authority} is not dialed again for {wait:?}")]
    Backoff {
        /// Where to.
        authority: Arc<str>,
        /// How long.
        wait: Duration,
        /// Why the last one failed.
        #[source]
        last: Option<Box<DialError>>,
    },
    /// The pool is closed.
    #[error("the connection pool is closed")]
    Closed,
}

impl DialError {
    /// No call was sent.
    pub fn outcome(&self) -> Outcome {
        Outcome::NeverSent
    }
}

/// What a dial needs.
pub(super) struct DialContext {
    pub(super) connector: Arc<dyn Connector>,
    pub(super) connect_timeout: Duration,
    pub(super) connection: ConnectionConfig,
}

impl DialContext {
    /// The byte stream alone.
    pub(super) async fn connect(&self, authority: &Arc<str>) -> Result<BoxIo, DialError> {
        let limit = self.connect_timeout;
        match timeout(limit, self.connector.connect(authority)).await {
            Ok(Ok(io)) => Ok(io),
            Ok(Err(error)) => Err(DialError::Connect {
                authority: authority.clone(),
                error: Arc::new(error),
            }),
            Err(_) => Err(DialError::Timeout {
                authority: authority.clone(),
                limit,
            }),
        }
    }

    pub(super) async fn dial(self, authority: &Arc<str>, meant: Identity) -> Result<Connection, DialError> {
        let io = self.connect(authority).await?;
        let connection = Connection::client(io, authority.to_string(), meant, self.connection)
            .await
            .map_err(|error| match error {
                HandshakeError::Connection(ended) if ended.is_orderly() => DialError::Draining {
                    authority: authority.clone(),
                },
                error => DialError::Handshake {
                    authority: authority.clone(),
                    error,
                },
            })?;
        // Counted as a failure: without a pause, such a peer would be dialed again and again until it is gone.
        if connection.is_open() {
            Ok(connection)
        } else {
            Err(DialError::Draining {
                authority: authority.clone(),
            })
        }
    }
}

type News = Option<Result<(), DialError>>;

/// A dial under way, as those who wait for it see it.
pub(super) struct Dial(watch::Receiver<News>);

/// Where its outcome is reported.
pub(super) struct Report(watch::Sender<News>);

impl Dial {
    pub(super) fn begin() -> (Dial, Report) {
        let (sender, receiver) = watch::channel(None);
        (Dial(receiver), Report(sender))
    }

    pub(super) fn subscribe(&self) -> Dial {
        Dial(self.0.clone())
    }

    pub(super) fn is_same(&self, other: &Dial) -> bool {
        self.0.same_channel(&other.0)
    }

    /// It has come to a connection.
    pub(super) fn has_succeeded(&self) -> bool {
        matches!(*self.0.borrow(), Some(Ok(())))
    }

    /// Waits for the outcome. `None`: the dial was given up with its runtime.
    pub(super) async fn outcome(&mut self) -> News {
        match self.0.wait_for(Option::is_some).await {
            Ok(news) => news.clone(),
            Err(_) => Some(Err(DialError::Closed)),
        }
    }
}

impl Report {
    pub(super) fn send(self, outcome: Result<(), DialError>) {
        self.0.send_replace(Some(outcome));
    }
}
