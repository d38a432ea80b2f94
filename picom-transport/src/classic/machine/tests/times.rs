//! What happens to a call when nothing does, or too slowly.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(begin: Instant, seconds: f64) -> Instant {
    begin + Duration::from_secs_f64(seconds)
}

/// Lets the time pass up to `to`, as the shell does.
fn pass(machine: &mut Machine, staged: bool, to: Instant) {
    while let Some(next) = machine.next_timeout(staged).filter(|next| *next <= to) {
        machine.handle_timeout(staged, next);
    }
}

#[test]
fn a_reply_that_is_being_read_is_not_cut_however_long_it_takes() {
    for how in ["finish", "fault", "drain"] {
        let begin = start();
        let mut machine = server(CALL);
        match how {
            "finish" => machine.finish(Some(&Bytes::from_static(b"\x0f"))).unwrap(),
            "fault" => machine.reset(Code::REFUSED),
            _ => machine.release_send(),
        }
        machine.begins_to_write(begin);
        // A caller that takes some of it every fifty seconds.
        for turn in 1..10 {
            pass(&mut machine, true, at(begin, 50.0 * f64::from(turn)));
            assert_eq!(machine.socket(), Socket::Finishing, "{how}");
            machine.wrote(1, at(begin, 50.0 * f64::from(turn)));
        }
        // It does no more.
        pass(&mut machine, true, at(begin, 450.0 + 61.0));
        assert_eq!(machine.socket(), Socket::Abort, "{how}");
    }
}

#[test]
fn the_goodbye_begins_when_everything_is_written() {
    let begin = start();
    let mut machine = server(CALL);
    machine.finish(None).unwrap();
    machine.begins_to_write(begin);
    machine.wrote(13, at(begin, 30.0));
    machine.shut(at(begin, 30.0));
    assert_eq!(machine.next_timeout(false), Some(at(begin, 31.0)));
    // A client that still sends is waited for, but not for ever.
    for tenth in 0..95 {
        let now = at(begin, 30.0 + f64::from(tenth) / 10.0);
        pass(&mut machine, false, now);
        machine.receive(&mut BytesMut::from(&b"\x01\x07"[..]), now);
    }
    assert_eq!(machine.socket(), Socket::Finishing);
    assert_eq!(machine.next_timeout(false), Some(at(begin, 40.0)));
    pass(&mut machine, false, at(begin, 40.0));
    assert_eq!(machine.socket(), Socket::Gone);
}

#[test]
fn a_drain_bounds_replies_and_goodbyes_too() {
    let begin = start();
    // Written, and the client goes on sending: nothing of the call is lost.
    let mut machine = server(CALL);
    machine.finish(None).unwrap();
    machine.drain(SECOND, begin);
    machine.shut(at(begin, 0.5));
    machine.receive(&mut BytesMut::from(&b"\x01\x07"[..]), at(begin, 1.9));
    pass(&mut machine, false, at(begin, 2.0));
    assert_eq!((machine.socket(), machine.was_cut()), (Socket::Gone, false));
    // The socket does not take the reply.
    let mut machine = server(CALL);
    machine.drain(SECOND, begin);
    machine.finish(None).unwrap();
    machine.begins_to_write(begin);
    pass(&mut machine, true, at(begin, 2.0));
    assert_eq!((machine.socket(), machine.was_cut()), (Socket::Abort, true));
    // It was cut, and told so: the same second.
    let mut machine = server(CALL);
    machine.drain(SECOND, begin);
    pass(&mut machine, false, at(begin, 1.5));
    assert_eq!((machine.socket(), machine.was_cut()), (Socket::Finishing, true));
    pass(&mut machine, false, at(begin, 2.0));
    assert_eq!(machine.socket(), Socket::Abort);
    // A connection without a call is none that was cut.
    let mut machine = server(b"");
    machine.drain(SECOND, begin);
    pass(&mut machine, false, at(begin, 1.0));
    assert_eq!((machine.socket(), machine.was_cut()), (Socket::Abort, false));
}

/// Half a frame of 100 bytes, behind what came before.
fn piecemeal(mut machine: Machine) {
    let begin = start();
    let mut bytes = BytesMut::from(&b"\x64\xc4\x62"[..]);
    machine.receive(&mut bytes, begin);
    for turn in 1..=40 {
        let now = at(begin, 9.0 * f64::from(turn));
        pass(&mut machine, false, now);
        assert_eq!(machine.socket(), Socket::Working, "{turn}");
        bytes.extend_from_slice(b"x");
        machine.receive(&mut bytes, now);
    }
    pass(&mut machine, false, at(begin, 371.0));
    assert_eq!(machine.socket(), Socket::Abort, "nothing came any more");
}

#[test]
fn a_frame_may_take_its_time_as_long_as_bytes_of_it_come() {
    piecemeal(server(CALL));
    piecemeal(client(value::nil(), true));
}

#[test]
fn a_frame_of_which_only_the_length_came_has_begun() {
    let begin = start();
    let mut machine = server(&[CALL, b"\x64"].concat());
    pass(&mut machine, false, at(begin, 10.5));
    assert_eq!(machine.socket(), Socket::Abort);
}

/// A header of 16 MiB that comes in pieces, `size` bytes each `every` seconds; when it was given up, if it was.
fn header_in_pieces(size: usize, every: f64) -> Option<f64> {
    let begin = start();
    let rules = Rules {
        message_limit: 16 << 20,
        ..rules()
    };
    let mut machine = Machine::server("svc".into(), rules, begin);
    let args = vec![0xc0; 16 << 20];
    let mut header = BytesMut::from(&b"\x8f\x80\x80\x07\x82\xa3cmd\xa3add\xa4args\xc6\x00\xdf\xff\xec"[..]);
    let total = 0x00e0_000f + 4;
    header.extend_from_slice(&args[..total - header.len()]);
    let (mut bytes, mut turn) = (BytesMut::new(), 0.0);
    while !header.is_empty() {
        let now = at(begin, turn * every);
        pass(&mut machine, false, now);
        if machine.socket() != Socket::Working {
            return Some(turn * every);
        }
        bytes.extend_from_slice(&header.split_to(size.min(header.len())));
        machine.receive(&mut bytes, now);
        turn += 1.0;
    }
    assert!(machine.is_ready());
    None
}

#[test]
fn a_header_takes_as_long_as_it_keeps_coming_at_some_rate() {
    assert_eq!(header_in_pieces(64 << 10, 0.1), None);
    assert_eq!(header_in_pieces(96 << 10, 1.0), None, "14 MiB in 150 s");
    let silent = header_in_pieces(4 << 20, 2.5);
    assert_eq!(silent, Some(2.5), "silence is what it may not keep");
    let trickle = header_in_pieces(100, 0.5).unwrap();
    assert!((2.0..=3.0).contains(&trickle), "{trickle}");
}

#[test]
fn time_in_which_a_header_was_not_read_is_not_its_own() {
    let begin = start();
    let mut machine = server(b"");
    let mut bytes = BytesMut::from(&CALL[..4]);
    machine.receive(&mut bytes, at(begin, 1.0));
    machine.hold_back(100, 10, at(begin, 1.5));
    machine.hold_back(100, 10, at(begin, 8.0));
    pass(&mut machine, false, at(begin, 9.0));
    machine.go_on(at(begin, 9.0));
    pass(&mut machine, false, at(begin, 9.4));
    assert_eq!(machine.socket(), Socket::Working);
    bytes.extend_from_slice(&CALL[4..]);
    machine.receive(&mut bytes, at(begin, 9.4));
    assert!(machine.take_call().is_some());

    let mut machine = server(b"");
    machine.hold_back(100, 10, begin);
    pass(&mut machine, false, at(begin, 10.5));
    assert_eq!(machine.socket(), Socket::Abort, "not for ever");
}
