//! Whether a failed attempt is made again, and how many may be: the rules of safe retries. Which endpoint is next is for
//! `endpoints.rs`; the waiting and the sending are for `call.rs`. Pure.

use super::random::Random;
use picom_transport::Outcome;
use std::time::{Duration, Instant};

/// Repeats that a service may be given besides the share below, a second: enough that a client with few calls can
/// repeat them all (Finagle's number).
const RESERVE: f64 = 10.0;

/// Repeats for each call made: one call in five, so that a failing service sees 120 % of its load and not 400 %
/// (Finagle's number).
const SHARE: f64 = 0.2;

/// How long unused repeats are kept, in seconds (Finagle's number).
const KEPT: usize = 10;

/// The wait before an attempt on the same host: it has just refused, or lost its connection.
const FIRST_WAIT: Duration = Duration::from_millis(25);

/// The longest such wait. With three retries it is not reached; it bounds a caller's larger number.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

const SECOND: Duration = Duration::from_secs(1);

/// How many repeats of calls that may have run are left for one target service. Repeats of calls that provably did not
/// run are not counted here: they add no work to the target.
#[derive(Clone, Debug)]
pub(crate) struct RetryBudget {
    /// Unused repeats by the second they were earned in, the current one first.
    seconds: [f64; KEPT],
    /// When the current second ends.
    turns: Instant,
}

impl RetryBudget {
    pub(crate) fn new(now: Instant) -> Self {
        let mut seconds = [0.0; KEPT];
        seconds[0] = RESERVE;
        RetryBudget {
            seconds,
            turns: now + SECOND,
        }
    }

    /// A call was made.
    pub(crate) fn deposit(&mut self, now: Instant) {
        self.advance(now);
        self.seconds[0] += SHARE;
    }

    /// Takes one repeat out. False if there is none: the service fails more than it is worth asking again.
    pub(crate) fn withdraw(&mut self, now: Instant) -> bool {
        self.advance(now);
        // Sums of fifths are not exact.
        let mut owed = 1.0 - 1e-9;
        if self.seconds.iter().sum::<f64>() < owed {
            return false;
        }
        for second in self.seconds.iter_mut().rev() {
            let taken = second.min(owed);
            *second -= taken;
            owed -= taken;
        }
        true
    }

    fn advance(&mut self, now: Instant) {
        // Compared, not subtracted: nearly every call falls into the current second.
        for _ in 0..KEPT {
            if now < self.turns {
                return;
            }
            self.seconds.rotate_right(1);
            self.seconds[0] = RESERVE;
            self.turns += SECOND;
        }
        // All that was earned is forgotten: how long ago does not matter.
        if self.turns <= now {
            self.turns = now + SECOND;
        }
    }
}

/// A failed attempt, as far as the decision needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// Whether the call ran.
    pub(crate) outcome: Outcome,
    /// The peer, or somebody behind it, asked for no further attempt.
    pub(crate) do_not_retry: bool,
    /// The wait the peer suggested.
    pub(crate) delay: Option<Duration>,
}

/// The call the attempt belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Attempts made, the failed one included.
    pub(crate) made: u32,
    /// Further attempts allowed behind the first.
    pub(crate) retries: u32,
    /// The caller says that the call may run more than once.
    pub(crate) idempotent: bool,
    /// There is an endpoint that this call has not tried.
    pub(crate) other_host: bool,
    /// What is left of the deadline, which spans all attempts.
    pub(crate) left: Option<Duration>,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another attempt, after this wait.
    Again {
        /// Zero for another host.
        wait: Duration,
    },
    /// The caller learns of it.
    Surface {
        /// Callers above should not repeat it either.
        do_not_retry: bool,
    },
}

/// Decides. Takes from the budget only when the answer is `Again` and the call may have run.
pub(crate) fn judge(
    failure: Failure,
    progress: Progress,
    budget: &mut RetryBudget,
    random: &mut Random,
    now: Instant,
) -> Verdict {
    let harmless = match failure.outcome {
        Outcome::NeverSent | Outcome::Refused => true,
        Outcome::MaybeExecuted if progress.idempotent => false,
        Outcome::MaybeExecuted | Outcome::Executed => {
            return Verdict::Surface {
                do_not_retry: failure.do_not_retry,
            };
        }
    };
    if failure.do_not_retry || progress.made > progress.retries {
        return Verdict::Surface {
            do_not_retry: failure.do_not_retry,
        };
    }
    let wait = if progress.other_host {
        Duration::ZERO
    } else {
        failure
            .delay
            .unwrap_or_else(|| same_host_wait(progress.made, random))
            .min(LONGEST_WAIT)
    };
    if progress.left.is_some_and(|left| left <= wait) {
        return Verdict::Surface { do_not_retry: false };
    }
    if !harmless && !budget.withdraw(now) {
        return Verdict::Surface { do_not_retry: true };
    }
    Verdict::Again { wait }
}

/// Doubles with each attempt; between half and the whole of it, so that callers who failed together do not return
/// together.
fn same_host_wait(made: u32, random: &mut Random) -> Duration {
    let whole = FIRST_WAIT
        .saturating_mul(1 << made.saturating_sub(1).min(16))
        .min(LONGEST_WAIT);
    whole.mul_f64(0.5 + random.unit() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn base() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn failed(outcome: Outcome) -> Failure {
        Failure {
            outcome,
            do_not_retry: false,
            delay: None,
        }
    }

    fn first() -> Progress {
        Progress {
            made: 1,
            retries: 3,
            idempotent: false,
            other_host: true,
            left: None,
        }
    }

    fn verdict(failure: Failure, progress: Progress) -> Verdict {
        let now = base();
        judge(
            failure,
            progress,
            &mut RetryBudget::new(now),
            &mut Random::new(1),
            now,
        )
    }

    #[test]
    fn only_what_provably_did_not_run_is_repeated_unasked() {
        let again = Verdict::Again { wait: Duration::ZERO };
        let surface = Verdict::Surface { do_not_retry: false };
        let idempotent = Progress {
            idempotent: true,
            ..first()
        };
        for (outcome, plain, marked) in [
            (Outcome::NeverSent, again, again),
            (Outcome::Refused, again, again),
            (Outcome::MaybeExecuted, surface, again),
            (Outcome::Executed, surface, surface),
        ] {
            assert_eq!(verdict(failed(outcome), first()), plain, "{outcome:?}");
            assert_eq!(
                verdict(failed(outcome), idempotent),
                marked,
                "{outcome:?} idempotent"
            );
        }
    }

    #[test]
    fn retries_count_further_attempts_and_none_means_none() {
        let failure = failed(Outcome::NeverSent);
        for (made, retries, again) in [
            (1, 0, false),
            (1, 1, true),
            (2, 1, false),
            (3, 3, true),
            (4, 3, false),
        ] {
            let got = verdict(
                failure,
                Progress {
                    made,
                    retries,
                    ..first()
                },
            );
            assert_eq!(
                matches!(got, Verdict::Again { .. }),
                again,
                "{made} made of 1 + {retries}"
            );
        }
    }

    #[test]
    fn a_peer_that_says_do_not_retry_is_obeyed_and_passed_on() {
        let failure = Failure {
            do_not_retry: true,
            ..failed(Outcome::Refused)
        };
        assert_eq!(verdict(failure, first()), Verdict::Surface { do_not_retry: true });
    }

    #[test]
    fn the_same_host_is_given_time_and_the_deadline_is_kept() {
        let alone = Progress {
            other_host: false,
            ..first()
        };
        let Verdict::Again { wait } = verdict(failed(Outcome::Refused), alone) else {
            panic!("it may go on")
        };
        assert!(wait >= FIRST_WAIT / 2 && wait <= FIRST_WAIT, "{wait:?}");
        let hurried = Progress {
            left: Some(Duration::from_millis(5)),
            ..alone
        };
        assert_eq!(
            verdict(failed(Outcome::Refused), hurried),
            Verdict::Surface { do_not_retry: false }
        );
        let suggested = Failure {
            delay: Some(Duration::from_millis(70)),
            ..failed(Outcome::Refused)
        };
        assert_eq!(
            verdict(suggested, alone),
            Verdict::Again {
                wait: Duration::from_millis(70)
            }
        );
        let absurd = Failure {
            delay: Some(Duration::from_secs(3600)),
            ..failed(Outcome::Refused)
        };
        assert_eq!(verdict(absurd, alone), Verdict::Again { wait: LONGEST_WAIT });
    }

    #[test]
    fn a_spent_budget_tells_those_above_not_to_retry() {
        let now = base();
        let (mut budget, mut random) = (RetryBudget::new(now), Random::new(1));
        let progress = Progress {
            idempotent: true,
            ..first()
        };
        let mut verdicts = (0..12)
            .map(|_| {
                judge(
                    failed(Outcome::MaybeExecuted),
                    progress,
                    &mut budget,
                    &mut random,
                    now,
                )
            })
            .collect::<Vec<_>>();
        assert_eq!(
            verdicts.split_off(10),
            [Verdict::Surface { do_not_retry: true }; 2]
        );
        assert!(verdicts.iter().all(|v| matches!(v, Verdict::Again { .. })));
        let free = judge(
            failed(Outcome::NeverSent),
            progress,
            &mut budget,
            &mut random,
            now,
        );
        assert!(
            matches!(free, Verdict::Again { .. }),
            "what never ran costs nothing"
        );
    }

    #[test]
    fn calls_earn_a_fifth_of_a_repeat_that_is_kept_for_ten_seconds() {
        let now = base();
        let mut budget = RetryBudget::new(now);
        for _ in 0..50 {
            budget.deposit(now);
        }
        let count =
            |budget: &mut RetryBudget, at| std::iter::from_fn(|| budget.withdraw(at).then_some(())).count();
        assert_eq!(count(&mut budget.clone(), now), 20);
        // Nine seconds on: nine more reserves. Ten seconds on, the first second is forgotten.
        assert_eq!(count(&mut budget.clone(), now + Duration::from_secs(9)), 110);
        assert_eq!(count(&mut budget, now + Duration::from_secs(10)), 100);
        assert_eq!(
            count(&mut budget, now + Duration::from_secs(3600)),
            100,
            "sleep earns no more than ten seconds"
        );
    }

    proptest! {
        #[test]
        fn repeats_never_exceed_the_reserve_and_the_share(steps in prop::collection::vec((0u64..1500, 0u32..30, 0u32..30), 1..60)) {
            let start = base();
            let (mut now, mut calls, mut repeats) = (start, 0u32, 0u32);
            let mut budget = RetryBudget::new(start);
            for (pause, made, wanted) in steps {
                now += Duration::from_millis(pause);
                for _ in 0..made { budget.deposit(now); }
                calls += made;
                repeats += (0..wanted).filter(|_| budget.withdraw(now)).count() as u32;
                let seconds = (now - start).as_secs() as f64 + 1.0;
                prop_assert!(f64::from(repeats) <= RESERVE * seconds + SHARE * f64::from(calls) + 1e-3);
            }
        }
    }
}
