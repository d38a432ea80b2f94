//! More calls than the peer takes streams: they wait for their turn. Dialogues of frames under a virtual clock.

use super::dialogue::kinds;
use crate::pair::{Pair, failed, message, opening};
use picom_codec::Frame;
use picom_transport::proto::{Key, Received};
use picom_transport::{ConnectionConfig, OpenError, Outcome, StreamError};
use std::time::Duration;

/// A pair of which the server takes so many streams.
fn narrow(stream_limit: u32) -> Pair {
    Pair::with(&ConnectionConfig {
        stream_limit,
        ..ConnectionConfig::default()
    })
}

fn queue(pair: &mut Pair, n: u8) -> Key {
    let now = pair.now;
    pair.client
        .mux
        .open_queued(opening(&[n], true), now)
        .expect("it may wait")
}

/// Answers the calls that have come, each with its own args.
fn answer(pair: &mut Pair) -> Vec<u8> {
    let opened = pair.server.opened();
    let asked = opened.into_iter().map(|(served, asked)| {
        pair.server.mux.finish(served, Some(asked.args.clone())).unwrap();
        pair.server.release(served);
        asked.args.into_bytes()[0]
    });
    asked.collect()
}

#[test]
fn calls_over_the_limit_are_sent_in_the_order_in_which_they_came() {
    let mut pair = narrow(2);
    let calls: Vec<Key> = (0..6).map(|n| queue(&mut pair, n)).collect();
    pair.drive();
    let stats = pair.client.mux.stats();
    assert_eq!((stats.opened_now, stats.backlog), (2, 4));
    assert_eq!(kinds(&pair.client), ["call", "call"]);
    for expected in [[0, 1], [2, 3], [4, 5]] {
        assert_eq!(answer(&mut pair), expected);
        pair.drive();
    }
    for (n, call) in calls.into_iter().enumerate() {
        let (messages, end) = pair.client.read_all(call);
        assert_eq!(messages, [message(1, n as u8)]);
        assert!(matches!(end, Received::End));
        pair.client.release(call);
    }
    let ids: Vec<u64> = pair
        .client
        .sent
        .iter()
        .filter_map(|frame| match frame {
            Frame::Call(call) => Some(call.stream.get()),
            _ => None,
        })
        .collect();
    assert_eq!(ids, [1, 3, 5, 7, 9, 11], "ids are given when a call is sent");
    assert_eq!(pair.client.mux.stats().backlog, 0);
}

#[test]
fn who_does_not_wait_gets_no_slot_while_others_do() {
    let mut pair = narrow(1);
    let first = queue(&mut pair, 0);
    let second = queue(&mut pair, 1);
    for n in 0..2 {
        pair.drive();
        assert_eq!(answer(&mut pair), [n]);
        assert_eq!(pair.client.mux.free_slots(), 0);
        assert!(matches!(
            pair.client.mux.open(opening(&[9], true)),
            Err(OpenError::Full { limit: 1 })
        ));
    }
    pair.drive();
    assert_eq!(pair.client.mux.free_slots(), 1);
    pair.client.release(first);
    pair.client.release(second);
}

#[test]
fn a_slot_that_is_set_aside_is_for_one_call_alone() {
    let mut pair = narrow(2);
    let first = queue(&mut pair, 0);
    pair.client.mux.hold_slot();
    assert_eq!(pair.client.mux.free_slots(), 0);
    assert!(matches!(
        pair.client.mux.open(opening(&[9], true)),
        Err(OpenError::Full { limit: 2 })
    ));
    let second = queue(&mut pair, 2);
    assert_eq!(pair.client.mux.stats().backlog, 1);
    // What cannot be opened leaves it to the next, as does who does not come.
    assert!(matches!(
        pair.client.mux.open_held(opening(&[], true)),
        Err(OpenError::Empty)
    ));
    pair.drive();
    assert_eq!(answer(&mut pair), [0, 2]);
    pair.drive();
    pair.client.mux.hold_slot();
    pair.client.mux.hold_slot();
    let third = queue(&mut pair, 3);
    pair.client.mux.let_go_of_slot();
    let fourth = pair.client.mux.open_held(opening(&[4], true)).unwrap();
    pair.drive();
    assert_eq!(answer(&mut pair), [4, 3]);
    pair.drive();
    assert_eq!(
        (pair.client.mux.free_slots(), pair.client.mux.stats().backlog),
        (2, 0)
    );
    for call in [first, second, third, fourth] {
        pair.client.release(call);
    }
}

#[test]
fn a_call_that_is_given_up_while_it_waits_leaves_no_trace() {
    let mut pair = narrow(1);
    let calls: Vec<Key> = (0..4).map(|n| queue(&mut pair, n)).collect();
    pair.drive();
    pair.client.release(calls[1]);
    pair.client.release(calls[2]);
    assert_eq!(pair.client.mux.stats().backlog, 1);
    assert_eq!(answer(&mut pair), [0]);
    pair.drive();
    assert_eq!(answer(&mut pair), [3]);
    pair.drive();
    assert_eq!(kinds(&pair.client), ["call", "call"]);
    pair.client.release(calls[0]);
    pair.client.release(calls[3]);
    assert_eq!(pair.client.mux.streams(), 0);
    assert_eq!(pair.client.mux.stats().opened_now, 0);
}

#[test]
fn the_time_of_a_call_passes_while_it_waits() {
    let mut pair = narrow(1);
    let first = queue(&mut pair, 0);
    let mut late = opening(&[1], true);
    late.deadline = Some(pair.now + Duration::from_millis(50));
    let now = pair.now;
    let late = pair.client.mux.open_queued(late, now).unwrap();
    pair.advance(Duration::from_millis(60));
    let error = failed(pair.client.read_all(late).1);
    assert!(matches!(error, StreamError::Deadline { sent: false }), "{error}");
    assert_eq!(error.outcome(), Outcome::NeverSent);
    assert_eq!(kinds(&pair.client), ["call"]);
    assert_eq!(
        pair.client.mux.stats().opened_now,
        1,
        "it had no slot to give back"
    );
    pair.client.release(late);
    pair.client.release(first);
}

#[test]
fn a_line_that_does_not_move_sends_its_calls_back() {
    let mut pair = narrow(1);
    let first = queue(&mut pair, 0);
    let moved = queue(&mut pair, 1);
    pair.advance(Duration::from_millis(900));
    let stuck = queue(&mut pair, 2);
    assert_eq!(answer(&mut pair), [0]);
    // It has moved: patience begins again.
    pair.advance(Duration::from_millis(900));
    assert!(matches!(pair.client.read_all(stuck).1, Received::Pending));
    pair.advance(Duration::from_millis(101));
    let error = failed(pair.client.read_all(stuck).1);
    assert!(matches!(error, StreamError::NoSlot), "{error}");
    assert_eq!(error.outcome(), Outcome::NeverSent);
    assert!(matches!(pair.client.read_all(moved).1, Received::Pending));
    assert_eq!(answer(&mut pair), [1], "it had its slot");
    pair.drive();
    for call in [first, moved, stuck] {
        pair.client.release(call);
    }
    assert_eq!(pair.client.mux.streams(), 0);
}

#[test]
fn calls_that_wait_when_the_connection_ends_were_never_sent() {
    for cut in [false, true] {
        let mut pair = narrow(1);
        let first = queue(&mut pair, 0);
        let second = queue(&mut pair, 1);
        pair.drive();
        if cut {
            pair.cut();
        } else {
            let now = pair.now;
            pair.server.mux.drain(Duration::from_secs(5), now);
            pair.drive();
        }
        let error = failed(pair.client.read_all(second).1);
        assert_eq!(error.outcome(), Outcome::NeverSent, "{error}");
        pair.client.release(second);
        pair.client.release(first);
        assert_eq!(pair.client.mux.stats().backlog, 0);
    }
}
