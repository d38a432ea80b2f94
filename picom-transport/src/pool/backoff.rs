//! When a target may be dialed again after a failure: each pause 1.6 times the last, give or take 20 %, so that those who
//! lost the same peer do not come back together (gRPC's connection backoff has the same factors). Pure: `now` and random
//! bits are arguments.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

const FACTOR: f64 = 1.6;
const JITTER: f64 = 0.2;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// A handshake was completed: only that counts, since a peer may accept and then not answer.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failed(&mut self, now: Instant, first: Duration, most: Duration, random: u64) {
        let exponent = i32::try_from(self.failures).unwrap_or(i32::MAX).min(64);
        let plain = first.as_secs_f64() * FACTOR.powi(exponent);
        // The upper 53 bits make a number from -1 to 1.
        let unit = (random >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        let pause = plain.min(most.as_secs_f64()) * (1.0 + JITTER * unit);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + Duration::from_secs_f64(pause));
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// The next number of the SplitMix64 sequence (Steele, Lea, Flood 2014): enough for jitter.
pub(super) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Differs from process to process and from pool to pool: the standard library seeds its hash maps from the system.
pub(super) fn random_seed() -> u64 {
    RandomState::new().hash_one(0u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_start_again_after_a_success() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let now = Instant::now();
        let (first, most) = (Duration::from_millis(50), Duration::from_secs(5));
        let mut backoff = Backoff::default();
        let mut last = Duration::ZERO;
        for _ in 0..9 {
            backoff.failed(now, first, most, 1 << 63);
            let pause = backoff.until().unwrap() - now;
            assert!(pause > last && pause <= most, "{pause:?}");
            last = pause;
        }
        for _ in 0..100 {
            backoff.failed(now, first, most, 1 << 63);
        }
        assert!((backoff.until().unwrap() - now).abs_diff(most) < Duration::from_millis(1));
        backoff.succeeded();
        backoff.failed(now, first, most, 1 << 63);
        assert!((backoff.until().unwrap() - now).abs_diff(first) < Duration::from_millis(1));
    }

    #[test]
    fn jitter_spreads_the_pauses_by_a_fifth_and_no_more() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let now = Instant::now();
        let mut seed = 7;
        let pauses: Vec<f64> = (0..1000)
            .map(|_| {
                let mut backoff = Backoff::default();
                backoff.failed(
                    now,
                    Duration::from_secs(1),
                    Duration::from_secs(5),
                    next_random(&mut seed),
                );
                (backoff.until().unwrap() - now).as_secs_f64()
            })
            .collect();
        assert!(pauses.iter().all(|pause| (0.8..=1.2).contains(pause)));
        assert!(pauses.iter().any(|pause| *pause < 0.85) && pauses.iter().any(|pause| *pause > 1.15));
    }
}
