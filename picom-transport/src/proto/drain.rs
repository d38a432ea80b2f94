//! The orderly end of a connection (PROTOCOL §9): who has said drain, how far the peer had come, and when goaway is due.
//! Pure: takes `now`.

use picom_codec::StreamId;
use std::time::{Duration, Instant};

/// How long the peer may take to acknowledge: it does so at once, so a second is many round trips.
const ACK_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Ours {
    announced: bool,
    grace_ends: Instant,
    ack_due: Instant,
    cut_off: Option<CutOff>,
}

/// The last stream that the peer opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutOff {
    /// It said so: a later open breaks the protocol.
    Said(Option<StreamId>),
    /// It did not answer in time: later opens are refused.
    Assumed,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Drain {
    ours: Option<Ours>,
    theirs: bool,
    ack_due: bool,
}

impl Drain {
    /// A connection that is accepted while the server ends: hello says so, no stream is ever opened.
    pub(super) fn from_the_start(grace_ends: Instant) -> Self {
        let cut_off = Some(CutOff::Said(None));
        let ours = Ours {
            announced: true,
            grace_ends,
            ack_due: grace_ends,
            cut_off,
        };
        Self {
            ours: Some(ours),
            ..Self::default()
        }
    }

    /// This side wants to end. A second call changes nothing but may shorten the grace.
    pub(super) fn begin(&mut self, grace: Duration, now: Instant) {
        let grace_ends = now + grace;
        match &mut self.ours {
            Some(ours) => ours.grace_ends = ours.grace_ends.min(grace_ends),
            None => {
                let ack_due = now + ACK_TIMEOUT;
                self.ours = Some(Ours {
                    announced: false,
                    grace_ends,
                    ack_due,
                    cut_off: None,
                });
            }
        }
    }

    /// The peer wants to end. Says whether that is news.
    pub(super) fn peer_began(&mut self) -> bool {
        let news = !self.theirs;
        self.theirs = true;
        self.ack_due |= news;
        news
    }

    /// The peer's hello said that it drains: there is nothing to acknowledge.
    pub(super) fn peer_was_draining(&mut self) {
        self.theirs = true;
    }

    /// The peer answered our drain.
    pub(super) fn acknowledged(&mut self, last: Option<StreamId>) -> Result<(), &'static str> {
        match &mut self.ours {
            Some(ours) if ours.announced && !matches!(ours.cut_off, Some(CutOff::Said(_))) => {
                ours.cut_off = Some(CutOff::Said(last));
                Ok(())
            }
            _ => Err("drain-ack without a drain"),
        }
    }

    /// Neither side opens streams any more.
    pub(super) fn is_draining(&self) -> bool {
        self.theirs || self.ours.is_some()
    }

    pub(super) fn is_ours(&self) -> bool {
        self.ours.is_some()
    }

    pub(super) fn cut_off(&self) -> Option<CutOff> {
        self.ours.as_ref()?.cut_off
    }

    /// The drain frame to send: its grace.
    pub(super) fn take_announcement(&mut self, now: Instant) -> Option<Duration> {
        let ours = self.ours.as_mut().filter(|ours| !ours.announced)?;
        ours.announced = true;
        Some(ours.grace_ends.saturating_duration_since(now))
    }

    /// A frame of the drain is to be written. While streams are open goaway has to wait, and whoever looks again must not be
    /// told that there is something: the driver would go round without end.
    pub(super) fn has_output(&self, streams_open: bool) -> bool {
        let due = |ours: &Ours| !ours.announced || (ours.cut_off.is_some() && !streams_open);
        self.ack_due || self.ours.as_ref().is_some_and(due)
    }

    pub(super) fn take_ack(&mut self) -> bool {
        std::mem::take(&mut self.ack_due)
    }

    /// Whether goaway is due: all is finished and nothing more can come, or the grace has passed.
    pub(super) fn is_over(&mut self, now: Instant, streams_open: bool) -> bool {
        let Some(ours) = &mut self.ours else { return false };
        if ours.announced && ours.cut_off.is_none() && now >= ours.ack_due {
            ours.cut_off = Some(CutOff::Assumed);
        }
        (ours.cut_off.is_some() && !streams_open) || now >= ours.grace_ends
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let ours = self.ours.as_ref()?;
        Some(if ours.cut_off.is_none() {
            ours.ack_due.min(ours.grace_ends)
        } else {
            ours.grace_ends
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn it_is_over_when_the_peer_has_answered_and_all_streams_are_done() {
        let now = start();
        let mut drain = Drain::default();
        assert_eq!(drain.acknowledged(None), Err("drain-ack without a drain"));
        drain.begin(Duration::from_secs(30), now);
        assert_eq!(drain.take_announcement(now), Some(Duration::from_secs(30)));
        assert_eq!(drain.take_announcement(now), None);
        assert!(!drain.is_over(now, false), "an open may still be on its way");
        drain.acknowledged(Some(StreamId::new(5))).unwrap();
        assert!(drain.acknowledged(None).is_err(), "only once");
        assert!(!drain.is_over(now, true));
        assert!(drain.is_over(now, false));
    }

    #[test]
    fn a_peer_that_does_not_answer_is_not_waited_for_long() {
        let now = start();
        let mut drain = Drain::default();
        drain.begin(Duration::from_secs(30), now);
        drain.take_announcement(now);
        assert_eq!(drain.next_timeout(), Some(now + ACK_TIMEOUT));
        assert!(drain.is_over(now + ACK_TIMEOUT, false));
        assert_eq!(drain.cut_off(), Some(CutOff::Assumed));
    }

    #[test]
    fn the_grace_bounds_it_and_can_only_get_shorter() {
        let now = start();
        let mut drain = Drain::default();
        drain.begin(Duration::from_secs(30), now);
        drain.begin(Duration::from_secs(60), now);
        drain.take_announcement(now);
        drain.acknowledged(None).unwrap();
        assert!(!drain.is_over(now + Duration::from_secs(29), true));
        assert!(drain.is_over(now + Duration::from_secs(30), true));
    }
}
