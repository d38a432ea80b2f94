//! Latencies of many tasks in one histogram.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::job::Latency;

/// Up to a minute, three digits.
const LONGEST: u64 = 60_000_000_000;

/// Takes latencies.
#[derive(Clone)]
pub(super) struct Recorder(Arc<Mutex<Histogram<u64>>>);

impl Recorder {
    pub(super) fn new() -> anyhow::Result<Self> {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3)?;
        Ok(Recorder(Arc::new(Mutex::new(histogram))))
    }

    pub(super) fn record(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.lock().saturating_record(nanos.max(1));
    }

    /// Forgets what came before.
    pub(super) fn reset(&self) {
        self.lock().reset();
    }

    /// What was seen; nothing if nothing was.
    pub(super) fn summary(&self) -> Option<Latency> {
        let seen = self.lock();
        let at = |quantile| seen.value_at_quantile(quantile) as f64 / 1000.0;
        (!seen.is_empty()).then(|| Latency {
            count: seen.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: seen.max() as f64 / 1000.0,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_out_in_microseconds_to_three_digits() {
        let recorder = Recorder::new().unwrap();
        assert_eq!(recorder.summary(), None);
        for micros in 1..=1000 {
            recorder.record(Duration::from_micros(micros));
        }
        let seen = recorder.summary().unwrap();
        for (is, should) in [(seen.p50, 500.0), (seen.p99, 990.0), (seen.max, 1000.0)] {
            assert!((is / should - 1.0).abs() < 0.002, "{seen:?}");
        }
        recorder.reset();
        assert_eq!(recorder.summary(), None);
    }
}
