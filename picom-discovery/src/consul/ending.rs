//! How a registration is taken back: deregister, look whether a late registration undid that, tell the owner in time,
//! and go on in the background for a while. The part of the check (`check.rs`) that begins when the owner wants an end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::check::{Action, Outcome, Step};
use crate::backoff::{after_pause, full_jitter};
use crate::error::{DiscoveryError, EndError, Phase};

/// The longest one attempt to deregister may take, so that there is a second on another connection.
const ATTEMPT: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(100);
const RETRY_CAP: Duration = Duration::from_secs(5);
/// An agent that asks for a pause gets a second at least, and before the owner stops waiting one more attempt, which may
/// take so long.
const PAUSE: Duration = Duration::from_secs(1);
const LAST_ATTEMPT: Duration = Duration::from_secs(1);
/// With nobody listening at the agent's address, `end` gives up after this: it need not use up its bound.
const NOBODY_THERE: Duration = Duration::from_secs(1);
/// The time for the deregistration of a dropped lease, about which nobody waits to hear.
const UNBOUND: Duration = Duration::from_secs(10);
/// A registration whose answer never came may be carried out later; after a deregistration we look whether it was:
/// soon, and twice more in the background. Agents were seen to hold a registration for 14 s.
const LOOKS: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_secs(5),
    Duration::from_secs(25),
];
/// How long a deregistration that was not confirmed in time is tried on in the background.
const TAIL: Duration = Duration::from_secs(60);

/// The end of one registration.
#[derive(Debug)]
pub(crate) struct Ending {
    begun: Instant,
    bound: Duration,
    reported: bool,
    /// The agent has confirmed it, and no look has found the registration since.
    deregistered: bool,
    /// Nothing is asked before.
    next: Instant,
    failures: u32,
    /// Looks that found nothing.
    looks: usize,
    /// Waiting for the bound would be of no use: nobody listens, or the request is refused as wrong.
    hopeless: bool,
    error: Option<Arc<DiscoveryError>>,
}

impl Ending {
    /// Begins now; the owner waits for `bound`, or not at all.
    pub(crate) fn new(now: Instant, bound: Option<Duration>) -> Self {
        Self {
            begun: now,
            bound: bound.unwrap_or(UNBOUND),
            reported: false,
            deregistered: false,
            next: now,
            failures: 0,
            looks: 0,
            hopeless: false,
            error: None,
        }
    }

    /// Until when a registration under way should be waited for: half of the bound, so that there is time to undo it.
    pub(crate) fn patience(&self) -> Instant {
        self.begun + self.bound.min(2 * ATTEMPT) / 2
    }

    /// What to do now. `may_exist` is whether the agent may have the registration at all, `unsettled` whether one is
    /// out whose answer never came.
    pub(crate) fn step(&mut self, now: Instant, id: &Arc<str>, may_exist: bool, unsettled: bool) -> Step {
        let looked_enough = !unsettled || self.looks == LOOKS.len();
        if !may_exist || self.deregistered && looked_enough {
            return self.report(Ok(())).unwrap_or(Step::Finished);
        }
        if let Some(report) = self.result(now, id).and_then(|result| self.report(result)) {
            return report;
        }
        let report_by = self.begun + self.bound;
        let limit = if self.reported {
            report_by + TAIL
        } else {
            report_by
        };
        if now >= limit {
            return Step::Finished;
        }
        if self.next > now {
            return Step::Sleep(self.next.min(limit));
        }
        let action = if self.deregistered {
            Action::Look
        } else {
            Action::Deregister
        };
        Step::Do {
            action,
            within: ATTEMPT.min(limit - now),
        }
    }

    /// What came of a deregistration.
    pub(crate) fn deregistered(&mut self, now: Instant, random: u64, outcome: Outcome) {
        match outcome {
            Ok(_) => {
                self.deregistered = true;
                self.failures = 0;
                self.next = now + self.until_look();
            }
            Err(error) => self.failed(now, random, error),
        }
    }

    /// What came of a look.
    pub(crate) fn looked(&mut self, now: Instant, random: u64, outcome: Outcome) {
        match outcome {
            // The registration we did not wait for has been carried out after all.
            Ok(_) => (self.deregistered, self.next) = (false, now),
            Err(error) if matches!(*error, DiscoveryError::NotRegistered { .. }) => {
                self.looks += 1;
                self.next = now + self.until_look();
            }
            Err(error) => self.failed(now, random, error),
        }
    }

    /// What the owner should be told now, if it is time to.
    fn result(&self, now: Instant, id: &Arc<str>) -> Option<Result<(), EndError>> {
        if self.deregistered && self.looks > 0 {
            // Looked once, and it was gone: that is as much as the owner needs to wait for.
            return Some(Ok(()));
        }
        if now < self.begun + self.bound && !self.hopeless {
            return None;
        }
        Some(match (self.deregistered, self.error.clone()) {
            (true, _) => Ok(()),
            (false, Some(source)) => Err(EndError::Failed {
                id: id.clone(),
                source,
            }),
            (false, None) => Err(EndError::Timeout {
                id: id.clone(),
                bound: self.bound,
            }),
        })
    }

    /// The report, the first time.
    fn report(&mut self, result: Result<(), EndError>) -> Option<Step> {
        (!std::mem::replace(&mut self.reported, true)).then_some(Step::Report(result))
    }

    fn until_look(&self) -> Duration {
        LOOKS.get(self.looks).copied().unwrap_or_default()
    }

    /// A later attempt, but if that is too late for the owner and there is a second until then, one that is not.
    fn in_time(&self, now: Instant, later: Instant) -> Instant {
        let report_by = self.begun + self.bound;
        match report_by.checked_sub(LAST_ATTEMPT) {
            Some(last) if !self.reported && later > last && last >= now + PAUSE => last,
            _ => later,
        }
    }

    fn failed(&mut self, now: Instant, random: u64, error: Arc<DiscoveryError>) {
        self.failures = self.failures.saturating_add(1);
        self.next = match error.pause() {
            None => now + full_jitter(self.failures, RETRY, RETRY_CAP, random),
            Some(pause) => self.in_time(now, now + after_pause(pause, TAIL, random)),
        };
        let nobody = matches!(
            &*error,
            DiscoveryError::Transport {
                phase: Phase::Dial,
                ..
            }
        );
        self.hopeless = error.is_permanent() || nobody && now - self.begun >= NOBODY_THERE;
        self.error = Some(error);
    }
}
