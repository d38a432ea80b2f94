//! Counts what costs the peer nothing and us something: pings and resets (PROTOCOL §8.2; CVE-2019-9512, CVE-2023-44487).
//! Pure: takes `now`.

use std::time::Instant;

/// Pings in a row with no other frame between them. A peer that waits pings every few seconds; a hundred without
/// any other frame is over three minutes of our own idle pings, and those are answered by pongs, which count as frames.
const PINGS: u32 = 100;
/// Resets at once: twice the default stream limit, so that a caller may drop every call it has, twice over.
const RESET_BURST: f64 = 1000.0;
/// Resets a second in the long run. A caller with more time-outs than this is served better by a refusal.
const RESET_RATE: f64 = 100.0;

#[derive(Debug)]
pub(super) struct AbuseMeter {
    pings: u32,
    resets: f64,
    refilled: Instant,
}

/// The peer went too far; the text says with what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuch(pub(super) &'static str);

impl AbuseMeter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            pings: 0,
            resets: RESET_BURST,
            refilled: now,
        }
    }

    /// A frame came that is no ping.
    pub(super) fn other(&mut self) {
        self.pings = 0;
    }

    pub(super) fn ping(&mut self) -> Result<(), TooMuch> {
        self.pings += 1;
        if self.pings > PINGS {
            Err(TooMuch("too many pings"))
        } else {
            Ok(())
        }
    }

    pub(super) fn reset(&mut self, now: Instant) -> Result<(), TooMuch> {
        let since = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.resets = (self.resets + since * RESET_RATE).min(RESET_BURST) - 1.0;
        if self.resets < 0.0 {
            Err(TooMuch("too many resets"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_of_resets_is_fine_and_a_flood_is_not() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let start = Instant::now();
        let mut meter = AbuseMeter::new(start);
        assert!((0..1000).all(|_| meter.reset(start).is_ok()));
        assert_eq!(meter.reset(start), Err(TooMuch("too many resets")));
        let mut meter = AbuseMeter::new(start);
        assert!((0..100_000).all(|n| meter.reset(start + Duration::from_millis(n * 10)).is_ok()));
    }

    #[test]
    fn pings_between_other_frames_are_not_counted() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let mut meter = AbuseMeter::new(Instant::now());
        for _ in 0..1000 {
            assert!(meter.ping().is_ok());
            meter.other();
        }
        assert!((0..100).all(|_| meter.ping().is_ok()));
        assert_eq!(meter.ping(), Err(TooMuch("too many pings")));
    }
}
