//! What a call that needs a slot should do. Pure: the table is looked at, no socket is touched.

use std::time::Instant;

/// What there is towards a target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlotView {
    pub(super) connections: usize,
    pub(super) free_slots: u32,
    pub(super) dialing: bool,
    pub(super) backoff_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// A connection has a free slot.
    Use,
    /// None has, and one may be dialed.
    Dial,
    /// One is being dialed.
    Wait,
    /// The last dial failed too recently.
    Refuse { until: Instant },
    /// All connections that there may be are full.
    Full,
}

impl SlotView {
    pub(super) fn decide(&self, limit: usize, now: Instant) -> Decision {
        if self.free_slots > 0 {
            return Decision::Use;
        }
        if self.dialing {
            return Decision::Wait;
        }
        if self.connections >= limit {
            return Decision::Full;
        }
        match self.backoff_until {
            Some(until) if until > now => Decision::Refuse { until },
            _ => Decision::Dial,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_decision_follows_from_what_there_is() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let nothing = SlotView::default();
        let cases = [
            (nothing, Decision::Dial),
            (
                SlotView {
                    connections: 1,
                    free_slots: 3,
                    dialing: true,
                    ..nothing
                },
                Decision::Use,
            ),
            (
                SlotView {
                    connections: 1,
                    ..nothing
                },
                Decision::Dial,
            ),
            (
                SlotView {
                    connections: 2,
                    ..nothing
                },
                Decision::Full,
            ),
            (
                SlotView {
                    connections: 1,
                    dialing: true,
                    ..nothing
                },
                Decision::Wait,
            ),
            (
                SlotView {
                    backoff_until: Some(later),
                    ..nothing
                },
                Decision::Refuse { until: later },
            ),
            (
                SlotView {
                    backoff_until: Some(now),
                    ..nothing
                },
                Decision::Dial,
            ),
        ];
        for (view, expected) in cases {
            assert_eq!(view.decide(2, now), expected, "{view:?}");
        }
    }
}
