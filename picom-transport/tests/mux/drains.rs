//! The orderly end of a connection (PROTOCOL §9). Dialogues of frames under a virtual clock.

use super::dialogue::kinds;
use crate::pair::{Pair, Side, failed, message, opening};
use picom_codec::{Frame, StreamId};
use picom_transport::proto::Event;
use picom_transport::{OpenError, Outcome};
use std::time::Duration;

#[test]
fn a_drain_lets_calls_finish_and_says_goodbye() {
    let mut pair = Pair::new();
    let call = pair.call(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    let now = pair.now;
    pair.server.mux.drain(Duration::from_secs(30), now);
    pair.drive();
    assert!(pair.client.events.contains(&Event::PeerDraining));
    assert!(matches!(
        pair.client.mux.open(opening(b"\x02", true)),
        Err(OpenError::Draining)
    ));
    assert_eq!(kinds(&pair.server), ["drain"]);
    assert!(matches!(
        pair.client.sent.last(),
        Some(Frame::DrainAck {
            last: Some(StreamId::FIRST)
        })
    ));
    pair.server
        .mux
        .finish(served, Some(message(1, 7).into()))
        .unwrap();
    pair.server.release(served);
    pair.drive();
    assert_eq!(kinds(&pair.server), ["drain", "last", "goaway"]);
    assert_eq!(
        pair.client.read_all(call).0,
        [message(1, 7)],
        "the reply was not lost"
    );
    assert!(pair.server.mux.ended().unwrap().is_orderly());
}

#[test]
fn a_call_that_crosses_the_drain_is_served() {
    let mut pair = Pair::new();
    pair.latency = Duration::from_millis(10);
    let now = pair.now;
    pair.server.mux.drain(Duration::from_secs(30), now);
    pair.transmit(Side::Server);
    let call = pair.call(b"\x01");
    pair.advance(Duration::from_millis(15));
    let (served, _) = pair.accept();
    pair.server
        .mux
        .finish(served, Some(message(1, 7).into()))
        .unwrap();
    pair.server.release(served);
    pair.advance(Duration::from_millis(40));
    assert_eq!(pair.client.read_all(call).0, [message(1, 7)]);
    assert!(pair.server.mux.ended().unwrap().is_orderly());
}

#[test]
fn calls_in_line_at_a_drain_go_elsewhere() {
    let mut pair = Pair::new();
    let now = pair.now;
    pair.server.mux.drain(Duration::from_secs(30), now);
    pair.transmit(Side::Server);
    let call = pair.call(b"\x01");
    pair.receive(Side::Client);
    pair.drive();
    assert_eq!(failed(pair.client.mux.read(call)).outcome(), Outcome::NeverSent);
    assert!(pair.server.opened().is_empty());
}

#[test]
fn a_drain_without_streams_ends_at_once() {
    let mut pair = Pair::new();
    let now = pair.now;
    pair.server.mux.drain(Duration::from_secs(30), now);
    pair.drive();
    assert!(pair.server.mux.ended().unwrap().is_orderly() && pair.client.mux.ended().unwrap().is_orderly());
}

#[test]
fn both_sides_may_drain_at_once() {
    let mut pair = Pair::new();
    pair.latency = Duration::from_millis(5);
    let call = pair.call(b"\x01");
    pair.advance(Duration::from_millis(11));
    let (served, _) = pair.accept();
    let now = pair.now;
    pair.server.mux.drain(Duration::from_secs(30), now);
    pair.client.mux.drain(Duration::from_secs(30), now);
    pair.advance(Duration::from_millis(30));
    pair.server
        .mux
        .finish(served, Some(message(1, 7).into()))
        .unwrap();
    pair.server.release(served);
    pair.advance(Duration::from_millis(30));
    assert_eq!(pair.client.read_all(call).0, [message(1, 7)]);
    assert!(pair.client.mux.ended().is_some() && pair.server.mux.ended().is_some());
}

#[test]
fn a_drain_is_bounded_by_its_grace() {
    let mut pair = Pair::new();
    let call = pair.call(b"\x01");
    pair.drive();
    let (_served, _) = pair.accept();
    let now = pair.now;
    pair.server.mux.drain(Duration::from_secs(5), now);
    pair.advance(Duration::from_millis(5001));
    assert!(pair.server.mux.ended().is_some());
    assert_eq!(pair.server.mux.stats().cut, 1);
    assert_eq!(
        failed(pair.client.mux.read(call)).outcome(),
        Outcome::MaybeExecuted
    );
}

#[test]
fn a_drain_is_not_held_up_by_a_blocked_message() {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    pair.drive();
    let (_served, _) = pair.accept();
    while pair.client.mux.can_send(call).unwrap() {
        pair.client.mux.send(call, message(30_000, 1).into()).unwrap();
        pair.drive();
    }
    let now = pair.now;
    pair.server.mux.drain(Duration::from_secs(5), now);
    pair.drive();
    assert!(matches!(pair.client.sent.last(), Some(Frame::DrainAck { .. })));
}
