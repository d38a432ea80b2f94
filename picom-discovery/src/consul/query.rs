//! When to ask for a name and with which index: the rules of Consul's blocking queries as a value. Nothing is sent
//! here; `resolver.rs` does what this says.
//!
//! Sources: Consul's documentation of blocking queries (reset the index when it falls or is 0, limit the rate), and
//! its observed behaviour: an index ahead of the server's makes it wait the whole time and *miss* changes, so every
//! error is followed by a plain read.

use std::time::{Duration, Instant};

use super::api::Block;
use crate::backoff::{fraction, full_jitter, jittered};
use crate::error::{DiscoveryError, Phase};

/// Reads one name may make at once, after which it gets one every [`PACE`]. A burst of changes is delivered at once; a
/// storm is collapsed: only the newest set matters.
const BURST: u32 = 10;
/// See [`BURST`]: five a second and name are no load for an agent.
const PACE: Duration = Duration::from_millis(200);
/// Between reads of an agent that gives no index: it cannot block, so this is polling.
const POLL: Duration = Duration::from_secs(1);
/// The wait asked for while the server that answers has lost its leader: soon after, another should be asked.
const NERVOUS_WAIT: Duration = Duration::from_secs(5);
/// A plain read this often heals what no index tells: Consul's renamed ids, a streaming backend's known bugs.
const PLAIN_EVERY: Duration = Duration::from_secs(600);
/// What a deadline adds to the longest wait of the server (which adds a sixteenth to what it was asked for).
const SLACK: Duration = Duration::from_secs(10);
/// For a plain read: agents hold requests 7 s while there is no leader; then they answer.
const PLAIN_DEADLINE: Duration = Duration::from_secs(15);

/// First wait after an error.
const RETRY: Duration = Duration::from_millis(100);
/// Longest wait after errors of the servers behind the agent.
const RETRY_CAP: Duration = Duration::from_secs(10);
/// Longest wait while nobody listens at the agent's address: a refused dial costs no one anything, and an agent that is
/// back should be noticed within two seconds.
const DIAL_CAP: Duration = Duration::from_secs(2);
/// Least wait after a refused token, and what is added to the pause that 429 and 503 ask for.
const LIMITED: Duration = Duration::from_secs(1);
/// Longest wait after a refused token: someone has to change something.
const DENIED_CAP: Duration = Duration::from_secs(30);
/// Wait after a request that is wrong as it is.
const WRONG: Duration = Duration::from_secs(30);

/// One name's blocking query.
#[derive(Debug)]
pub(crate) struct BlockingQuery {
    wait: Duration,
    /// The index of the last answer; 0 asks plainly.
    index: u64,
    failures: u32,
    /// Nothing is asked before.
    not_before: Option<Instant>,
    /// When the burst will be whole again (the rate limit as one instant).
    burst_whole_at: Option<Instant>,
    plain_at: Option<Instant>,
    nervous: bool,
    /// What was asked last.
    asked: u64,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Sleep(Instant),
    Read(Plan),
}

/// One read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// `None` is a plain read, which is answered at once.
    pub(crate) block: Option<Block>,
    /// For the head of the answer.
    pub(crate) deadline: Duration,
}

/// What an answer's body is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Publish,
    /// It may be older than what we have: forget it, the next read is plain.
    ReadAgain,
}

impl BlockingQuery {
    /// Asks at once; later reads block for up to `wait`.
    pub(crate) fn new(wait: Duration) -> Self {
        Self {
            wait,
            index: 0,
            failures: 0,
            not_before: None,
            burst_whole_at: None,
            plain_at: None,
            nervous: false,
            asked: 0,
        }
    }

    /// What to do now. A `Read` counts as made.
    pub(crate) fn next(&mut self, now: Instant, random: u64) -> Next {
        let allowed = self
            .burst_whole_at
            .and_then(|whole| whole.checked_sub(PACE * (BURST - 1)));
        if let Some(until) = self.not_before.max(allowed)
            && until > now
        {
            return Next::Sleep(until);
        }
        self.burst_whole_at = Some(self.burst_whole_at.map_or(now, |whole| whole.max(now)) + PACE);
        if self.plain_at.is_some_and(|at| now >= at) {
            self.index = 0;
        }
        self.asked = self.index;
        if self.index == 0 {
            self.plain_at = Some(now + jittered(PLAIN_EVERY, random));
            return Next::Read(Plan {
                block: None,
                deadline: PLAIN_DEADLINE,
            });
        }
        // A twelfth less at random: names that began together do not stay together. (60 s become 55 to 60.)
        let wait = if self.nervous {
            self.wait.min(NERVOUS_WAIT)
        } else {
            self.wait
        };
        let wait = wait - wait.mul_f64(fraction(random) / 12.0);
        // In whole milliseconds, as it is asked for.
        let wait = Duration::from_millis(wait.as_millis() as u64);
        let deadline = wait + wait / 16 + SLACK;
        Next::Read(Plan {
            block: Some(Block {
                index: self.index,
                wait,
            }),
            deadline,
        })
    }

    /// The agent may have been restarted since the last answer: its index means nothing any more.
    pub(crate) fn begin_anew(&mut self) {
        self.index = 0;
    }

    /// A good answer came with this index. `in_touch` is whether its server has a leader.
    pub(crate) fn answered(&mut self, now: Instant, index: Option<u64>, in_touch: bool) -> Verdict {
        self.failures = 0;
        self.not_before = None;
        self.nervous = !in_touch;
        match index {
            None | Some(0) => {
                self.index = 0;
                self.not_before = Some(now + POLL);
                Verdict::Publish
            }
            Some(index) if index < self.asked => {
                self.index = 0;
                Verdict::ReadAgain
            }
            Some(index) => {
                self.index = index;
                Verdict::Publish
            }
        }
    }

    /// No good answer came. Whatever index an error carries is never used.
    pub(crate) fn failed(&mut self, now: Instant, error: &DiscoveryError, random: u64) {
        self.index = 0;
        self.failures = self.failures.saturating_add(1);
        let jitter = |cap| full_jitter(self.failures, RETRY, cap, random);
        let delay = match error {
            DiscoveryError::Denied { .. } => jitter(DENIED_CAP).max(LIMITED),
            DiscoveryError::BadRequest { .. } => jittered(WRONG, random),
            DiscoveryError::Transport {
                phase: Phase::Dial, ..
            } => jitter(DIAL_CAP),
            _ => match error.pause() {
                // Spread beyond what was asked for, or all come back at one moment.
                Some(least) => least + full_jitter(self.failures, LIMITED, RETRY_CAP, random),
                None => jitter(RETRY_CAP),
            },
        };
        self.not_before = Some(now + delay);
    }
}

#[cfg(test)]
mod tests;
