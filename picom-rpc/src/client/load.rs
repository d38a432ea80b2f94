//! How loaded an endpoint is: calls in flight and a decayed peak of their latency. Whom to choose is `balance.rs`.
//! Pure: time is an argument, and reading the cost changes nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How fast a measured latency is forgotten: after this span it counts for 1/e. Long enough to remember a slow endpoint
/// over a burst, short enough to try it again soon (Finagle's peak-EWMA uses the same 10 s).
const DECAY: Duration = Duration::from_secs(10);

/// What each call in flight costs at an endpoint that has never answered, in seconds. So high that a second call goes
/// elsewhere until the first has been answered, while an untried idle endpoint costs nothing and is tried.
const UNPROVEN: f64 = 1.0;

/// The floor of a measured latency, in seconds: below a microsecond the differences are noise, and a cost of zero
/// would hide the calls in flight.
const FLOOR: f64 = 1e-6;

/// The load of one endpoint, as one client sees it. Shared by the calls that go there.
#[derive(Debug, Default)]
pub(crate) struct Load {
    in_flight: AtomicU32,
    /// Seconds, at the moment beside it.
    latency: Mutex<Option<(f64, Instant)>>,
}

impl Load {
    /// A call was given to the endpoint.
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has ended, one that [`began`](Self::begin).
    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// A call got its answer (for a stream: its first message) after `latency`. A slower one than remembered counts at
    /// once, a faster one by and by.
    pub(crate) fn observe(&self, latency: Duration, now: Instant) {
        let seen = latency.as_secs_f64().max(FLOOR);
        let mut latency = self.latency();
        *latency = Some(match *latency {
            None => (seen, now),
            Some((old, at)) => {
                let kept = remembered(at, now);
                let value = if seen >= old * kept {
                    seen
                } else {
                    old * kept + seen * (1.0 - kept)
                };
                // What one connection heard last may be older than what another did: no past is forgotten twice.
                (value, now.max(at))
            }
        });
    }

    /// What one more call is expected to cost here. Smaller is better; comparable between endpoints of one service.
    pub(crate) fn cost(&self, weight: u32, now: Instant) -> f64 {
        let calls = f64::from(self.in_flight());
        let cost = match *self.latency() {
            None => calls * UNPROVEN,
            Some((value, at)) => (value * remembered(at, now)).max(FLOOR) * (calls + 1.0),
        };
        cost / f64::from(weight.max(1))
    }

    /// Calls given and not ended.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn latency(&self) -> MutexGuard<'_, Option<(f64, Instant)>> {
        // A number and a moment cannot be left half changed by a panic elsewhere.
        self.latency.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remembered(at: Instant, now: Instant) -> f64 {
    let spans = now.saturating_duration_since(at).as_secs_f64() / DECAY.as_secs_f64();
    // Busy endpoints answer within milliseconds of each other: there the tangent is the curve, to 1 in 2,000,000.
    if spans < 0.001 {
        1.0 - spans
    } else {
        (-spans).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn measured(latency: Duration, now: Instant) -> Load {
        let load = Load::default();
        load.observe(latency, now);
        load
    }

    #[test]
    fn an_untried_endpoint_is_tried_once_and_then_waited_for() {
        let now = base();
        let fresh = Load::default();
        assert!(fresh.cost(1, now) < measured(ms(1), now).cost(1, now));
        fresh.begin();
        assert!(fresh.cost(1, now) > measured(ms(100), now).cost(1, now));
    }

    #[test]
    fn a_peak_counts_at_once_and_recovery_takes_time() {
        let now = base();
        let load = measured(ms(1), now);
        load.observe(ms(100), now + ms(10));
        assert!(load.cost(1, now + ms(10)) > 0.09);
        load.observe(ms(1), now + ms(20));
        assert!(
            load.cost(1, now + ms(20)) > 0.09,
            "one fast answer does not clear the peak"
        );
        assert!(
            load.cost(1, now + Duration::from_secs(60)) < 0.001,
            "a minute does"
        );
    }

    #[test]
    fn an_answer_that_was_heard_earlier_makes_nothing_fade_faster() {
        let now = base();
        let load = measured(ms(100), now + Duration::from_secs(10));
        let before = load.cost(1, now + Duration::from_secs(10));
        load.observe(ms(1), now);
        assert_eq!(load.cost(1, now + Duration::from_secs(10)), before);
    }

    #[test]
    fn reading_the_cost_changes_nothing() {
        let now = base();
        let load = measured(ms(5), now);
        let later = now + ms(1500);
        assert_eq!(load.cost(1, later), load.cost(1, later));
        assert_eq!(load.cost(1, now), 0.005);
    }

    #[test]
    fn cost_grows_with_calls_and_shrinks_with_weight() {
        let now = base();
        let load = measured(ms(2), now);
        assert_eq!(load.cost(1, now), 0.002);
        load.begin();
        load.begin();
        assert_eq!(load.cost(1, now), 0.006);
        assert_eq!(load.cost(3, now), 0.002);
        load.end();
        load.end();
        assert_eq!(load.in_flight(), 0);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_is_harmless() {
        let now = base() + ms(1000);
        let load = measured(ms(2), now);
        load.observe(ms(4), now - ms(500));
        assert!(load.cost(1, now - ms(900)).is_finite());
    }
}
