//! How one registration is made and kept passing: Consul's TTL check as a value. Nothing is sent here; `registrar.rs`
//! does what this says and tells what came of it. How it is taken back is in `ending.rs`.
//!
//! Sources: Consul's documentation of TTL checks and agent services, and observed behaviour: a registration keeps the
//! status its check had, so every one is followed by a heartbeat at once; one that replaces the checks takes maintenance
//! away and leaves a passing status, so what drains is registered without; an agent that lost its state answers
//! heartbeats with 404 or 500; a call that timed out may still be carried out later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::Seen;
use super::api::CheckStatus;
use super::ending::Ending;
use crate::backoff::{after_pause, full_jitter, jittered};
use crate::error::{DiscoveryError, EndError};
use crate::lease::LeaseState;

/// How often the agent is asked whether it still knows us as we registered: it notices what no heartbeat tells, that
/// someone overwrote the registration.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After a failed registration: at first soon (an agent that restarts), then rarely.
const REGISTER_RETRY: Duration = Duration::from_millis(200);
const REGISTER_RETRY_CAP: Duration = Duration::from_secs(5);
/// After one that was denied or refused: someone has to change something.
const REFUSED_RETRY: Duration = Duration::from_secs(30);
/// The longest wait after a denied heartbeat.
const DENIED_RETRY: Duration = Duration::from_secs(5);
/// The longest wait before maintenance is asked for again: what an agent may ask for at most.
const MAINTAIN_RETRY_CAP: Duration = Duration::from_secs(60);
/// After this a registration whose answer never came is no longer expected to be carried out.
const UNSETTLED_FOR: Duration = Duration::from_secs(60);

/// Between heartbeats while a registration is new. An agent that could not tell the servers of it, because they had no
/// leader just then, tries again with the next thing it is told; by itself it was seen to take two seconds longer than
/// the election, and may take a minute.
const NEW_BEAT: Duration = Duration::from_millis(500);

/// The times of one check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckTimes {
    /// Between heartbeats, and the longest one may take: a third of the time to live. So even when one is answered
    /// never, the next is sent before half of it has passed.
    beat: Duration,
    /// After a heartbeat that failed: a second, less for a short time to live.
    retry: Duration,
    /// The longest a registration may take.
    call: Duration,
    /// For so long a registration is new.
    settling: Duration,
}

/// One registration's check.
#[derive(Debug)]
pub(crate) struct TtlCheck {
    id: Arc<str>,
    times: CheckTimes,
    /// The agent has confirmed the registration and not denied it since.
    registered: bool,
    /// A heartbeat was accepted, ever.
    confirmed: bool,
    /// The registration has to be made again although the agent knows us: another token, or someone overwrote it.
    renew: bool,
    /// The owner wants no new calls: the registration stands, in maintenance.
    draining: bool,
    /// The agent has confirmed that, and nothing since then may have taken maintenance away.
    maintained: bool,
    next_maintain: Instant,
    /// A heartbeat failed in a way that might mean "not registered": ask.
    doubt: bool,
    /// The agent may hold the registration.
    may_exist: bool,
    /// When the outcome of a registration was last unknown.
    unsettled: Option<Instant>,
    register_failures: u32,
    next_register: Instant,
    next_beat: Instant,
    /// Until then the registration is new.
    new_until: Instant,
    next_look: Instant,
    beat_begun: Instant,
    /// When the last one that was accepted began: the time to live runs from there.
    accepted: Option<Instant>,
    /// What the heartbeat under way says.
    beat_status: CheckStatus,
    error: Option<Arc<DiscoveryError>>,
    ending: Option<Ending>,
}

/// A request to be made, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Register(CheckStatus),
    /// Registers what drains: its check begins as failing, and maintenance that was set before stays.
    RegisterDrained,
    Beat(CheckStatus),
    Look,
    /// Out of service.
    Maintain,
    Deregister,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Step {
    Sleep(Instant),
    Do {
        action: Action,
        within: Duration,
    },
    /// Tell the owner how the end went; once.
    Report(Result<(), EndError>),
    Finished,
}

/// What came of an action. `Seen` is of `Look` alone; the others have nothing to tell but success.
pub(crate) type Outcome = Result<Seen, Arc<DiscoveryError>>;

impl Action {
    /// Whether it may leave a registration behind.
    pub(crate) fn is_registration(self) -> bool {
        matches!(self, Self::Register(_) | Self::RegisterDrained)
    }
}

impl CheckTimes {
    pub(crate) fn new(ttl: Duration, call: Duration, settling: Duration) -> Self {
        let retry = (ttl / 12).clamp(Duration::from_millis(50), Duration::from_secs(1));
        Self {
            beat: ttl / 3,
            retry,
            call,
            settling,
        }
    }
}

impl TtlCheck {
    /// Registers at once.
    pub(crate) fn new(id: Arc<str>, times: CheckTimes, now: Instant) -> Self {
        Self {
            id,
            times,
            registered: false,
            confirmed: false,
            renew: false,
            draining: false,
            maintained: false,
            next_maintain: now,
            doubt: false,
            may_exist: false,
            unsettled: None,
            register_failures: 0,
            next_register: now,
            next_beat: now,
            new_until: now,
            next_look: now + LOOK_EVERY,
            beat_begun: now,
            accepted: None,
            beat_status: CheckStatus::Passing,
            error: None,
            ending: None,
        }
    }

    /// What to do now. `alive` is what the service says of itself. An action counts as begun.
    pub(crate) fn step(&mut self, now: Instant, alive: bool) -> Step {
        if let Some(ending) = &mut self.ending {
            let unsettled = self.unsettled.is_some_and(|at| now < at + UNSETTLED_FOR);
            return ending.step(now, &self.id, self.may_exist, unsettled);
        }
        let status = if alive {
            CheckStatus::Passing
        } else {
            CheckStatus::Critical
        };
        if self.draining && self.unsettled.is_some_and(|at| now >= at + UNSETTLED_FOR) {
            // Whatever has come late has come, and may have taken maintenance away.
            (self.unsettled, self.maintained, self.next_maintain) = (None, false, now);
        }
        let out_of_service = self.draining && !self.maintained;
        // Until it is in maintenance, the check of a draining instance fails: nobody may see it pass in between. Nor while
        // a registration is out that would leave a passing check without maintenance.
        let (register, status) = match self.draining {
            true if out_of_service || self.unsettled.is_some() => {
                (Action::RegisterDrained, CheckStatus::Critical)
            }
            true => (Action::RegisterDrained, status),
            false => (Action::Register(status), status),
        };
        if !self.registered {
            return match self.next_register > now {
                true => Step::Sleep(self.next_register),
                false => Step::Do {
                    action: register,
                    within: self.times.call,
                },
            };
        }
        if self.doubt {
            return Step::Do {
                action: Action::Look,
                within: self.times.beat,
            };
        }
        if out_of_service && now >= self.next_maintain {
            return Step::Do {
                action: Action::Maintain,
                within: self.times.beat,
            };
        }
        if now >= self.next_beat {
            (self.beat_begun, self.beat_status) = (now, status);
            return Step::Do {
                action: Action::Beat(status),
                within: self.times.beat,
            };
        }
        // What is not urgent is done between heartbeats and must not delay the next.
        let spare = self.next_beat - now;
        let mut until = self.next_beat;
        if out_of_service {
            until = until.min(self.next_maintain);
        }
        for (due, action) in [
            (self.renew.then_some(self.next_register), register),
            (Some(self.next_look), Action::Look),
        ] {
            match due {
                Some(due) if due <= now && spare >= self.times.retry / 2 => {
                    return Step::Do {
                        action,
                        within: spare.min(self.times.beat),
                    };
                }
                Some(due) if due > now => until = until.min(due),
                _ => {}
            }
        }
        Step::Sleep(until)
    }

    /// An action has an outcome.
    pub(crate) fn answered(&mut self, now: Instant, random: u64, action: Action, outcome: Outcome) {
        match (action, &mut self.ending) {
            // Also one under way when the end was wanted: what became of it decides what has to be undone.
            (Action::Register(_) | Action::RegisterDrained, _) => self.registered(now, random, outcome),
            (Action::Deregister, Some(ending)) => ending.deregistered(now, random, outcome),
            (Action::Look, Some(ending)) => ending.looked(now, random, outcome),
            (Action::Look, None) => self.looked(now, random, outcome),
            (Action::Beat(_), _) => self.beaten(now, random, outcome),
            (Action::Maintain, None) => self.maintained(now, random, outcome),
            // What is taken back needs no maintenance.
            (Action::Maintain, Some(_)) => {}
            (Action::Deregister, None) => {}
        }
    }

    /// An action was broken off; what became of it is unknown.
    pub(crate) fn abandoned(&mut self, now: Instant, action: Action) {
        if action.is_registration() {
            self.may_exist = true;
            self.unsettled = Some(now);
        }
    }

    /// The token has changed: the registration carries the old one, and the agent would go on syncing with it.
    pub(crate) fn renew(&mut self, now: Instant) {
        self.renew = true;
        self.next_register = now;
    }

    /// The owner wants no new calls.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether the agent has confirmed that there are no new calls.
    pub(crate) fn is_drained(&self) -> bool {
        self.draining && self.maintained
    }

    /// The owner wants the registration gone, and waits for `bound` (or not at all). From here on nothing is
    /// registered any more. How long a registration under way should be waited for before it is abandoned is the answer.
    pub(crate) fn end(&mut self, now: Instant, bound: Option<Duration>) -> Instant {
        self.ending
            .get_or_insert_with(|| Ending::new(now, bound))
            .patience()
    }

    /// Whether the registry has confirmed registration and heartbeat, ever.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// How the registration stands.
    pub(crate) fn state(&self) -> LeaseState {
        match &self.error {
            _ if self.ending.is_some() => LeaseState::Ended,
            error if !self.confirmed => LeaseState::Registering { error: error.clone() },
            None => LeaseState::Passing,
            Some(error) => LeaseState::Failing { error: error.clone() },
        }
    }

    fn registered(&mut self, now: Instant, random: u64, outcome: Outcome) {
        match outcome {
            Ok(_) => {
                (self.registered, self.renew, self.may_exist) = (true, false, true);
                (self.maintained, self.next_maintain) = (false, now);
                self.next_beat = now;
                self.new_until = now + self.times.settling;
                self.next_look = now + jittered(LOOK_EVERY, random);
            }
            Err(error) => {
                if !error.is_unsent() {
                    self.may_exist = true;
                    self.unsettled = Some(now);
                }
                self.register_failures = self.register_failures.saturating_add(1);
                let patience =
                    full_jitter(self.register_failures, REGISTER_RETRY, REGISTER_RETRY_CAP, random);
                self.next_register = now
                    + match &*error {
                        DiscoveryError::BadRequest { .. } => jittered(REFUSED_RETRY, random),
                        // Tokens spread through a cluster within seconds: at first soon, then rarely.
                        DiscoveryError::Denied { .. } => {
                            full_jitter(self.register_failures, DENIED_RETRY, REFUSED_RETRY, random)
                        }
                        error => error.pause().unwrap_or_default() + patience,
                    };
                // A renewal that fails leaves a registration that works.
                if !self.registered {
                    self.error = Some(error);
                }
            }
        }
    }

    fn beaten(&mut self, now: Instant, random: u64, outcome: Outcome) {
        let error = match outcome {
            Ok(_) => {
                self.confirmed = true;
                self.accepted = Some(self.beat_begun);
                self.register_failures = 0;
                let pause = match self.beat_begun < self.new_until {
                    true => self.times.beat.min(NEW_BEAT),
                    false => self.times.beat,
                };
                let regular = self.beat_begun + jittered(pause, random);
                (self.error, self.next_beat) = match self.beat_status {
                    CheckStatus::Passing => (None, regular),
                    CheckStatus::Critical => {
                        // Once it serves again, it should not wait for long to say so.
                        let soon = self.beat_begun + self.times.beat.min(Duration::from_secs(1));
                        (
                            Some(Arc::new(DiscoveryError::NotServing { id: self.id.clone() })),
                            soon,
                        )
                    }
                };
                return;
            }
            Err(error) => error,
        };
        self.next_beat = now + self.until_retry(now, random, &error);
        match &*error {
            DiscoveryError::NotRegistered { .. } => self.forgotten(now, random),
            // It has too much to do, which a question would not make less.
            error if error.pause().is_some() => {}
            DiscoveryError::Denied { .. } => self.next_beat = now + self.times.beat.min(DENIED_RETRY),
            // It answered, and not what it should: perhaps another version's way to say that it does not know us.
            DiscoveryError::Unavailable { .. }
            | DiscoveryError::BadRequest { .. }
            | DiscoveryError::Protocol { .. } => self.doubt = true,
            // A stalled agent is not a forgetful one.
            _ => {}
        }
        self.error = Some(error);
    }

    fn maintained(&mut self, now: Instant, random: u64, outcome: Outcome) {
        let Err(error) = outcome else {
            self.maintained = true;
            return;
        };
        self.next_maintain = now
            + match &*error {
                DiscoveryError::BadRequest { .. } => REFUSED_RETRY,
                DiscoveryError::Denied { .. } => DENIED_RETRY,
                // Its check fails meanwhile, so there is nobody to hurry for.
                error => match error.pause() {
                    Some(pause) => after_pause(pause, MAINTAIN_RETRY_CAP, random),
                    None => self.times.retry,
                },
            };
        if matches!(*error, DiscoveryError::NotRegistered { .. }) {
            self.error = Some(error);
            self.forgotten(now, random);
        }
    }

    fn looked(&mut self, now: Instant, random: u64, outcome: Outcome) {
        let doubt = std::mem::take(&mut self.doubt);
        self.next_look = now + jittered(LOOK_EVERY, random);
        if doubt {
            self.next_beat = now
                + match &outcome {
                    Err(error) => self.until_retry(now, random, error),
                    Ok(_) => self.times.retry,
                };
        }
        match outcome {
            Ok(Seen::Ours) => {}
            Ok(Seen::Drifted) => {
                // Who overwrote the registration may have taken maintenance away: that comes first.
                (self.maintained, self.next_maintain) = (false, now);
                self.renew(now);
            }
            Err(error) => match &*error {
                DiscoveryError::NotRegistered { .. } => {
                    self.error = Some(error.clone());
                    self.forgotten(now, random);
                }
                // Not allowed to look: registering once more does no harm, and answers the question.
                DiscoveryError::Denied { .. } if doubt && !self.renew => {
                    self.renew = true;
                    self.register_again(now, random);
                }
                _ => {}
            },
        }
    }

    /// When to beat again after an error. A pause that was asked for is kept as far as the time to live allows: there is
    /// another heartbeat in its last part.
    fn until_retry(&self, now: Instant, random: u64, error: &DiscoveryError) -> Duration {
        let Some(pause) = error.pause() else {
            return self.times.retry;
        };
        let ttl = 3 * self.times.beat;
        let left = self
            .accepted
            .and_then(|at| (at + ttl).checked_duration_since(now + self.times.retry))
            .filter(|left| *left >= self.times.retry.max(self.times.beat / 4));
        let cap = left.unwrap_or(self.times.beat).min(self.times.beat);
        after_pause(pause, cap, random)
    }

    /// The agent does not know us: register, at once the first time.
    fn forgotten(&mut self, now: Instant, random: u64) {
        self.registered = false;
        self.next_register = now;
        if self.register_failures > 0 {
            self.register_again(now, random);
        }
        // Until a heartbeat is accepted, so that an agent which forgets what it has just confirmed is not flooded.
        self.register_failures = self.register_failures.max(1);
    }

    /// Puts the next registration off, longer each time until a heartbeat is accepted.
    fn register_again(&mut self, now: Instant, random: u64) {
        self.register_failures = self.register_failures.saturating_add(1);
        self.next_register =
            now + full_jitter(self.register_failures, REGISTER_RETRY, REGISTER_RETRY_CAP, random);
    }
}

#[cfg(test)]
mod draining;
#[cfg(test)]
mod model;
#[cfg(test)]
mod pausing;
#[cfg(test)]
mod tests;
