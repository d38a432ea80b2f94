//! The check of an instance that drains.

use super::tests::*;
use super::*;

#[test]
fn a_draining_instance_is_put_out_of_service_and_so_again_after_a_registration() {
    let mut play = Play::passing();
    play.check.drain();
    play.expect(Action::Maintain, secs(0), Err(timed_out()));
    assert!(!play.check.is_drained());
    play.expect(Action::Maintain, secs(1), Ok(Seen::Ours));
    assert!(play.check.is_drained());
    // Forgotten: it fails until it is out of service again, and only then passes.
    let (action, ..) = play.next();
    assert_eq!(action, PASS);
    play.check.answered(play.now, 0, action, Err(forgotten()));
    play.expect(Action::RegisterDrained, secs(0), Ok(Seen::Ours));
    assert!(!play.check.is_drained());
    play.expect(Action::Maintain, secs(0), Ok(Seen::Ours));
    play.expect(PASS, secs(0), Ok(Seen::Ours));
    assert!(play.check.is_drained());
}

#[test]
fn what_drains_is_renewed_without_losing_maintenance() {
    let mut play = Play::passing();
    play.check.drain();
    play.expect(Action::Maintain, secs(0), Ok(Seen::Ours));
    play.check.renew(play.now);
    play.expect(Action::RegisterDrained, secs(0), Ok(Seen::Ours));
    play.expect(Action::Maintain, secs(0), Ok(Seen::Ours));
    play.expect(PASS, secs(0), Ok(Seen::Ours));
    // Overwritten by somebody, who may have taken maintenance away: it is set before anything else.
    while play.next().0 != Action::Look {
        play.check.answered(play.now, MIDDLE, PASS, Ok(Seen::Ours));
    }
    play.check
        .answered(play.now, MIDDLE, Action::Look, Ok(Seen::Drifted));
    play.expect(Action::Maintain, secs(0), Ok(Seen::Ours));
    play.expect(Action::RegisterDrained, secs(0), Ok(Seen::Ours));
    play.expect(Action::Maintain, secs(0), Ok(Seen::Ours));
    assert!(play.check.is_drained());
}

#[test]
fn what_drains_fails_its_check_while_a_registration_may_come_late() {
    let mut play = Play::passing();
    play.check.renew(play.now);
    play.expect(REGISTER, secs(0), Err(timed_out()));
    play.check.drain();
    let drained = play.now;
    play.expect(Action::Maintain, secs(0), Ok(Seen::Ours));
    assert!(play.check.is_drained());
    // It would keep the status it finds: a failing one until it can no longer come, and then maintenance anew.
    let mut anew = false;
    loop {
        let (action, ..) = play.next();
        let since = play.now - drained;
        play.check.answered(play.now, MIDDLE, action, Ok(Seen::Ours));
        match action {
            PASS => break assert!(anew && since >= secs(60), "{since:?}"),
            Action::Maintain => anew = since >= secs(60),
            _ => assert!(since < secs(120), "{action:?} for ever"),
        }
    }
}

#[test]
fn what_drains_fails_its_check_until_it_is_in_maintenance() {
    let mut play = Play::passing();
    play.check.drain();
    let fail = Action::Beat(CheckStatus::Critical);
    for _ in 0..3 {
        play.expect(Action::Maintain, secs(0), Err(denied()));
        while let (action @ Action::Beat(_), ..) = play.next() {
            assert_eq!(action, fail);
            play.check.answered(play.now, MIDDLE, action, Ok(Seen::Ours));
        }
    }
    play.expect(Action::Maintain, secs(0), Ok(Seen::Ours));
    let (action, ..) = play.next();
    assert_eq!(action, PASS);
}
