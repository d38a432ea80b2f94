//! Connections for calls that do not block: a few, kept between calls, and shared by all clients of the process that use the
//! same agent in the same way.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::address::AgentAddress;
use super::api::Request;
use super::config::{ConsulConfig, TlsSettings};
use super::http::{Answer, Connection, Http, Patience};
use crate::error::{DiscoveryError, Phase};
use crate::lane::Lane;

/// An idle connection is not used again after this: long enough for heartbeats and the look every minute, shorter than
/// the idle times of ordinary proxies and NATs between us and a remote agent.
const MAX_IDLE: Duration = Duration::from_secs(75);
/// Calls of one kind that all clients may have under way at one agent, and as many connections that wait for the next.
/// Heartbeats are one kind and the rest another; with the 128 connections of watches that makes 176, which leaves some of
/// Consul's 200 to other processes.
const SHARED: usize = 12;
/// Calls of one kind that one client may have under way: one is enough until an agent hangs; then a few registrations
/// should not wait for each other's time-outs.
const PLACES: usize = 4;

/// The calls of one kind that all clients have at one agent.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    active: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Idle>>>,
}

/// The calls of one kind of one client.
#[derive(Debug)]
pub(crate) struct Pool {
    http: Arc<Http>,
    kin: Kin,
    places: Semaphore,
    share: Share,
}

/// Whose connections a client may use: those to the same place, with the same certificates. What differs else is sent with
/// every request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kin {
    /// Of clients whose heartbeats run on the thread of the process.
    All(AgentAddress, TlsSettings),
    /// Of this client alone: its runtime may end before that of others.
    Own(u64),
}

/// A connection that waits for its next call.
struct Idle {
    connection: Connection,
    since: Instant,
    kin: Kin,
}

impl Share {
    pub(crate) fn new() -> Self {
        Self {
            active: Arc::new(Semaphore::new(SHARED)),
            idle: Arc::default(),
        }
    }

    async fn active(&self) -> Option<OwnedSemaphorePermit> {
        self.active.clone().acquire_owned().await.ok()
    }

    fn take(&self, kin: &Kin, now: Instant) -> Option<Connection> {
        let mut idle = self.lock(now);
        let found = idle.iter().rposition(|one| one.kin == *kin)?;
        Some(idle.swap_remove(found).connection)
    }

    /// Keeps a connection for the next call, or closes it if there are enough.
    fn keep(&self, connection: Connection, kin: &Kin, now: Instant) {
        let mut idle = self.lock(now);
        if idle.len() < SHARED {
            idle.push(Idle {
                connection,
                since: now,
                kin: kin.clone(),
            });
        }
    }

    /// Those that can still be used.
    fn lock(&self, now: Instant) -> MutexGuard<'_, Vec<Idle>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| !one.connection.is_closed() && now.saturating_duration_since(one.since) < MAX_IDLE);
        idle
    }
}

impl Kin {
    /// Of the client with these settings.
    pub(crate) fn of(config: &ConsulConfig) -> Self {
        if config.lane == Lane::Inline {
            return Self::own();
        }
        let mut address = config.address.clone();
        if let AgentAddress::Tcp { prefix, .. } = &mut address {
            prefix.clear();
        }
        Self::All(address, config.tls.clone())
    }

    /// Of a client that shares with nobody.
    pub(crate) fn own() -> Self {
        Self::Own(crate::random::seed())
    }
}

impl Pool {
    pub(crate) fn new(http: Arc<Http>, kin: Kin, share: Share) -> Self {
        Self {
            http,
            kin,
            places: Semaphore::new(PLACES),
            share,
        }
    }

    /// One exchange of an idempotent request (all of ours are), all of it within `within`; waiting for a place counts.
    pub(crate) async fn call(
        &self,
        request: &Request,
        token: Option<&HeaderValue>,
        within: Duration,
    ) -> Result<Answer, DiscoveryError> {
        let begun = Instant::now();
        // Of ours first: who waits for one of those takes none from another client.
        let places = async { Some((self.places.acquire().await.ok()?, self.share.active().await?)) };
        let Ok(Some(_places)) = timeout_at(begun + within, places).await else {
            // Nothing was sent.
            let agent = self.http.agent.clone();
            return Err(DiscoveryError::Timeout {
                agent,
                phase: Phase::Dial,
                after: within,
            });
        };
        let mut connection = self.share.take(&self.kin, begun);
        let patience = Patience {
            head: within.saturating_sub(begun.elapsed()),
            body: None,
            again: true,
        };
        let answer = self
            .http
            .exchange(&mut connection, request, token, patience)
            .await;
        if let Some(connection) = connection {
            self.share.keep(connection, &self.kin, Instant::now());
        }
        answer
    }
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle")
            .field("kin", &self.kin)
            .finish_non_exhaustive()
    }
}
