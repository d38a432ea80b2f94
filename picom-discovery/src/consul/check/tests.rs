//! The check as a dialogue on a virtual clock, and against a model of an agent.

use super::*;
use crate::error::{Cause, Phase, ProtocolFault};
use crate::excerpt::Excerpt;

pub(super) const TTL: Duration = Duration::from_secs(30);
pub(super) const BEAT: Duration = Duration::from_secs(10);
pub(super) const PASS: Action = Action::Beat(CheckStatus::Passing);
pub(super) const REGISTER: Action = Action::Register(CheckStatus::Passing);
/// Half of the span of numbers: jitter of exactly nothing.
pub(super) const MIDDLE: u64 = u64::MAX / 2 + 1;

pub(super) fn secs(number: u64) -> Duration {
    Duration::from_secs(number)
}

pub(super) fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn refused() -> Arc<DiscoveryError> {
    let source: Cause = Arc::new(std::io::Error::other("refused"));
    Arc::new(DiscoveryError::Transport {
        agent: "a".into(),
        phase: Phase::Dial,
        source,
    })
}

pub(super) fn timed_out() -> Arc<DiscoveryError> {
    Arc::new(DiscoveryError::Timeout {
        agent: "a".into(),
        phase: Phase::Exchange,
        after: secs(1),
    })
}

pub(super) fn forgotten() -> Arc<DiscoveryError> {
    Arc::new(DiscoveryError::NotRegistered {
        agent: "a".into(),
        id: "x".into(),
    })
}

pub(super) fn denied() -> Arc<DiscoveryError> {
    Arc::new(DiscoveryError::Denied {
        agent: "a".into(),
        request: "r",
        text: Excerpt::new("x"),
    })
}

fn wrong() -> Arc<DiscoveryError> {
    Arc::new(DiscoveryError::BadRequest {
        agent: "a".into(),
        request: "r",
        status: 400,
        text: Excerpt::new("x"),
    })
}

pub(super) fn unavailable() -> Arc<DiscoveryError> {
    let text = Excerpt::new("x");
    Arc::new(DiscoveryError::Unavailable {
        agent: "a".into(),
        request: "r",
        status: 500,
        text,
        retry_after: None,
    })
}

/// Asks for a pause of so many seconds.
pub(super) fn limited(seconds: Option<u64>) -> Arc<DiscoveryError> {
    Arc::new(DiscoveryError::RateLimited {
        agent: "a".into(),
        request: "r",
        text: Excerpt::new("x"),
        retry_after: seconds.map(secs),
    })
}

pub(super) fn overloaded() -> Arc<DiscoveryError> {
    Arc::new(DiscoveryError::Unavailable {
        agent: "a".into(),
        request: "r",
        status: 503,
        text: Excerpt::new("x"),
        retry_after: None,
    })
}

/// A check and its clock.
pub(super) struct Play {
    pub(super) check: TtlCheck,
    pub(super) now: Instant,
    begun: Instant,
    alive: bool,
}

impl Play {
    pub(super) fn new() -> Self {
        Self::with_ttl(TTL)
    }

    pub(super) fn with_ttl(ttl: Duration) -> Self {
        Self::with_times(CheckTimes::new(ttl, secs(15), Duration::ZERO))
    }

    fn with_times(times: CheckTimes) -> Self {
        let now = tokio::time::Instant::now().into_std();
        let check = TtlCheck::new("x".into(), times, now);
        Self {
            check,
            now,
            begun: now,
            alive: true,
        }
    }

    /// Registered and beaten once.
    pub(super) fn passing() -> Self {
        let mut play = Self::new();
        play.expect(REGISTER, secs(0), Ok(Seen::Ours));
        play.expect(PASS, secs(0), Ok(Seen::Ours));
        assert!(matches!(play.check.state(), LeaseState::Passing));
        play
    }

    /// The next action and how long was slept before it.
    pub(super) fn next(&mut self) -> (Action, Duration, Duration) {
        let from = self.now;
        for _ in 0..100 {
            match self.check.step(self.now, self.alive) {
                Step::Sleep(until) => {
                    assert!(until > self.now, "sleeps till the past");
                    self.now = until;
                }
                Step::Do { action, within } => {
                    assert!(within > Duration::ZERO);
                    return (action, self.now - from, within);
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("sleeps for ever");
    }

    /// The next action must be this, after this time; it is answered at once.
    pub(super) fn expect(&mut self, action: Action, after: Duration, outcome: Outcome) -> Duration {
        let (actual, slept, within) = self.next();
        assert_eq!((actual, slept.as_millis()), (action, after.as_millis()));
        self.check.answered(self.now, MIDDLE, action, outcome);
        within
    }

    pub(super) fn report(&mut self) -> Result<(), EndError> {
        match self.check.step(self.now, self.alive) {
            Step::Report(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn finish(&mut self) {
        let step = self.check.step(self.now, self.alive);
        assert!(matches!(step, Step::Finished), "{step:?}");
    }

    pub(super) fn end(&mut self, bound: u64) {
        self.check.end(self.now, Some(secs(bound)));
        assert!(matches!(self.check.state(), LeaseState::Ended));
    }
}

#[test]
fn a_registration_is_followed_by_a_heartbeat_at_once_and_every_third_of_the_ttl() {
    let mut play = Play::new();
    assert!(matches!(
        play.check.state(),
        LeaseState::Registering { error: None }
    ));
    assert_eq!(play.expect(REGISTER, secs(0), Ok(Seen::Ours)), secs(15));
    assert!(
        matches!(play.check.state(), LeaseState::Registering { .. }),
        "not before the first heartbeat"
    );
    assert_eq!(play.expect(PASS, secs(0), Ok(Seen::Ours)), BEAT);
    for _ in 0..5 {
        play.expect(PASS, BEAT, Ok(Seen::Ours));
    }
}

#[test]
fn a_new_registration_is_beaten_every_half_second_for_a_while() {
    let mut play = Play::with_times(CheckTimes::new(TTL, secs(15), secs(3)));
    for _ in 0..2 {
        play.expect(REGISTER, secs(0), Ok(Seen::Ours));
        play.expect(PASS, secs(0), Ok(Seen::Ours));
        for _ in 0..6 {
            play.expect(PASS, millis(500), Ok(Seen::Ours));
        }
        play.expect(PASS, BEAT, Ok(Seen::Ours));
        // Made again, it is new again.
        play.expect(PASS, BEAT, Err(forgotten()));
    }
    let mut short = Play::with_times(CheckTimes::new(secs(1), secs(15), secs(3)));
    short.expect(REGISTER, secs(0), Ok(Seen::Ours));
    short.expect(PASS, secs(0), Ok(Seen::Ours));
    short.expect(PASS, secs(1) / 3, Ok(Seen::Ours));
}

#[test]
fn heartbeats_are_counted_from_their_beginning_and_spread_by_a_tenth() {
    for (random, expected) in [(0, 9000), (MIDDLE, 10_000), (u64::MAX, 11_000)] {
        let mut play = Play::passing();
        let (action, _, _) = play.next();
        play.now += secs(3);
        play.check.answered(play.now, random, action, Ok(Seen::Ours));
        assert!(
            play.next().1.as_millis().abs_diff(expected - 3000) <= 1,
            "{random}"
        );
    }
}

#[test]
fn a_heartbeat_that_is_never_answered_is_followed_by_the_next_within_half_the_ttl() {
    for ttl in [1000, 1500, 3000, 30_000, 600_000].map(millis) {
        let mut play = Play::with_ttl(ttl);
        play.expect(REGISTER, secs(0), Ok(Seen::Ours));
        let (action, _, within) = play.next();
        let sent = play.now;
        play.now += within;
        play.check.answered(play.now, u64::MAX, action, Err(timed_out()));
        // A look that is due is made in between, within the time that is left.
        while let (Action::Look, _, within) = play.next() {
            play.now += within;
            play.check
                .answered(play.now, u64::MAX, Action::Look, Err(timed_out()));
        }
        assert!(play.now - sent <= ttl / 2, "{ttl:?}: {:?}", play.now - sent);
    }
}

#[test]
fn what_a_heartbeat_answers_decides_what_comes_next() {
    type Row = (Arc<DiscoveryError>, Action, Duration);
    let broken = Arc::new(DiscoveryError::Protocol {
        agent: "a".into(),
        request: "r",
        fault: ProtocolFault::Status(301),
    });
    let table: [Row; 9] = [
        (timed_out(), PASS, secs(1)),
        (refused(), PASS, secs(1)),
        (limited(None), PASS, millis(1100)),
        (overloaded(), PASS, millis(1100)),
        (denied(), PASS, secs(5)),
        (forgotten(), REGISTER, secs(0)),
        (unavailable(), Action::Look, secs(0)),
        (wrong(), Action::Look, secs(0)),
        (broken, Action::Look, secs(0)),
    ];
    for (error, then, after) in table {
        let mut play = Play::passing();
        play.expect(PASS, BEAT, Err(error.clone()));
        assert!(
            matches!(play.check.state(), LeaseState::Failing { .. }),
            "{error}"
        );
        play.expect(then, after, Ok(Seen::Ours));
    }
}

#[test]
fn a_forgotten_registration_is_made_again_and_beaten_at_once() {
    let mut play = Play::passing();
    play.expect(PASS, BEAT, Err(forgotten()));
    play.expect(REGISTER, secs(0), Ok(Seen::Ours));
    assert!(matches!(play.check.state(), LeaseState::Failing { .. }));
    play.expect(PASS, secs(0), Ok(Seen::Ours));
    assert!(matches!(play.check.state(), LeaseState::Passing));
    play.expect(PASS, BEAT, Ok(Seen::Ours));
}

#[test]
fn an_agent_that_forgets_what_it_confirms_is_not_flooded() {
    let mut play = Play::passing();
    let mut requests = 0;
    let begun = play.now;
    while play.now - begun < secs(60) {
        let (action, _, _) = play.next();
        requests += 1;
        let outcome = if action == REGISTER {
            Ok(Seen::Ours)
        } else {
            Err(forgotten())
        };
        play.check.answered(play.now, MIDDLE, action, outcome);
    }
    assert!(requests < 60, "{requests}");
}

#[test]
fn an_agent_that_denies_looks_and_fails_heartbeats_is_not_flooded() {
    let mut play = Play::passing();
    let (mut requests, mut registrations) = (0, 0);
    let begun = play.now;
    while play.now - begun < secs(60) {
        let (action, _, _) = play.next();
        requests += 1;
        registrations += u32::from(action == REGISTER);
        let outcome = match action {
            Action::Look => Err(denied()),
            Action::Register(_) => Ok(Seen::Ours),
            _ => Err(unavailable()),
        };
        play.check.answered(play.now, MIDDLE, action, outcome);
    }
    assert!(requests < 200 && registrations > 5, "{requests}, {registrations}");
}

#[test]
fn a_doubtful_heartbeat_and_a_look_that_finds_nothing_register_again() {
    let mut play = Play::passing();
    play.expect(PASS, BEAT, Err(unavailable()));
    play.expect(Action::Look, secs(0), Err(forgotten()));
    play.expect(REGISTER, secs(0), Ok(Seen::Ours));
}

#[test]
fn a_doubtful_heartbeat_and_a_look_that_finds_us_only_beat_again() {
    let mut play = Play::passing();
    play.expect(PASS, BEAT, Err(unavailable()));
    assert_eq!(play.expect(Action::Look, secs(0), Ok(Seen::Ours)), BEAT);
    play.expect(PASS, secs(1), Ok(Seen::Ours));
    assert!(matches!(play.check.state(), LeaseState::Passing));
}

#[test]
fn a_registration_that_fails_is_tried_again_by_its_kind() {
    let half = |millis_: u64| millis(millis_ / 2);
    for (error, first, second) in [
        (refused(), half(200), half(400)),
        (timed_out(), half(200), half(400)),
        (unavailable(), half(200), half(400)),
        (denied(), half(5000), half(10_000)),
        (wrong(), secs(30), secs(30)),
    ] {
        let mut play = Play::new();
        play.expect(REGISTER, secs(0), Err(error.clone()));
        assert!(
            matches!(play.check.state(), LeaseState::Registering { error: Some(_) }),
            "{error}"
        );
        play.expect(REGISTER, first, Err(error.clone()));
        play.expect(REGISTER, second, Ok(Seen::Ours));
        play.expect(PASS, secs(0), Ok(Seen::Ours));
        assert!(matches!(play.check.state(), LeaseState::Passing));
    }
}

#[test]
fn every_minute_it_looks_between_heartbeats_and_repairs_what_drifted() {
    let mut play = Play::passing();
    let mut looked = Vec::new();
    while play.now - play.begun < secs(200) {
        let (action, _, within) = play.next();
        let at = (play.now - play.begun).as_secs();
        if action == Action::Look {
            looked.push(at);
            assert!(within <= BEAT, "the next heartbeat is not delayed");
        }
        play.check.answered(play.now, MIDDLE, action, Ok(Seen::Ours));
    }
    assert_eq!(looked, [60, 120, 180]);
    while play.next().0 != Action::Look {
        play.check.answered(play.now, MIDDLE, PASS, Ok(Seen::Ours));
    }
    play.check
        .answered(play.now, MIDDLE, Action::Look, Ok(Seen::Drifted));
    play.expect(REGISTER, secs(0), Ok(Seen::Ours));
    play.expect(PASS, secs(0), Ok(Seen::Ours));
}

#[test]
fn a_look_that_fails_without_a_doubt_changes_nothing() {
    for error in [timed_out(), denied(), unavailable()] {
        let mut play = Play::passing();
        while play.next().0 != Action::Look {
            play.check.answered(play.now, MIDDLE, PASS, Ok(Seen::Ours));
        }
        play.check.answered(play.now, MIDDLE, Action::Look, Err(error));
        assert!(matches!(play.check.state(), LeaseState::Passing));
        assert_eq!(play.next().0, PASS);
    }
}

#[test]
fn a_changed_token_registers_again_and_a_failed_renewal_keeps_beating() {
    let mut play = Play::passing();
    play.check.renew(play.now);
    assert!(play.expect(REGISTER, secs(0), Err(unavailable())) <= BEAT);
    assert!(matches!(play.check.state(), LeaseState::Passing));
    play.expect(REGISTER, millis(100), Ok(Seen::Ours));
    play.expect(PASS, secs(0), Ok(Seen::Ours));
}

#[test]
fn who_says_that_it_does_not_serve_fails_its_check_and_is_asked_every_second() {
    let fail = Action::Beat(CheckStatus::Critical);
    let mut play = Play::passing();
    play.alive = false;
    play.expect(fail, BEAT, Ok(Seen::Ours));
    let LeaseState::Failing { error } = play.check.state() else {
        panic!()
    };
    assert!(matches!(*error, DiscoveryError::NotServing { .. }));
    play.expect(fail, secs(1), Ok(Seen::Ours));
    play.alive = true;
    play.expect(PASS, secs(1), Ok(Seen::Ours));
    assert!(matches!(play.check.state(), LeaseState::Passing));
    play.expect(PASS, BEAT, Ok(Seen::Ours));

    let mut play = Play::new();
    play.alive = false;
    play.expect(Action::Register(CheckStatus::Critical), secs(0), Ok(Seen::Ours));
    play.expect(fail, secs(0), Ok(Seen::Ours));
    assert!(play.check.is_confirmed());
}

#[test]
fn the_end_deregisters_once_and_says_so() {
    let mut play = Play::passing();
    play.end(5);
    assert_eq!(play.expect(Action::Deregister, secs(0), Ok(Seen::Ours)), secs(5));
    assert!(play.report().is_ok());
    play.finish();
}

#[test]
fn the_end_of_what_was_never_sent_needs_nothing() {
    let mut play = Play::new();
    play.expect(REGISTER, secs(0), Err(refused()));
    play.end(5);
    assert!(play.report().is_ok());
    play.finish();
}

#[test]
fn after_a_registration_without_an_answer_the_end_looks_whether_it_came() {
    for late in [false, true] {
        let mut play = Play::new();
        if late {
            play.expect(REGISTER, secs(0), Err(timed_out()));
        } else {
            assert_eq!(play.next().0, REGISTER);
            play.check.abandoned(play.now, REGISTER);
        }
        play.end(5);
        play.expect(Action::Deregister, secs(0), Ok(Seen::Ours));
        play.expect(Action::Look, millis(250), Ok(Seen::Drifted));
        play.expect(Action::Deregister, secs(0), Ok(Seen::Ours));
        play.expect(Action::Look, millis(250), Err(forgotten()));
        assert!(play.report().is_ok());
        play.expect(Action::Look, secs(5), Err(forgotten()));
        play.expect(Action::Look, secs(25), Err(forgotten()));
        play.finish();
    }
}

#[test]
fn a_deregistration_that_fails_is_tried_until_the_bound_and_on_in_the_background() {
    let mut play = Play::passing();
    play.end(3);
    let begun = play.now;
    while play.now - begun < secs(3) {
        match play.check.step(play.now, true) {
            Step::Sleep(until) => play.now = until,
            Step::Do {
                action: Action::Deregister,
                within,
            } => {
                assert!(play.now + within <= begun + secs(3));
                play.check
                    .answered(play.now, MIDDLE, Action::Deregister, Err(unavailable()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(play.now - begun, secs(3));
    assert!(matches!(play.report(), Err(EndError::Failed { .. })));
    let (action, _, _) = play.next();
    play.check.answered(play.now, MIDDLE, action, Ok(Seen::Ours));
    play.finish();
}

#[test]
fn an_end_without_an_answer_is_a_time_out_at_its_bound() {
    let mut play = Play::passing();
    play.end(5);
    assert_eq!(play.next().2, secs(5));
    play.now += secs(5);
    play.check.abandoned(play.now, Action::Deregister);
    assert!(matches!(play.report(), Err(EndError::Timeout { bound, .. }) if bound == secs(5)));
}

#[test]
fn with_nobody_listening_the_end_gives_up_after_a_second() {
    let mut play = Play::passing();
    play.end(30);
    let begun = play.now;
    loop {
        match play.check.step(play.now, true) {
            Step::Sleep(until) => play.now = until,
            Step::Do { action, .. } => play.check.answered(play.now, MIDDLE, action, Err(refused())),
            Step::Report(result) => {
                assert!(matches!(result, Err(EndError::Failed { .. })));
                break;
            }
            Step::Finished => panic!(),
        }
    }
    let took = play.now - begun;
    assert!(took >= secs(1) && took < secs(3), "{took:?}");
}

#[test]
fn the_background_attempts_end_after_a_minute() {
    let mut play = Play::passing();
    play.end(0);
    assert!(matches!(play.report(), Err(EndError::Timeout { .. })));
    let begun = play.now;
    loop {
        match play.check.step(play.now, true) {
            Step::Sleep(until) => play.now = until,
            Step::Do { action, .. } => play.check.answered(play.now, MIDDLE, action, Err(unavailable())),
            Step::Finished => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(play.now - begun, secs(60));
}
