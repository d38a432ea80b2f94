//! How long to wait before trying again. Pure: the random number is an argument.

use std::time::Duration;

/// The wait after the `failures`-th failure in a row (1 is the first): full jitter, that is any span between nothing and
/// `base · 2ⁿ⁻¹`, at most `cap`, so that many clients that failed at one moment do not come back at one moment.
/// Never under half of `base`: a lucky number must not turn a retry into a busy loop.
pub(crate) fn full_jitter(failures: u32, base: Duration, cap: Duration, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let most = base.saturating_mul(1 << doublings).min(cap);
    most.mul_f64(fraction(random)).max(base / 2).min(cap)
}

/// The wait after somebody asked for a pause: that and up to a fifth more, so that not all come back at one moment; at
/// most `cap`, and then up to a fifth less.
pub(crate) fn after_pause(pause: Duration, cap: Duration, random: u64) -> Duration {
    let spread = 0.2 * fraction(random);
    match pause < cap {
        true => pause.mul_f64(1.0 + spread).min(cap),
        false => cap.mul_f64(1.0 - spread),
    }
}

/// `span` ± 10 %: what is done regularly by many should not be done by all at once.
pub(crate) fn jittered(span: Duration, random: u64) -> Duration {
    span.mul_f64(0.9 + 0.2 * fraction(random))
}

/// A number from 0 up to, not including, 1.
pub(crate) fn fraction(random: u64) -> f64 {
    // 53 bits are what a double holds exactly.
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(10);

    #[test]
    fn the_most_doubles_up_to_the_cap() {
        let most = |failures| full_jitter(failures, BASE, CAP, u64::MAX).as_millis();
        // The largest fraction is just below one.
        assert_eq!(
            [1, 2, 3, 7, 8, 1000].map(most),
            [100, 200, 400, 6400, 10_000, 10_000].map(|full| full - 1 + 1)
        );
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_half_the_base_and_the_cap(failures in any::<u32>(), random in any::<u64>()) {
            let wait = full_jitter(failures, BASE, CAP, random);
            prop_assert!(wait >= BASE / 2 && wait <= CAP);
        }

        #[test]
        fn regular_work_is_spread_by_a_tenth(random in any::<u64>()) {
            let span = jittered(Duration::from_secs(10), random);
            prop_assert!(span >= Duration::from_secs(9) && span <= Duration::from_secs(11));
        }
    }
}
