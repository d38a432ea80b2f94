//! How calls end otherwise: dropped, cut short, stopped, too late, lost. Dialogues of frames under a virtual clock.

use super::dialogue::{assert_clean, kinds};
use crate::pair::{Pair, Side, failed, message, opening};
use picom_codec::{Code, Frame, Open, StreamId};
use picom_transport::proto::{Event, Received};
use picom_transport::{ConnectionError, Outcome, SendError, StreamError};
use std::time::Duration;

#[test]
fn a_dropped_call_resets_its_stream() {
    let mut pair = Pair::new();
    let call = pair.call(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    pair.client.release(call);
    pair.drive();
    assert_eq!(kinds(&pair.client), ["call", "reset"]);
    assert!(pair.server.events.contains(&Event::Ended(served)));
    assert!(matches!(
        pair.server.mux.end_of(served),
        Some(StreamError::Reset {
            code: Code::CANCELLED
        })
    ));
    assert_eq!(
        pair.server.mux.stats().accepted_now,
        1,
        "the slot is taken until the handler lets go"
    );
    pair.server.release(served);
    assert_clean(&pair);
}

#[test]
fn a_call_dropped_before_it_was_written_leaves_no_trace() {
    let mut pair = Pair::new();
    let dropped = pair.call(b"\x01");
    pair.client.release(dropped);
    let kept = pair.call(b"\x02");
    pair.drive();
    assert_eq!(kinds(&pair.client), ["call"]);
    let (_, asked) = pair.accept();
    assert_eq!(asked.args, b"\x02"[..]);
    assert!(matches!(
        pair.client.sent[0],
        Frame::Call(Open {
            stream: StreamId::FIRST,
            ..
        })
    ));
    pair.client.release(kept);
}

#[test]
fn an_unfinished_sender_resets_and_never_looks_complete() {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    pair.client.mux.send(call, message(1, 1).into()).unwrap();
    pair.drive();
    let (served, _) = pair.accept();
    pair.client.mux.release_send(call);
    pair.drive();
    let (messages, rest) = pair.server.read_all(served);
    assert!(messages.is_empty(), "what was cut short is dropped");
    assert!(matches!(
        failed(rest),
        StreamError::Reset {
            code: Code::INCOMPLETE
        }
    ));
}

#[test]
fn a_receiver_that_goes_stops_the_sender() {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    pair.client.mux.release_recv(call);
    pair.drive();
    assert_eq!(kinds(&pair.client), ["open", "stop"]);
    assert!(matches!(
        pair.server.mux.send(served, message(1, 1).into()),
        Err(SendError::Stopped {
            code: Code::CANCELLED
        })
    ));
    assert!(
        pair.server.mux.end_of(served).is_some(),
        "nobody wants the handler's output"
    );
    pair.server.release(served);
    pair.drive();
    assert!(matches!(pair.client.mux.can_send(call), Err(SendError::Ended(_))));
    pair.client.mux.release_send(call);
    assert_clean(&pair);
}

#[test]
fn a_handler_that_ignores_its_input_can_still_answer() {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    pair.server.mux.release_recv(served);
    pair.drive();
    assert!(matches!(
        pair.client.mux.send(call, message(1, 1).into()),
        Err(SendError::Stopped { code: Code::OK })
    ));
    assert!(
        matches!(pair.client.mux.read(call), Received::Pending),
        "the call goes on"
    );
    pair.server
        .mux
        .finish(served, Some(message(1, 7).into()))
        .unwrap();
    pair.server.mux.release_send(served);
    pair.drive();
    let (messages, rest) = pair.client.read_all(call);
    assert_eq!(messages, [message(1, 7)]);
    assert!(matches!(rest, Received::End));
    pair.client.release(call);
    pair.drive();
    assert_clean(&pair);
}

#[test]
fn a_stop_within_a_message_is_answered_by_an_end() {
    let mut pair = Pair::new();
    pair.latency = Duration::from_millis(5);
    let call = pair.open(b"\x01");
    pair.advance(Duration::from_millis(20));
    let (served, _) = pair.accept();
    pair.client.mux.send(call, message(2_000_000, 1).into()).unwrap();
    pair.transmit(Side::Client);
    pair.advance(Duration::from_millis(6));
    pair.server.mux.release_recv(served);
    pair.advance(Duration::from_millis(50));
    assert!(pair.server.mux.ended().is_none() && pair.client.mux.ended().is_none());
    assert_eq!(kinds(&pair.client).last(), Some(&"end"));
    pair.server
        .mux
        .finish(served, Some(message(1, 7).into()))
        .unwrap();
    pair.server.mux.release_send(served);
    pair.advance(Duration::from_millis(20));
    assert_eq!(pair.client.read_all(call).0, [message(1, 7)]);
    pair.client.release(call);
    pair.advance(Duration::from_millis(20));
    assert_clean(&pair);
}

#[test]
fn a_reset_does_not_take_a_reply_that_is_complete() {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    pair.server
        .mux
        .finish(served, Some(message(1, 7).into()))
        .unwrap();
    pair.drive();
    pair.server.mux.reset(served, Code::CANCELLED);
    pair.drive();
    assert_eq!(pair.client.read_all(call).0, [message(1, 7)]);
}

#[test]
fn the_time_of_a_call_passes_on_both_sides() {
    let mut pair = Pair::new();
    let deadline = Some(pair.now + Duration::from_millis(250));
    let call = pair
        .client
        .mux
        .open(picom_transport::proto::Opening {
            deadline,
            ..opening(b"\x01", true)
        })
        .unwrap();
    pair.drive();
    let (served, asked) = pair.accept();
    assert_eq!(asked.deadline, deadline);
    pair.advance(Duration::from_millis(249));
    assert!(matches!(pair.client.mux.read(call), Received::Pending));
    pair.advance(Duration::from_millis(2));
    assert!(matches!(
        failed(pair.client.mux.read(call)),
        StreamError::Deadline { sent: true }
    ));
    assert!(pair.server.mux.end_of(served).is_some());
    pair.client.release(call);
    pair.server.release(served);
    pair.drive();
    assert_clean(&pair);
}

#[test]
fn a_call_whose_time_passed_unsent_was_never_sent() {
    let mut pair = Pair::new();
    pair.clogged = Some(Side::Client);
    let deadline = Some(pair.now + Duration::from_millis(250));
    let call = pair
        .client
        .mux
        .open(picom_transport::proto::Opening {
            deadline,
            ..opening(b"\x01", true)
        })
        .unwrap();
    pair.advance(Duration::from_millis(252));
    let error = failed(pair.client.mux.read(call));
    assert_eq!(error.outcome(), Outcome::NeverSent, "{error}");
}

#[test]
fn the_loss_of_the_connection_tells_each_call_whether_it_was_sent() {
    let mut pair = Pair::new();
    let written = pair.call(b"\x01");
    pair.drive();
    let waiting = pair.call(b"\x02");
    pair.cut();
    assert_eq!(
        failed(pair.client.mux.read(written)).outcome(),
        Outcome::MaybeExecuted
    );
    assert_eq!(
        failed(pair.client.mux.read(waiting)).outcome(),
        Outcome::NeverSent
    );
}

#[test]
fn a_request_that_the_socket_took_in_part_was_never_sent() {
    let mut pair = Pair::new();
    let call = pair.call(b"\x01");
    let before = pair.now;
    let frame = pair.client.mux.poll_frame(before).unwrap();
    assert!(matches!(frame, Frame::Call(_)));
    pair.client.mux.frame_staged(1000);
    pair.client.mux.handle_written(999, before);
    pair.cut();
    assert_eq!(failed(pair.client.mux.read(call)).outcome(), Outcome::NeverSent);
}

#[test]
fn large_args_that_were_cut_short_were_never_sent() {
    let mut pair = Pair::new();
    pair.latency = Duration::from_secs(1);
    let call = pair.call(&message(1_000_000, 1));
    pair.transmit(Side::Client);
    assert!(kinds(&pair.client).contains(&"part"));
    pair.cut();
    assert_eq!(failed(pair.client.mux.read(call)).outcome(), Outcome::NeverSent);
}

#[test]
fn a_silent_peer_is_noticed_within_three_seconds_of_a_call() {
    let mut pair = Pair::new();
    let call = pair.call(b"\x01");
    pair.drive();
    pair.clogged = Some(Side::Server);
    pair.advance(Duration::from_millis(3001));
    assert!(matches!(
        &**pair.client.mux.ended().unwrap(),
        ConnectionError::PingTimeout(_)
    ));
    assert_eq!(
        failed(pair.client.mux.read(call)).outcome(),
        Outcome::MaybeExecuted
    );
}

#[test]
fn a_peer_that_answers_is_kept() {
    let mut pair = Pair::new();
    let _call = pair.call(b"\x01");
    pair.advance(Duration::from_secs(60));
    assert!(pair.client.mux.is_open() && pair.server.mux.is_open());
    assert!(kinds(&pair.client).contains(&"ping") && kinds(&pair.server).contains(&"pong"));
}

#[test]
fn an_idle_connection_is_closed_by_its_client() {
    let mut pair = Pair::new();
    let call = pair.call(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    pair.server
        .mux
        .finish(served, Some(message(1, 7).into()))
        .unwrap();
    pair.drive();
    pair.client.release(call);
    pair.server.release(served);
    pair.advance(Duration::from_secs(89));
    assert!(pair.client.mux.is_open());
    pair.advance(Duration::from_secs(3));
    assert!(matches!(
        &**pair.client.mux.ended().unwrap(),
        ConnectionError::Closed("idle")
    ));
    assert!(pair.server.mux.ended().unwrap().is_orderly());
}
