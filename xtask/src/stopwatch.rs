//! The only place of this tool that reads the clock.

use std::fmt;
use std::time::{Duration, Instant};

/// Runs from the moment it is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "a tool that times real processes; there is nothing to simulate"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Prints a duration as people say it: `0.4 s`, `12.3 s`, `2 min 05 s`.
pub(crate) struct Spoken(pub(crate) Duration);

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let text = if seconds < 60 {
            format!("{:.1} s", self.0.as_secs_f64())
        } else {
            format!("{} min {:02} s", seconds / 60, seconds % 60)
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well_on_both_sides_of_a_minute() {
        assert_eq!(Spoken(Duration::from_millis(440)).to_string(), "0.4 s");
        assert_eq!(Spoken(Duration::from_secs(125)).to_string(), "2 min 05 s");
        assert_eq!(format!("{:>8}", Spoken(Duration::from_secs(3))), "   3.0 s");
    }
}
