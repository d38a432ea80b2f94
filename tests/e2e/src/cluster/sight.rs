//! What a watch of the product saw while servers failed, with the moment of each sight.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use picom_discovery::consul::{Consul, ConsulConfig};
use picom_discovery::{Discovery as _, Freshness, ServiceName, Snapshot};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::patience::within;

/// A snapshot, and when it was shown.
pub type Shown = (Instant, Arc<Snapshot>);

/// A watch and all it has shown.
#[derive(Debug)]
pub struct Sight {
    seen: Arc<Mutex<Vec<Shown>>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Sight {
    /// Watches a service at an agent, as a process of its own would.
    ///
    /// # Panics
    ///
    /// When the name is none.
    pub fn of(agent: SocketAddr, service: &str) -> Self {
        let service: ServiceName = service.parse().expect("the names of tests are in order");
        let config = ConsulConfig::new(agent.ip().to_string(), agent.port());
        let consul = Consul::new(config).expect("a configuration in order");
        let mut watch = consul.watch(&service);
        let seen = Arc::new(Mutex::new(vec![(Instant::now(), watch.latest())]));
        let (told, count) = watch::channel(1);
        let list = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                let next = watch.changed().await;
                list.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((Instant::now(), next));
                told.send_modify(|count| *count += 1);
            }
        });
        Self { seen, count, task }
    }

    /// The first sight since then that is as wanted, waited for.
    ///
    /// # Panics
    ///
    /// When it does not come in time.
    pub async fn first(
        &self,
        since: Instant,
        limit: Duration,
        what: &str,
        is_so: impl Fn(&Snapshot) -> bool,
    ) -> Instant {
        let mut count = self.count.clone();
        let found = async {
            loop {
                count.borrow_and_update();
                let seen = self.all();
                if let Some((at, _)) = seen.iter().find(|(at, now)| *at >= since && is_so(now)) {
                    return *at;
                }
                // The task that tells ends with this value only.
                let _ = count.changed().await;
            }
        };
        within(limit, what, found).await
    }

    /// Everything it has shown.
    pub fn all(&self) -> Vec<Shown> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether the source of a sight could not be asked.
pub fn is_stale(now: &Snapshot) -> bool {
    matches!(now.freshness, Freshness::Stale { .. })
}

/// The ports of the instances that new calls may go to.
pub fn usable(now: &Snapshot) -> Vec<u16> {
    now.usable().map(|one| one.port).collect()
}
