//! Waiting for something that must happen, and no longer than it may take.

use std::future::Future;
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// How often a state is looked at that nothing tells of.
const LOOK: Duration = Duration::from_millis(5);

/// Waits for `what`, which must come in time.
///
/// # Panics
///
/// When it does not.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} for {what}"),
    }
}

/// Waits until it is so. For states of which nothing tells; where something does, await that.
pub async fn eventually(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        sleep(LOOK).await;
    }
}
