//! How snapshots travel from a source to those who watch a name: a slot with the newest one, nothing queued.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;

use crate::name::ServiceName;
use crate::snapshot::Snapshot;

/// The instances of one service, kept up to date by the source it came from. Cloning is cheap; all clones see the same
/// snapshots. The source goes on, without its handle too, until the last `Watch` of the name is dropped.
#[derive(Debug, Clone)]
pub struct Watch {
    latest: watch::Receiver<Arc<Snapshot>>,
}

/// The other end of [`Watch`]: for those who write a source of their own.
#[derive(Debug)]
pub struct Publisher {
    latest: watch::Sender<Arc<Snapshot>>,
}

impl Watch {
    /// The newest snapshot, at once: no lock is held, nothing is asked. A pending snapshot (no answer yet) is one too.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.latest.borrow().clone()
    }

    /// Waits for a snapshot newer than the last one `changed` or [`ready`](Self::ready) of this handle returned, and
    /// returns the newest; those between are skipped. A new handle counts the snapshot it began with as seen.
    ///
    /// Pends for ever once the source is gone (a `Fixed` never changes; the runtime of a Consul watch was shut down,
    /// after which the last snapshot is stale): what is known stays known.
    ///
    /// Cancel safe: a snapshot that was not returned is returned by the next call.
    pub async fn changed(&mut self) -> Arc<Snapshot> {
        if self.latest.changed().await.is_err() {
            pending::<()>().await;
        }
        self.latest.borrow_and_update().clone()
    }

    /// Waits until the source has answered once, and returns the newest snapshot. It may be stale, never pending. For
    /// how long is the caller's decision: while the source cannot be asked this pends.
    ///
    /// Cancel safe.
    pub async fn ready(&mut self) -> Arc<Snapshot> {
        let ready = self.latest.wait_for(|snapshot| snapshot.is_ready()).await;
        if let Ok(snapshot) = ready {
            return snapshot.clone();
        }
        drop(ready);
        pending().await
    }
}

impl Publisher {
    /// A slot for `service` that holds the pending snapshot.
    pub fn new(service: ServiceName) -> Self {
        Self {
            latest: watch::Sender::new(Arc::new(Snapshot::pending(service))),
        }
    }

    /// One more handle.
    pub fn watch(&self) -> Watch {
        Watch {
            latest: self.latest.subscribe(),
        }
    }

    /// The snapshot last published.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.latest.borrow().clone()
    }

    /// Publishes `snapshot` with the next revision.
    pub fn publish(&self, mut snapshot: Snapshot) {
        self.latest.send_modify(|latest| {
            snapshot.revision = latest.revision.wrapping_add(1);
            *latest = Arc::new(snapshot);
        });
    }

    /// Whether no [`Watch`] is left at this moment.
    pub fn is_unwatched(&self) -> bool {
        self.latest.receiver_count() == 0
    }

    /// Waits until no [`Watch`] is left. Cancel safe.
    pub async fn unwatched(&self) {
        self.latest.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Instance;
    use crate::snapshot::Freshness;

    fn live(ports: &[u16]) -> Snapshot {
        let name = ServiceName::new("s").unwrap();
        Snapshot::live(
            name.clone(),
            ports.iter().map(|port| Instance::at(name.clone(), "h", *port)),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn ready_skips_what_is_pending() {
        let publisher = Publisher::new(ServiceName::new("s").unwrap());
        let mut watch = publisher.watch();
        let waiting = tokio::spawn(async move { watch.ready().await });
        tokio::task::yield_now().await;
        publisher.publish(Snapshot::pending(ServiceName::new("s").unwrap()));
        publisher.publish(live(&[1]));
        let snapshot = waiting.await.unwrap();
        assert!(matches!(snapshot.freshness, Freshness::Live));
        assert_eq!((snapshot.revision, snapshot.instances.len()), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn changed_returns_the_newest_once() {
        let publisher = Publisher::new(ServiceName::new("s").unwrap());
        let mut watch = publisher.watch();
        publisher.publish(live(&[1]));
        publisher.publish(live(&[1, 2]));
        assert_eq!(watch.changed().await.instances.len(), 2);
        let wait = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(wait, watch.changed()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_source_the_last_snapshot_stays_and_changed_pends() {
        let publisher = Publisher::new(ServiceName::new("s").unwrap());
        let mut watch = publisher.watch();
        publisher.publish(live(&[1]));
        drop(publisher);
        assert_eq!(watch.ready().await.instances.len(), 1);
        let wait = std::time::Duration::from_secs(3600);
        assert!(tokio::time::timeout(wait, watch.changed()).await.is_err());
        assert_eq!(watch.latest().instances.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_publisher_learns_that_the_last_watch_is_gone() {
        let publisher = Publisher::new(ServiceName::new("s").unwrap());
        let watch = publisher.watch();
        let clone = watch.clone();
        drop(watch);
        assert!(!publisher.is_unwatched());
        drop(clone);
        publisher.unwatched().await;
        assert!(publisher.is_unwatched());
    }
}
