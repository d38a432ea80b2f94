//! How many connections there may be to one agent: a budget, shared by all clients of the process that use it, for watches,
//! for heartbeats and for other calls. Names beyond it take turns, first come, first served; calls wait for each other.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::address::AgentAddress;
use super::pool::Share;
use crate::instance::authority;

/// How long a name that others wait for keeps its place: it costs a new connection every time, and hears of changes at
/// once in between.
const TURN: Duration = Duration::from_secs(2);

/// The connections at one agent.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Of heartbeats.
    pub(crate) beats: Share,
    /// Of registrations, deregistrations and the like.
    pub(crate) calls: Share,
    limit: usize,
    places: Arc<Semaphore>,
    /// One for each name that has begun to wait: whoever has a place takes one, and then gives its place back.
    wanted: Semaphore,
}

/// The budgets in use, by agent.
static BUDGETS: Mutex<Option<HashMap<String, Weak<Budget>>>> = Mutex::new(None);

impl Budget {
    /// A budget of one's own.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            beats: Share::new(),
            calls: Share::new(),
            limit,
            places: Arc::new(Semaphore::new(limit)),
            wanted: Semaphore::new(0),
        })
    }

    /// The budget of all clients of the agent at this address. Different spellings of one host are one, as far as that can
    /// be told without asking anybody; `limit` is that of the first of them, and whoever comes with another is
    /// told so in the log.
    pub(crate) fn of(address: &AgentAddress, limit: usize) -> Arc<Self> {
        let agent = key(address);
        let mut budgets = BUDGETS.lock().unwrap_or_else(PoisonError::into_inner);
        let budgets = budgets.get_or_insert_default();
        budgets.retain(|_, budget| budget.strong_count() > 0);
        if let Some(budget) = budgets.get(&agent).and_then(Weak::upgrade) {
            if budget.limit != limit {
                tracing::warn!(
                    %agent,
                    asked = limit,
                    counts = budget.limit,
                    "max_watches is another than that of the client of this agent that came first, which counts for both"
                );
            }
            return budget;
        }
        let budget = Self::new(limit);
        budgets.insert(agent, Arc::downgrade(&budget));
        budget
    }

    /// How many places there are.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// A place, if one is free and nobody waits for it.
    pub(crate) fn try_place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// The next place that is given back, after those who waited before. Cancel safe: who gives up waiting loses its
    /// turn, and somebody may give a place back for nobody.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let waiting = self.places.clone().acquire_owned();
        self.wanted.add_permits(1);
        waiting.await.ok()
    }

    /// Returns when the place that was got just now should be given back: after a turn, once somebody waits. Cancel
    /// safe.
    pub(crate) async fn turn_is_over(&self) {
        tokio::time::sleep(TURN).await;
        if let Ok(wish) = self.wanted.acquire().await {
            wish.forget();
        }
    }
}

/// Whom an address means. The path before `/v1` does not matter: connections are counted, not requests. `localhost` is
/// `127.0.0.1`, while `::1` is not: Consul counts by the address a connection comes from.
fn key(address: &AgentAddress) -> String {
    match address {
        AgentAddress::Tcp { host, port, .. } => {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            let host = match (host.as_str(), host.parse::<IpAddr>()) {
                ("localhost", _) => Ipv4Addr::LOCALHOST.to_string(),
                (_, Ok(address)) => address.to_canonical().to_string(),
                _ => host,
            };
            authority(&host, *port)
        }
        AgentAddress::Unix { .. } => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> AgentAddress {
        text.parse().unwrap()
    }

    #[test]
    fn clients_of_one_agent_share_a_budget_while_one_lives() {
        let first = Budget::of(&at("budget-test:1"), 3);
        let second = Budget::of(&at("http://Budget-Test.:1/path"), 9);
        assert!(Arc::ptr_eq(&first, &second) && second.limit() == 3);
        assert_eq!(Budget::of(&at("budget-test:2"), 9).limit(), 9);
        drop((first, second));
        assert_eq!(Budget::of(&at("budget-test:1"), 5).limit(), 5);
    }

    #[test]
    fn spellings_of_one_host_are_one_agent() {
        for (one, other) in [
            ("localhost:8500", "127.0.0.1:8500"),
            (":8500", "LOCALHOST:8500"),
            ("[::1]:8500", "[0:0:0:0:0:0:0:1]:8500"),
            ("[::ffff:127.0.0.1]:8500", "127.0.0.1:8500"),
        ] {
            assert_eq!(key(&at(one)), key(&at(other)));
        }
        assert_ne!(key(&at("localhost:1")), key(&at("localhost:2")));
        assert_ne!(key(&at("[::1]:1")), key(&at("127.0.0.1:1")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_ends_when_somebody_waits_and_not_before() {
        let budget = Budget::new(1);
        let held = budget.try_place().unwrap();
        assert!(budget.try_place().is_none());
        let alone = tokio::time::timeout(Duration::from_secs(3600), budget.turn_is_over()).await;
        assert!(alone.is_err());
        let next = budget.clone();
        let next = tokio::spawn(async move { next.place().await });
        tokio::time::timeout(TURN, budget.turn_is_over()).await.unwrap();
        drop(held);
        assert!(next.await.unwrap().is_some());
    }
}
