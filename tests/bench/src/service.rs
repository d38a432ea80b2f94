//! What every peer's server does, so that only the way there differs.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::now;

/// The name of the service, where a peer has names.
pub const SERVICE: &str = "bench";

/// The text in every item of a stream: 16 bytes.
pub const NAME: &str = "sixteen bytes ok";

/// The bytes of a chunk of a stream, and of a large echo.
pub const CHUNK: usize = 64 * 1024;

static SLOW: AtomicUsize = AtomicUsize::new(0);

/// A handler that takes longer than the measurement.
pub async fn slow() {
    SLOW.fetch_add(1, Ordering::Relaxed);
    pending().await
}

/// How many such handlers were started in this process.
pub fn slow_started() -> usize {
    SLOW.load(Ordering::Relaxed)
}

/// A handler that computes.
pub fn burn(micros: u64) {
    let end = now() + Duration::from_micros(micros);
    while now() < end {
        std::hint::spin_loop();
    }
}

/// The value of an item.
pub fn value(id: u64) -> f64 {
    id as f64 * 0.5
}
