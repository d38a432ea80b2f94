//! The check of an agent that asks for a pause.

use super::tests::*;
use super::*;

#[test]
fn a_pause_that_is_asked_for_is_kept_as_far_as_the_time_to_live_allows() {
    for (random, second) in [(0, 5000), (MIDDLE, 5500), (u64::MAX, 6000)] {
        let mut play = Play::passing();
        play.expect(PASS, BEAT, Ok(Seen::Ours));
        let (action, ..) = play.next();
        play.check
            .answered(play.now, random, action, Err(limited(Some(5))));
        let slept = play.next().1.as_millis();
        assert!(slept.abs_diff(second) <= 1, "{random}: {slept}");
    }
    for ttl in [1000, 3000, 30_000, 100_000].map(millis) {
        for random in [0, MIDDLE, u64::MAX] {
            let mut play = Play::with_ttl(ttl);
            play.expect(REGISTER, secs(0), Ok(Seen::Ours));
            play.expect(PASS, secs(0), Ok(Seen::Ours));
            let accepted = play.now;
            let mut beats = 0;
            loop {
                let (action, ..) = play.next();
                if play.now >= accepted + ttl {
                    break;
                }
                beats += u32::from(action == PASS);
                let outcome = match action {
                    PASS => Err(limited(Some(60))),
                    _ => Ok(Seen::Ours),
                };
                play.check.answered(play.now, random, action, outcome);
            }
            assert!((2..=4).contains(&beats), "{ttl:?}, {random}: {beats}");
        }
    }
}

#[test]
fn maintenance_waits_for_the_pause_that_is_asked_for() {
    let mut play = Play::passing();
    play.check.drain();
    play.expect(Action::Maintain, secs(0), Err(limited(Some(5))));
    play.expect(Action::Maintain, millis(5500), Err(overloaded()));
    play.expect(Action::Maintain, millis(1100), Ok(Seen::Ours));
}

#[test]
fn the_end_waits_for_the_pause_that_is_asked_for_and_tries_once_more_in_its_bound() {
    let mut play = Play::passing();
    play.end(10);
    play.expect(Action::Deregister, secs(0), Err(limited(None)));
    play.expect(Action::Deregister, millis(1100), Err(limited(Some(2))));
    // Asked to wait for longer than the owner does: once more before that.
    play.expect(Action::Deregister, millis(2200), Err(limited(Some(60))));
    play.expect(Action::Deregister, millis(5700), Err(limited(Some(20))));
    let step = play.check.step(play.now, true);
    let Step::Sleep(until) = step else {
        panic!("{step:?}");
    };
    play.now = until;
    assert!(matches!(play.report(), Err(EndError::Failed { .. })));
    play.expect(Action::Deregister, millis(21_000), Ok(Seen::Ours));
    play.finish();
}
