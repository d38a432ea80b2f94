//! What a watcher sees, and for how long: the questions every behaviour asks.

use std::sync::Arc;
use std::time::Duration;

use picom_discovery::{Snapshot, Watch};
use tokio::time::{Instant, timeout, timeout_at};

/// The ports of the instances new calls may go to, in order.
pub(crate) fn usable(snapshot: &Snapshot) -> Vec<u16> {
    let mut ports: Vec<_> = snapshot.usable().map(|one| one.port).collect();
    ports.sort_unstable();
    ports
}

/// The ports of all instances, in order.
pub(crate) fn listed(snapshot: &Snapshot) -> Vec<u16> {
    let mut ports: Vec<_> = snapshot.instances.iter().map(|one| one.port).collect();
    ports.sort_unstable();
    ports
}

/// Waits until the watch shows what is wanted, and says how long that took.
pub(crate) async fn until(
    watch: &mut Watch,
    within: Duration,
    wanted: impl Fn(&Snapshot) -> bool,
) -> Duration {
    let begun = Instant::now();
    let waiting = async {
        let mut latest = watch.latest();
        while !wanted(&latest) {
            latest = watch.changed().await;
        }
    };
    if timeout(within, waiting).await.is_err() {
        panic!("not within {within:?}: {:?}", watch.latest());
    }
    begun.elapsed()
}

/// Every snapshot of the next while keeps the promise.
pub(crate) async fn throughout(watch: &mut Watch, time: Duration, promise: impl Fn(&Snapshot) -> bool) {
    let end = Instant::now() + time;
    let mut latest: Arc<Snapshot> = watch.latest();
    loop {
        assert!(promise(&latest), "{latest:?}");
        match timeout_at(end, watch.changed()).await {
            Ok(next) => latest = next,
            Err(_) => return,
        }
    }
}
