//! One watched name: runs its blocking query on a connection of its own and publishes what changes. The rules of the
//! query are in `query.rs`, what is published is decided by [`successor`].

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::Client;
use super::answer::Asked;
use super::entry::{Reading, Taken};
use super::http::{Connection, Patience};
use super::query::{BlockingQuery, Next, Plan, Verdict};
use super::recall::Recall;
use crate::error::DiscoveryError;
use crate::instance::Instance;
use crate::name::ServiceName;
use crate::snapshot::{Freshness, Snapshot, reuse};
use crate::watch::Publisher;

/// For the body of an answer, once its head has come: 32 MiB at 1 MB/s.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// A set that was looked at this long ago is not said to be live any more, though nothing went wrong: its name waits for
/// its turn. The bound of a server's silence is the same.
const UNSEEN: Duration = Duration::from_secs(10);

/// Watches one name until nobody does any more.
pub(crate) struct Resolver {
    client: Arc<Client>,
    service: ServiceName,
    publisher: Arc<Publisher>,
    query: BlockingQuery,
    random: fastrand::Rng,
    last: Recall<Taken>,
    /// Errors of a kind are told to the operator once, until a good answer.
    warned: Option<Arc<DiscoveryError>>,
    /// Dropped with the rest, also when the task never ran.
    _farewell: Farewell,
}

impl Resolver {
    pub(crate) fn new(client: Arc<Client>, service: ServiceName, publisher: Arc<Publisher>) -> Self {
        let query = BlockingQuery::new(client.wait);
        let random = client.fork_random();
        let _farewell = Farewell {
            client: client.clone(),
            service: service.clone(),
            publisher: publisher.clone(),
        };
        Self {
            client,
            service,
            publisher,
            query,
            random,
            last: Recall::default(),
            warned: None,
            _farewell,
        }
    }

    /// Runs until the last [`Watch`](crate::Watch) of the name is gone; that closes the connection too.
    pub(crate) async fn run(mut self) {
        tracing::debug!(service = %self.service, agent = %self.client.agent, "watch begins");
        let publisher = self.publisher.clone();
        loop {
            tokio::select! {
                biased;
                () = publisher.unwatched() => {}
                () = self.watch() => {}
            }
            // Under the lock that hands out watches: either nobody has got one meanwhile, or we go on.
            let mut resolvers = self
                .client
                .resolvers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if publisher.is_unwatched() {
                resolvers.remove(&self.service);
                break;
            }
        }
        tracing::debug!(service = %self.service, agent = %self.client.agent, "watch ends");
    }

    /// Reads for ever; dropped when the last watch is gone. When others wait for their turn, they get it.
    async fn watch(&mut self) {
        let budget = self.client.budget.clone();
        loop {
            let _place = self.place().await;
            let turn = budget.turn_is_over();
            tokio::pin!(turn);
            self.read_until(turn).await;
            // Who has the next place may get an agent that was restarted meanwhile.
            self.query.begin_anew();
        }
    }

    /// Reads until the turn is over. A read that blocks is broken off then; a plain one is waited for, or a name would
    /// never be read through a slow agent.
    async fn read_until(&mut self, mut turn: Pin<&mut impl Future<Output = ()>>) {
        let mut connection: Option<Connection> = None;
        loop {
            // Closed while we rested, that is by an agent that stopped: a blocking read with an index from before would
            // wait in vain at the one that took its place. (An agent that closes after every answer says so, and then
            // there is no connection here.)
            if connection.take_if(|connection| connection.is_closed()).is_some() {
                self.query.begin_anew();
            }
            let now = tokio::time::Instant::now();
            match self.query.next(now.into_std(), self.random.u64(..)) {
                Next::Read(plan) if plan.block.is_none() => self.read(plan, &mut connection).await,
                Next::Read(plan) => tokio::select! {
                    biased;
                    () = self.read(plan, &mut connection) => {}
                    () = &mut turn => return,
                },
                Next::Sleep(until) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(until.into()) => {}
                    () = &mut turn => return,
                },
            }
        }
    }

    /// One of the connections all watches of an agent may have together. What is known becomes stale if that takes long.
    async fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        let budget = self.client.budget.clone();
        if let Some(place) = budget.try_place() {
            return Some(place);
        }
        let waiting = budget.place();
        tokio::pin!(waiting);
        let is_ready = self.publisher.latest().is_ready();
        if is_ready && let Ok(place) = tokio::time::timeout(UNSEEN, &mut waiting).await {
            return place;
        }
        let agent = self.client.agent.clone();
        let limit = budget.limit();
        self.failed(DiscoveryError::TooManyWatches { agent, limit });
        waiting.await
    }

    async fn read(&mut self, plan: Plan, connection: &mut Option<Connection>) {
        let result = self.ask(plan, connection).await;
        let now = tokio::time::Instant::now().into_std();
        match result {
            Ok(reading) => {
                tracing::trace!(
                    service = %self.service, index = reading.index, instances = reading.instances.len(),
                    skipped = reading.skipped, "answer"
                );
                let in_touch = reading.out_of_touch.is_none();
                match self.query.answered(now, reading.index, in_touch) {
                    Verdict::Publish => self.publish(now, reading),
                    Verdict::ReadAgain => {
                        tracing::debug!(service = %self.service, "index has fallen, reading anew");
                    }
                }
            }
            Err(error) => {
                // What a broken exchange left of the connection is not worth keeping.
                *connection = None;
                self.query.failed(now, &error, self.random.u64(..));
                if matches!(error, DiscoveryError::Denied { .. }) {
                    self.client.token.refused();
                }
                self.failed(error);
            }
        }
    }

    async fn ask(
        &mut self,
        plan: Plan,
        connection: &mut Option<Connection>,
    ) -> Result<Reading, DiscoveryError> {
        let request = self.client.scope.health(&self.service, plan.block);
        let token = self
            .client
            .token
            .current(tokio::time::Instant::now().into_std())
            .await;
        let patience = Patience {
            head: plan.deadline,
            body: Some(BODY_WITHIN),
            again: false,
        };
        let answer = self
            .client
            .http
            .exchange(connection, &request, token.header.as_ref(), patience)
            .await?;
        Asked {
            agent: self.client.agent.clone(),
            purpose: request.purpose,
        }
        .read(&self.service, &answer, self.client.view, &mut self.last)
    }

    fn publish(&mut self, now: Instant, reading: Reading) {
        if self.warned.take().is_some() {
            tracing::info!(service = %self.service, agent = %self.client.agent, "watch works again");
        }
        let news = match reading.out_of_touch {
            None => News::Fresh(reading.instances),
            Some(error) => News::OutOfTouch(reading.instances, Arc::new(error)),
        };
        let last = self.publisher.latest();
        if let Some(next) = successor(&last, now, news) {
            let serves = |set: &Snapshot| set.instances.iter().any(|one| one.is_usable());
            let instances = next.instances.len();
            match (last.is_ready() && serves(&last), serves(&next)) {
                (false, true) => {
                    tracing::info!(service = %self.service, instances, "service found");
                }
                (true, false) => {
                    tracing::info!(service = %self.service, instances, "service lost: no instance passes");
                }
                _ => {}
            }
            self.publisher.publish(next);
        }
    }

    fn failed(&mut self, error: DiscoveryError) {
        let now = tokio::time::Instant::now().into_std();
        let error = Arc::new(error);
        if !self.warned.as_ref().is_some_and(|known| known.same_kind(&error)) {
            tracing::warn!(
                service = %self.service, error = %crate::error::chain(&*error),
                "watch fails; what is known is kept"
            );
            self.warned = Some(error.clone());
        }
        if let Some(next) = successor(&self.publisher.latest(), now, News::Failed(error)) {
            self.publisher.publish(next);
        }
    }
}

/// What a read brought.
enum News {
    Fresh(Vec<Arc<Instance>>),
    /// A set from a server that has lost touch with its leader.
    OutOfTouch(Vec<Arc<Instance>>, Arc<DiscoveryError>),
    Failed(Arc<DiscoveryError>),
}

/// The snapshot after `last`, if there is something to tell: another set, or another freshness. An error keeps the set.
fn successor(last: &Snapshot, now: Instant, news: News) -> Option<Snapshot> {
    let (instances, same) = match &news {
        News::Fresh(instances) | News::OutOfTouch(instances, _) => reuse(&last.instances, instances.clone()),
        News::Failed(_) => (last.instances.clone(), true),
    };
    let freshness = match (&last.freshness, news) {
        (Freshness::Live, News::Fresh(_)) if same => return None,
        (_, News::Fresh(_)) => Freshness::Live,
        (Freshness::Pending { error: Some(known) }, News::Failed(error)) if known.same_kind(&error) => {
            return None;
        }
        (Freshness::Pending { .. }, News::Failed(error)) => Freshness::Pending { error: Some(error) },
        (Freshness::Stale { .. }, News::Failed(_) | News::OutOfTouch(..)) if same => return None,
        (Freshness::Stale { since, error }, News::Failed(_) | News::OutOfTouch(..)) => Freshness::Stale {
            since: *since,
            error: error.clone(),
        },
        (_, News::Failed(error) | News::OutOfTouch(_, error)) => Freshness::Stale { since: now, error },
    };
    // The publisher counts the revisions.
    Some(Snapshot {
        service: last.service.clone(),
        instances,
        freshness,
        revision: last.revision,
    })
}

/// Says that the watch has ended, if it did not end by itself: its runtime was shut down, or it panicked.
struct Farewell {
    client: Arc<Client>,
    service: ServiceName,
    publisher: Arc<Publisher>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let mut resolvers = self
            .client
            .resolvers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if resolvers
            .get(&self.service)
            .is_some_and(|known| Arc::ptr_eq(known, &self.publisher))
        {
            // The next to watch this name starts anew; those who do already learn that nothing more will come.
            resolvers.remove(&self.service);
        }
        drop(resolvers);
        if !self.publisher.is_unwatched() {
            let error = Arc::new(DiscoveryError::Stopped {
                agent: self.client.agent.clone(),
            });
            let now = tokio::time::Instant::now().into_std();
            if let Some(next) = successor(&self.publisher.latest(), now, News::Failed(error)) {
                self.publisher.publish(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ServiceName {
        ServiceName::new("s").unwrap()
    }

    fn set(ports: &[u16]) -> Vec<Arc<Instance>> {
        Snapshot::live(name(), ports.iter().map(|port| Instance::at(name(), "h", *port))).instances
    }

    fn error(status: u16) -> Arc<DiscoveryError> {
        let text = crate::Excerpt::new("x");
        let agent: Arc<str> = "a".into();
        Arc::new(match status {
            403 => DiscoveryError::Denied {
                agent,
                request: "a watch",
                text,
            },
            _ => DiscoveryError::Unavailable {
                agent,
                request: "a watch",
                status,
                text,
                retry_after: None,
            },
        })
    }

    #[test]
    fn freshness_and_set_follow_a_table() {
        let now = tokio::time::Instant::now().into_std();
        let later = now + Duration::from_secs(5);
        let with = |instances, freshness| Snapshot {
            service: name(),
            instances,
            freshness,
            revision: 3,
        };
        let pending = with(vec![], Freshness::Pending { error: None });
        let failing = with(
            vec![],
            Freshness::Pending {
                error: Some(error(500)),
            },
        );
        let live = with(set(&[1]), Freshness::Live);
        let stale = with(
            set(&[1]),
            Freshness::Stale {
                since: now,
                error: error(500),
            },
        );
        let show = |snapshot: Option<Snapshot>| {
            snapshot.map(|snapshot| {
                let word = match snapshot.freshness {
                    Freshness::Pending { error } => format!("pending {}", error.is_some()),
                    Freshness::Live => "live".to_owned(),
                    Freshness::Stale { since, .. } => format!("stale {}", (since - now).as_secs()),
                };
                (
                    snapshot.instances.iter().map(|one| one.port).collect::<Vec<_>>(),
                    word,
                )
            })
        };
        let some = |ports: &[u16], word: &str| Some((ports.to_vec(), word.to_owned()));
        let out = |ports: &[u16]| News::OutOfTouch(set(ports), error(500));
        for (number, (last, news, expected)) in [
            (&pending, News::Fresh(set(&[])), some(&[], "live")),
            (&pending, News::Failed(error(500)), some(&[], "pending true")),
            (&pending, out(&[2]), some(&[2], "stale 5")),
            (&failing, News::Failed(error(500)), None),
            (&failing, News::Failed(error(403)), some(&[], "pending true")),
            (&failing, News::Fresh(set(&[1])), some(&[1], "live")),
            (&live, News::Fresh(set(&[1])), None),
            (&live, News::Fresh(set(&[])), some(&[], "live")),
            (&live, News::Failed(error(403)), some(&[1], "stale 5")),
            (&live, out(&[1]), some(&[1], "stale 5")),
            (&stale, News::Failed(error(500)), None),
            (&stale, News::Failed(error(403)), None),
            (&stale, out(&[1]), None),
            (&stale, out(&[2]), some(&[2], "stale 0")),
            (&stale, News::Fresh(set(&[1])), some(&[1], "live")),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(show(successor(last, later, news)), expected, "row {number}");
        }
    }
}
