//! When to ask whether the peer is still there, and when to believe that it is not (PROTOCOL §8). Pure: takes `now`.

use super::config::ConnectionConfig;
use std::time::{Duration, Instant};

/// See the module. Any frame counts as a sign of life, so a busy connection is never pinged.
#[derive(Debug)]
pub(super) struct Keepalive {
    heard: Instant,
    asked: Option<Asked>,
    token: u64,
    ping_open: Duration,
    ping_idle: Duration,
    pong_timeout: Duration,
    /// There is nothing to do before this moment, whoever waits: what was last heard may only put it off.
    quiet_until: Instant,
}

/// A ping has been handed out and nothing has come since.
#[derive(Debug)]
struct Asked {
    /// The ping ends at this byte of the connection.
    end: u64,
    /// Since when the socket has it: what waits before it in our own buffers is not the peer's silence.
    since: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing to do before this moment.
    Wait(Instant),
    /// A ping is in line behind other bytes; the socket's stall time-out stands in.
    Writing,
    /// Send a ping with this token.
    Ping(u64),
    /// The peer is gone.
    Lost,
}

impl Keepalive {
    pub(super) fn new(config: &ConnectionConfig, now: Instant) -> Self {
        Self {
            heard: now,
            asked: None,
            token: 0,
            ping_open: config.ping_open,
            ping_idle: config.ping_idle,
            pong_timeout: config.pong_timeout,
            quiet_until: now,
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    /// The token of the ping to be sent now, if there is one: [`check`](Self::check) for who asks at each frame.
    #[inline]
    pub(super) fn ping(&mut self, now: Instant, busy: bool) -> Option<u64> {
        if now < self.quiet_until {
            return None;
        }
        match self.check(now, busy) {
            Verdict::Ping(token) => Some(token),
            Verdict::Wait(_) if self.asked.is_none() => {
                self.quiet_until = self.heard + self.ping_open.min(self.ping_idle);
                None
            }
            _ => None,
        }
    }

    /// `busy`: streams are open, so somebody waits for the peer.
    pub(super) fn check(&self, now: Instant, busy: bool) -> Verdict {
        if let Some(asked) = &self.asked {
            return match asked.since.map(|since| since + self.pong_timeout) {
                None => Verdict::Writing,
                Some(limit) if now >= limit => Verdict::Lost,
                Some(limit) => Verdict::Wait(limit),
            };
        }
        let due = self.heard + if busy { self.ping_open } else { self.ping_idle };
        if now >= due {
            Verdict::Ping(self.token.wrapping_add(1))
        } else {
            Verdict::Wait(due)
        }
    }

    /// The ping of the last verdict has been handed out.
    pub(super) fn asked(&mut self, token: u64) {
        self.token = token;
        self.asked = Some(Asked {
            end: u64::MAX,
            since: None,
        });
    }

    /// It ends at this byte of the connection.
    pub(super) fn staged(&mut self, end: u64) {
        if let Some(asked) = &mut self.asked {
            asked.end = end;
        }
    }

    /// The socket has taken so many bytes.
    pub(super) fn written(&mut self, written: u64, now: Instant) {
        if let Some(asked) = self
            .asked
            .as_mut()
            .filter(|asked| asked.since.is_none() && asked.end <= written)
        {
            asked.since = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is heard, asked and written, and whoever waits: asked at each frame or not, it is the same ping.
        #[test]
        fn a_ping_is_due_when_the_verdict_says_so(
            steps in prop::collection::vec((0..40u64, 0..5u8, any::<bool>()), 1..60),
        ) {
            #[expect(clippy::disallowed_methods, reason = "an arbitrary origin")]
            let mut now = Instant::now();
            let config = ConnectionConfig::default();
            let mut keepalive = Keepalive::new(&config, now);
            for (seconds, step, busy) in steps {
                now += Duration::from_secs(seconds);
                match step {
                    0 => keepalive.heard(now),
                    1 => keepalive.written(200, now),
                    _ => {}
                }
                let expected = match keepalive.check(now, busy) {
                    Verdict::Ping(token) => Some(token),
                    _ => None,
                };
                let ping = keepalive.ping(now, busy);
                prop_assert_eq!(ping, expected);
                if let Some(token) = ping {
                    keepalive.asked(token);
                    keepalive.staged(100);
                }
            }
        }
    }

    #[test]
    fn a_silent_peer_is_asked_and_then_given_up() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin")]
        let start = Instant::now();
        let config = ConnectionConfig::default();
        let mut keepalive = Keepalive::new(&config, start);
        assert_eq!(
            keepalive.check(start, true),
            Verdict::Wait(start + config.ping_open)
        );
        assert_eq!(
            keepalive.check(start, false),
            Verdict::Wait(start + config.ping_idle)
        );
        let asked = start + config.ping_open;
        assert_eq!(keepalive.check(asked, true), Verdict::Ping(1));
        keepalive.asked(1);
        keepalive.staged(100);
        keepalive.written(99, asked);
        assert_eq!(keepalive.check(asked, true), Verdict::Writing);
        keepalive.written(100, asked);
        assert_eq!(
            keepalive.check(asked, true),
            Verdict::Wait(asked + config.pong_timeout)
        );
        assert_eq!(keepalive.check(asked + config.pong_timeout, true), Verdict::Lost);
        keepalive.heard(asked + config.pong_timeout);
        assert!(matches!(
            keepalive.check(asked + config.pong_timeout, true),
            Verdict::Wait(_)
        ));
    }
}
