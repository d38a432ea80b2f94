//! What a call that needs a slot should do. Pure: the table is looked at, no socket is touched.

use super::SlotStatus;
use std::time::Instant;

/// What there is towards a target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlotView {
    pub(super) connections: usize,
    pub(super) free_slots: u32,
    /// So many of them are promised to calls that have waited.
    pub(super) promised: u32,
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
    /// None stands, and the last dial failed too recently.
    Refuse { until: Instant },
    /// All connections that there may be are full, or one more cannot be had at present.
    Full,
}

impl SlotView {
    /// A slot is free and promised to nobody.
    pub(super) fn has_room(&self) -> bool {
        self.free_slots > self.promised
    }

    pub(super) fn status(&self, now: Instant) -> SlotStatus {
        match self.backoff_until {
            _ if self.connections > 0 => SlotStatus::Connected {
                free_slots: self.free_slots.saturating_sub(self.promised),
            },
            _ if self.dialing => SlotStatus::Connecting,
            Some(until) if until > now => SlotStatus::Backoff { until },
            _ => SlotStatus::Idle,
        }
    }

    pub(super) fn decide(&self, limit: usize, now: Instant) -> Decision {
        if self.has_room() {
            return Decision::Use;
        }
        if self.dialing {
            return Decision::Wait;
        }
        if self.connections >= limit {
            return Decision::Full;
        }
        match self.backoff_until {
            // One more cannot be had, which is no reason to give up what is there.
            Some(until) if until > now && self.connections > 0 => Decision::Full,
            Some(until) if until > now => Decision::Refuse { until },
            _ => Decision::Dial,
        }
    }
}

/// Of lines with so many in them, and so many slots that became free there of late, the one in which the next gets
/// its turn soonest. One that does not move is long from its second entry on, so that nobody stands behind streams that
/// live for hours while another line moves.
pub(super) fn shortest(lines: impl Iterator<Item = (usize, u64)>) -> Option<usize> {
    let wait = |(waiting, turnover): (usize, u64)| (waiting as f64 + 1.0) / (turnover as f64 + 1.0);
    lines
        .map(wait)
        .enumerate()
        .min_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_line_is_chosen_that_is_short_and_moves() {
        for (lines, expected) in [
            (&[][..], None),
            (&[(0, 0)], Some(0)),
            (&[(3, 0), (1, 0), (2, 0)], Some(1)),
            // The first stands still, the other is long and moves.
            (&[(1, 0), (100, 1000)], Some(1)),
            (&[(100, 1000), (100, 4000)], Some(1)),
        ] {
            assert_eq!(shortest(lines.iter().copied()), expected, "{lines:?}");
        }
    }

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
                    connections: 2,
                    free_slots: 3,
                    promised: 3,
                    ..nothing
                },
                Decision::Full,
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
                    connections: 1,
                    backoff_until: Some(later),
                    ..nothing
                },
                Decision::Full,
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
