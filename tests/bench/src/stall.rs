//! How often the machine itself stands still: a loop that does nothing but read the clock, on the client's core. What it
//! loses, every peer loses, and in an open loop it shows in all calls that were due meanwhile.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::now;

/// Longer gaps between two looks at the clock are stalls: an interrupt takes a tenth of it.
const GAP: Duration = Duration::from_micros(100);

/// What such a loop saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stalls {
    /// For so long it ran, in milliseconds.
    pub watched_ms: f64,
    /// Of that it stood still, in milliseconds.
    pub lost_ms: f64,
    /// The longest time at once, in milliseconds.
    pub longest_ms: f64,
}

impl Stalls {
    /// Watches for so long.
    pub fn watch(span: Duration) -> Self {
        let begun = now();
        let (mut last, mut lost, mut longest) = (begun, Duration::ZERO, Duration::ZERO);
        while last - begun < span {
            let at = now();
            let gap = at - last;
            if gap > GAP {
                lost += gap;
                longest = longest.max(gap);
            }
            last = at;
        }
        let millis = |span: Duration| span.as_secs_f64() * 1000.0;
        Stalls {
            watched_ms: millis(last - begun),
            lost_ms: millis(lost),
            longest_ms: millis(longest),
        }
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Stalls {
            watched_ms: self.watched_ms + other.watched_ms,
            lost_ms: self.lost_ms + other.lost_ms,
            longest_ms: self.longest_ms.max(other.longest_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_add_up_and_the_longest_stays() {
        let one = Stalls {
            watched_ms: 500.0,
            lost_ms: 3.0,
            longest_ms: 2.0,
        };
        let other = Stalls {
            watched_ms: 500.0,
            lost_ms: 1.0,
            longest_ms: 1.0,
        };
        let both = Stalls {
            watched_ms: 1000.0,
            lost_ms: 4.0,
            longest_ms: 2.0,
        };
        assert_eq!(one.and(other), both);
        let seen = Stalls::watch(Duration::from_millis(2));
        assert!(seen.watched_ms >= 2.0 && seen.lost_ms <= seen.watched_ms);
    }
}
