//! The server's side of a stream: what the peer asked for, and the seam to those who answer.

use super::recv::RecvHalf;
use super::send::SendHalf;
use super::shared::PeerInfo;
use bytes::Bytes;
use picom_codec::{Body, Method};
use std::sync::Arc;
use std::time::Instant;
use tokio::time::Duration;

/// A call that has come, its args complete.
pub struct Incoming {
    /// What is called.
    pub method: Method,
    /// An encoded map within the bounds of PROTOCOL §3.5, or nothing.
    pub metadata: Option<Bytes>,
    /// When the caller's time has passed: the stream is then reset.
    pub deadline: Option<Instant>,
    /// The caller says that the call may run more than once.
    pub idempotent: bool,
    /// The args: one message, not scanned yet.
    pub args: Body,
    /// No input follows.
    pub input_ended: bool,
    /// Where the answer goes. Dropped unfinished, the call is reset.
    pub send: SendHalf,
    /// Further input, behind the args.
    pub recv: RecvHalf,
    /// Who calls.
    pub peer: Arc<PeerInfo>,
}

/// Answers the calls of a connection.
pub trait StreamHandler: Send + Sync + 'static {
    /// Takes a call. It runs on the task that drives the connection, so it must not block and must not take long: a
    /// handler that is not done at its first poll, or for which [`Turn::inline`] says no, gets a task of its own.
    ///
    /// The call's slot is free again when both halves have been dropped.
    fn handle(&self, incoming: Incoming, turn: &mut Turn);
}

/// How much may still run inline in this turn of the connection's driver. Handlers that are quick are no burden, however
/// many: giving each a task of its own would take longer. Those that are not may take 50 µs together, so that a slow one
/// holds up the connection's other calls for no longer than that and its own time; and all together may take a
/// millisecond, since answers wait for the end of the turn.
#[derive(Debug)]
pub struct Turn {
    ends: Instant,
    now: Instant,
    slow: Duration,
}

/// A handler's first poll up to this long is quick: some times what a task costs, its making and its switches.
const QUICK: Duration = Duration::from_micros(5);
/// What slow ones may take together.
const SLOW: Duration = Duration::from_micros(50);
/// What all may take together.
const INLINE: Duration = Duration::from_millis(1);

impl Turn {
    pub(crate) fn begin() -> Self {
        Self::at(tokio::time::Instant::now().into_std())
    }

    fn at(now: Instant) -> Self {
        Self {
            ends: now + INLINE,
            now,
            slow: Duration::ZERO,
        }
    }

    /// Whether a handler may be polled here and now, once. Then a [`lap`](Self::lap) is to be taken.
    pub fn inline(&self) -> bool {
        self.slow < SLOW && self.now < self.ends
    }

    /// A call has been dealt with. Reads the clock and says how long that took.
    pub fn lap(&mut self) -> Duration {
        self.lap_at(tokio::time::Instant::now().into_std())
    }

    fn lap_at(&mut self, now: Instant) -> Duration {
        let took = now.saturating_duration_since(self.now);
        self.now = now;
        if took > QUICK {
            self.slow += took;
        }
        took
    }

    /// The time of the last [`lap`](Self::lap), or of the turn's beginning.
    pub fn now(&self) -> Instant {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// How many handlers run inline that take so long each, out of a thousand.
    fn inline(each: Duration) -> usize {
        let mut now = tokio::time::Instant::now().into_std();
        let mut turn = Turn::at(now);
        (0..1000)
            .take_while(|_| {
                let inline = turn.inline();
                now += each;
                assert_eq!(turn.lap_at(now), each);
                inline
            })
            .count()
    }

    #[test]
    fn quick_handlers_run_inline_for_a_millisecond_and_slow_ones_for_little_more_than_their_share() {
        assert_eq!(inline(micros(0)), 1000);
        assert_eq!(inline(micros(2)), 500);
        assert_eq!(inline(micros(6)), 9, "eight took 48 µs, the ninth begins");
        assert_eq!(inline(micros(1000)), 1);
    }

    #[test]
    fn one_slow_handler_spends_what_the_others_had() {
        let start = tokio::time::Instant::now().into_std();
        let mut turn = Turn::at(start);
        assert!(turn.inline());
        assert_eq!(turn.lap_at(start + micros(4)), micros(4));
        assert!(turn.inline());
        assert_eq!(turn.lap_at(start + micros(104)), micros(100));
        assert!(!turn.inline());
        turn.lap_at(start + micros(105));
        assert!(!turn.inline());
        assert_eq!(turn.now(), start + micros(105));
    }
}
