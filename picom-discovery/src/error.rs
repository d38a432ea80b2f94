//! What can go wrong between us and the source of discovery, and what one does about it. Errors of one value (a name,
//! a registration, a configuration) stand beside that value.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::excerpt::Excerpt;

/// Who limits or is overloaded is left alone for so long, whatever else it asks for.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// What discovery, asked for instances or to keep a registration, could not do.
///
/// Every message names whom we asked (`agent`) and, where there is something to be done, what. None of these empties
/// a set that was once known.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The agent has no such registration: it was restarted without its state, or someone removed it.
    #[error("{agent} no longer knows {id:?}; it is being registered again")]
    NotRegistered {
        /// Whom we asked.
        agent: Arc<str>,
        /// The id of the registration.
        id: Arc<str>,
    },
    /// The token is unknown, or may not do this (403, or a result that ACLs emptied).
    #[error("{agent} denied {request}: {text}; check CONSUL_HTTP_TOKEN and the policies of that token")]
    Denied {
        /// Whom we asked.
        agent: Arc<str>,
        /// What for.
        request: &'static str,
        /// Its words.
        text: Excerpt,
    },
    /// The agent or its servers limit our rate (429, or a 503 that says so).
    #[error("{agent} limits the rate of {request}: {text}{}", RetryAfter(*.retry_after))]
    RateLimited {
        /// Whom we asked.
        agent: Arc<str>,
        /// What for.
        request: &'static str,
        /// Its words.
        text: Excerpt,
        /// How long it asks us to wait, if it says so.
        retry_after: Option<Duration>,
    },
    /// It answers, but cannot do it now: no leader, no servers, a server that died (5xx).
    #[error("{agent} cannot serve {request} now ({status}): {text}; it is tried again")]
    Unavailable {
        /// Whom we asked.
        agent: Arc<str>,
        /// What for.
        request: &'static str,
        /// The HTTP status.
        status: u16,
        /// Its words.
        text: Excerpt,
        /// How long it asks us to wait, if it says so.
        retry_after: Option<Duration>,
    },
    /// It will never do this: the request itself is wrong (400, 405, an unknown datacenter).
    #[error("{agent} refused {request} as wrong ({status}): {text}; correct the configuration")]
    BadRequest {
        /// Whom we asked.
        agent: Arc<str>,
        /// What for.
        request: &'static str,
        /// The HTTP status.
        status: u16,
        /// Its words.
        text: Excerpt,
    },
    /// It could not be reached, or the connection broke.
    #[error("{agent} {phase}; {}", hint(*.phase))]
    Transport {
        /// Whom we asked.
        agent: Arc<str>,
        /// What we were doing: a failed dial means that the request never left.
        phase: Phase,
        /// The reason.
        source: Cause,
    },
    /// TLS to it came to nothing, because one side does not believe the other or does not speak it.
    #[error("{agent} {fault}")]
    Tls {
        /// Whom we asked.
        agent: Arc<str>,
        /// What is wrong.
        fault: TlsFault,
        /// Its words.
        source: Cause,
    },
    /// A name could not be looked up in DNS.
    #[error("{agent} gave no answer for {name:?}; what was known of it is kept")]
    LookUp {
        /// Whom we asked.
        agent: Arc<str>,
        /// The name.
        name: Arc<str>,
        /// The reason.
        source: Cause,
    },
    /// It did not answer in time.
    #[error("{agent} {phase} within {after:?}; it may be stalled or wait for a leader")]
    Timeout {
        /// Whom we asked.
        agent: Arc<str>,
        /// What we were waiting for.
        phase: Phase,
        /// How long we waited.
        after: Duration,
    },
    /// It answered something that is not Consul's HTTP API, or more than we take.
    #[error("{agent} answered {request} with {fault}; is that a Consul agent?")]
    Protocol {
        /// Whom we asked.
        agent: Arc<str>,
        /// What for.
        request: &'static str,
        /// What is wrong with the answer.
        fault: ProtocolFault,
    },
    /// More names are watched at once than connections may be open; they take turns.
    #[error(
        "{limit} names are watched through {agent} already, one connection each, and this one waits for its turn: Consul \
         takes 200 connections from one address (limits.http_max_conns_per_client); watch fewer names, or raise max_watches"
    )]
    TooManyWatches {
        /// Whom we would ask.
        agent: Arc<str>,
        /// The limit.
        limit: usize,
    },
    /// The instance itself says that it does not serve: its check is failed on purpose.
    #[error("{id:?} does not serve at the moment, by its own account; its check is failed on purpose")]
    NotServing {
        /// The id of the registration.
        id: Arc<str>,
    },
    /// What kept this up to date has ended, with the runtime it ran on.
    #[error("the task that watched or kept this through {agent} has ended with its runtime")]
    Stopped {
        /// Whom it asked.
        agent: Arc<str>,
    },
}

/// What of an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Opening a connection: nothing was sent.
    Dial,
    /// Sending the request or waiting for the answer: the agent may have carried it out.
    Exchange,
    /// Reading the rest of an answer that had begun.
    Body,
}

/// Who is wrong about TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TlsFault {
    /// The agent's certificate is not believed.
    #[error(
        "showed a certificate that is not believed; check CONSUL_CACERT, CONSUL_CAPATH and CONSUL_TLS_SERVER_NAME"
    )]
    Theirs,
    /// It wants a certificate of ours, or another one.
    #[error(
        "wants a client certificate, or another than ours; check CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY"
    )]
    Ours,
    /// It speaks something else.
    #[error("does not speak TLS at this port; check CONSUL_HTTP_ADDR and CONSUL_HTTP_SSL")]
    NotSpoken,
}

/// How an answer breaks the rules.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolFault {
    /// The body is larger than we take.
    #[error("a body over the limit of {limit} bytes (max_body)")]
    BodyTooLarge {
        /// The limit.
        limit: usize,
    },
    /// A status no rule of the API explains; redirects are not followed.
    #[error("the status {0}")]
    Status(u16),
    /// The body is not the JSON that belongs there.
    #[error("a body that is not the JSON expected there ({0})")]
    Json(Excerpt),
    /// Every entry of a non-empty list was unreadable.
    #[error("a list of {entries} entries of which none is readable ({first})")]
    NoReadableEntry {
        /// How many there were.
        entries: usize,
        /// What is wrong with the first.
        first: Excerpt,
    },
}

/// The cause of a transport error; shared, because errors are published to many watchers.
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// Why a registration did not come about.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The registration can never succeed as it is.
    #[error("{service:?} cannot be registered")]
    Refused {
        /// The service.
        service: String,
        /// The registry's words.
        source: Arc<DiscoveryError>,
    },
    /// The registry did not confirm it now, and [`OnUnavailable::Fail`](crate::OnUnavailable::Fail) was asked for.
    #[error("{service:?} could not be registered")]
    Unavailable {
        /// The service.
        service: String,
        /// What happened.
        source: Arc<DiscoveryError>,
    },
    /// A lease of this id is held already through the same handle.
    #[error("{id:?} is registered already by this process; end that lease first or choose another id")]
    Duplicate {
        /// The id.
        id: String,
    },
    /// There is nothing to run the heartbeats on.
    #[error("the heartbeats of {service:?} cannot be run")]
    Lane {
        /// The service.
        service: String,
        /// The reason.
        source: Arc<io::Error>,
    },
}

/// Why a registration may still be there after [`Lease::end`](crate::Lease::end). The attempt goes on in the
/// background for a while; after that the registry removes the entry itself once its check has been critical for
/// `deregister_after`.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum EndError {
    /// The bound passed without a confirmation.
    #[error("{id:?} was not confirmed as deregistered within {bound:?}")]
    Timeout {
        /// The id of the registration.
        id: Arc<str>,
        /// The bound given.
        bound: Duration,
    },
    /// The registry kept refusing or failing.
    #[error("{id:?} could not be deregistered")]
    Failed {
        /// The id of the registration.
        id: Arc<str>,
        /// The last thing that went wrong.
        source: Arc<DiscoveryError>,
    },
}

impl DiscoveryError {
    /// Whether trying the same again cannot help.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::BadRequest { .. })
    }

    /// How long nothing should be asked after this, at least: what was asked for, and a second after 429 and 503.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let (asked, overloaded) = match self {
            Self::RateLimited { retry_after, .. } => (*retry_after, true),
            Self::Unavailable {
                retry_after, status, ..
            } => (*retry_after, *status == 503),
            _ => return None,
        };
        (overloaded || asked.is_some()).then(|| asked.unwrap_or_default().max(LEAST_PAUSE))
    }

    /// Whether the agent has provably not carried the request out.
    pub(crate) fn is_unsent(&self) -> bool {
        match self {
            Self::Transport { phase, .. } | Self::Timeout { phase, .. } => *phase == Phase::Dial,
            Self::Tls { .. } | Self::Denied { .. } | Self::RateLimited { .. } | Self::BadRequest { .. } => {
                true
            }
            _ => false,
        }
    }

    /// Whether two errors are of one kind, so that a watcher need not hear of the second.
    pub(crate) fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// An error with its causes in one line, for logs.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dial => "could not be connected to",
            Self::Exchange => "did not answer",
            Self::Body => "did not finish its answer",
        })
    }
}

fn hint(phase: Phase) -> &'static str {
    match phase {
        Phase::Dial => "is it running, and is the address right?",
        Phase::Exchange | Phase::Body => {
            "it was stopped, or has more connections from this address than limits.http_max_conns_per_client"
        }
    }
}

struct RetryAfter(Option<Duration>);

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(after) => write!(f, "; it asks us to wait {after:?}"),
            None => f.write_str("; we wait a second or more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Arc<str> {
        "Consul at 127.0.0.1:8500".into()
    }

    #[test]
    fn every_message_of_the_agent_names_its_address() {
        let text = || Excerpt::new("words");
        let cause: Cause = Arc::new(io::Error::other("refused"));
        for error in [
            DiscoveryError::NotRegistered {
                agent: agent(),
                id: "a-1".into(),
            },
            DiscoveryError::Denied {
                agent: agent(),
                request: "a heartbeat",
                text: text(),
            },
            DiscoveryError::RateLimited {
                agent: agent(),
                request: "a watch",
                text: text(),
                retry_after: None,
            },
            DiscoveryError::Unavailable {
                agent: agent(),
                request: "a watch",
                status: 500,
                text: text(),
                retry_after: None,
            },
            DiscoveryError::BadRequest {
                agent: agent(),
                request: "a watch",
                status: 400,
                text: text(),
            },
            DiscoveryError::Transport {
                agent: agent(),
                phase: Phase::Dial,
                source: cause,
            },
            DiscoveryError::Timeout {
                agent: agent(),
                phase: Phase::Body,
                after: Duration::from_secs(1),
            },
            DiscoveryError::Protocol {
                agent: agent(),
                request: "a watch",
                fault: ProtocolFault::Status(301),
            },
            DiscoveryError::TooManyWatches {
                agent: agent(),
                limit: 1,
            },
            DiscoveryError::Stopped { agent: agent() },
        ] {
            assert!(error.to_string().contains("127.0.0.1:8500"), "{error}");
        }
    }

    #[test]
    fn a_transport_error_keeps_its_cause_in_source_only() {
        let cause: Cause = Arc::new(io::Error::other("connection refused"));
        let error = DiscoveryError::Transport {
            agent: agent(),
            phase: Phase::Dial,
            source: cause,
        };
        assert!(!error.to_string().contains("refused"));
        assert_eq!(error.source().unwrap().to_string(), "connection refused");
    }
}
