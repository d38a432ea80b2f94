//! The protocol as dialogues of frames between two multiplexers under a virtual clock.

use crate::pair::{End, Pair, Side, failed, message, opening};
use bytes::Bytes;
use picom_codec::{Code, Frame, Method, Open, StreamId};
use picom_transport::proto::{Event, Identity, Received};
use picom_transport::{
    ConnectionConfig, ConnectionError, FaultReply, OpenError, Outcome, SendError, StreamError,
};
use std::time::Duration;

fn kinds(end: &End) -> Vec<&'static str> {
    end.sent
        .iter()
        .map(|frame| match frame {
            Frame::Hello(_) => "hello",
            Frame::Open(_) => "open",
            Frame::Call(_) => "call",
            Frame::Data { .. } => "data",
            Frame::Last { .. } => "last",
            Frame::Part { .. } => "part",
            Frame::Items { .. } => "items",
            Frame::End { .. } => "end",
            Frame::Fault(_) => "fault",
            Frame::Reset { .. } => "reset",
            Frame::Stop { .. } => "stop",
            Frame::Credit { .. } => "credit",
            Frame::Ping { .. } => "ping",
            Frame::Pong { .. } => "pong",
            Frame::Drain { .. } => "drain",
            Frame::DrainAck { .. } => "drain-ack",
            Frame::Goaway(_) => "goaway",
            Frame::Ignored { .. } => "ignored",
        })
        .collect()
}

fn fault(code: Code, started: bool) -> FaultReply {
    FaultReply {
        code,
        started,
        do_not_retry: false,
        delay: None,
        text: "no".into(),
        name: None,
        details: Bytes::from_static(&[0xc0]),
    }
}

/// PROTOCOL §11: nothing is left of a stream in either table.
fn assert_clean(pair: &Pair) {
    for (name, end) in [("client", &pair.client), ("server", &pair.server)] {
        let stats = end.mux.stats();
        assert_eq!(end.mux.streams(), 0, "{name} keeps streams");
        assert_eq!(
            (stats.opened_now, stats.accepted_now),
            (0, 0),
            "{name} keeps slots"
        );
    }
    let config = ConnectionConfig::default();
    let whole = config.receive_budget - u64::from(config.first_window) * u64::from(config.stream_limit);
    assert_eq!(pair.client.mux.stats().budget_free, whole, "the client's budget");
    assert_eq!(pair.server.mux.stats().budget_free, whole, "the server's budget");
}

#[test]
fn a_unary_call_is_one_frame_each_way() {
    let mut pair = Pair::new();
    let call = pair.call(b"\x01");
    pair.drive();
    let (served, asked) = pair.accept();
    assert_eq!((&asked.args[..], asked.ends), (&b"\x01"[..], true));
    assert!(matches!(pair.server.mux.read(served), Received::End));
    pair.server.mux.finish(served, Some(message(1, 7))).unwrap();
    pair.drive();
    let (messages, rest) = pair.client.read_all(call);
    assert_eq!(messages, [message(1, 7)]);
    assert!(matches!(rest, Received::End));
    assert_eq!(kinds(&pair.client), ["call"]);
    assert_eq!(kinds(&pair.server), ["last"]);
    pair.client.release(call);
    pair.server.release(served);
    assert_clean(&pair);
}

#[test]
fn the_client_sends_nothing_before_the_servers_hello() {
    let mut pair = Pair::unready(&ConnectionConfig::default());
    pair.transmit(Side::Client);
    assert!(matches!(
        pair.client.mux.open(opening(b"\x01", true)),
        Err(OpenError::Draining)
    ));
    assert_eq!(kinds(&pair.client), ["hello"]);
    pair.drive();
    assert!(pair.client.events.contains(&Event::Ready) && pair.server.events.contains(&Event::Ready));
}

#[test]
fn a_handshake_that_nobody_answers_ends_at_its_time() {
    let config = ConnectionConfig::default();
    let mut pair = Pair::unready(&config);
    pair.clogged = Some(Side::Client);
    pair.advance(config.hello_timeout);
    for end in [&pair.client, &pair.server] {
        assert!(matches!(
            &**end.mux.ended().unwrap(),
            ConnectionError::HelloTimeout(_)
        ));
    }
}

#[test]
fn a_server_that_is_another_one_says_so() {
    let mut pair = Pair::unready(&ConnectionConfig::default());
    let now = pair.now;
    let meant = Identity {
        service: Some("orders".into()),
        instance: None,
    };
    let is = Identity {
        service: Some("stock".into()),
        instance: None,
    };
    let (client, server) = (
        picom_transport::proto::Role::Client,
        picom_transport::proto::Role::Server,
    );
    let config = ConnectionConfig::default();
    pair.client.mux = picom_transport::proto::Mux::new(client, config.clone(), meant, false, now);
    pair.server.mux = picom_transport::proto::Mux::new(server, config, is, false, now);
    pair.drive();
    let error = pair.client.mux.ended().unwrap();
    assert!(
        matches!(
            &**error,
            ConnectionError::Goaway {
                code: Code::WRONG_PEER,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn streams_in_both_directions_keep_their_order() {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    for n in 0..100 {
        pair.client.mux.send(call, message(1, n)).unwrap();
    }
    pair.client.mux.finish(call, None).unwrap();
    pair.drive();
    let (served, _) = pair.accept();
    let (input, rest) = pair.server.read_all(served);
    assert_eq!(input, (0..100).map(|n| message(1, n)).collect::<Vec<_>>());
    assert!(matches!(rest, Received::End));
    for n in 0..100 {
        pair.server.mux.send(served, message(3000, n)).unwrap();
        pair.drive();
    }
    pair.server.mux.finish(served, None).unwrap();
    let mut output = Vec::new();
    for _ in 0..100 {
        pair.drive();
        output.extend(pair.client.read_all(call).0);
    }
    assert_eq!(output, (0..100).map(|n| message(3000, n)).collect::<Vec<_>>());
    pair.client.release(call);
    pair.server.release(served);
    pair.drive();
    assert_clean(&pair);
}

#[test]
fn a_large_message_travels_in_parts_and_gives_its_room_back() {
    let mut pair = Pair::new();
    let large = message(3_000_000, 5);
    let call = pair.call(&large);
    pair.drive();
    let (served, asked) = pair.accept();
    assert_eq!(asked.args, large);
    assert!(asked.ends);
    pair.server.mux.finish(served, Some(large.clone())).unwrap();
    pair.drive();
    let held = pair.client.mux.stats().budget_free;
    let (messages, rest) = pair.client.read_all(call);
    assert_eq!(messages, [large]);
    assert!(matches!(rest, Received::End));
    assert_eq!(pair.client.mux.stats().budget_free - held, 3_000_000);
    assert!(kinds(&pair.client).contains(&"part") && kinds(&pair.server).contains(&"credit"));
    pair.client.release(call);
    pair.server.release(served);
    pair.drive();
    assert_clean(&pair);
}

#[test]
fn small_calls_overtake_a_large_message() {
    let mut pair = Pair::new();
    let _large = pair.call(&message(1_000_000, 5));
    let _small = pair.call(b"\x01");
    pair.drive();
    let position = |wanted: &str| {
        kinds(&pair.client)
            .iter()
            .position(|kind| *kind == wanted)
            .unwrap()
    };
    assert!(
        position("call") < 4,
        "the small call waits for a turn, not for the message: {:?}",
        kinds(&pair.client)
    );
}

#[test]
fn more_large_messages_than_the_budget_holds_all_arrive() {
    let mut pair = Pair::new();
    let calls: Vec<_> = (0..6).map(|n| pair.call(&message(10_000_000, n))).collect();
    let mut arrived = 0;
    for _ in 0..100 {
        pair.drive();
        for (served, asked) in pair.server.opened() {
            assert_eq!(asked.args.len(), 10_000_000);
            arrived += 1;
            pair.server.mux.finish(served, Some(message(1, 1))).unwrap();
            pair.server.release(served);
        }
    }
    assert_eq!(arrived, 6);
    for call in calls {
        pair.client.release(call);
    }
    pair.drive();
    assert_clean(&pair);
}

#[test]
fn unread_large_messages_wait_in_line_for_the_budget_and_then_arrive() {
    let mut pair = Pair::new();
    let mut calls = Vec::new();
    for _ in 0..5 {
        let call = pair.call(b"\x01");
        pair.drive();
        let (served, _) = pair.accept();
        pair.server
            .mux
            .finish(served, Some(message(10_000_000, 9)))
            .unwrap();
        pair.server.release(served);
        calls.push(call);
    }
    pair.drive();
    let mut whole = 0;
    let free = pair.client.mux.stats().budget_free;
    assert!(
        free < 10_000_000,
        "three messages fit the 32 MiB beside the first windows: {free}"
    );
    for call in &calls {
        whole += pair.client.read_all(*call).0.len();
        pair.drive();
    }
    for call in calls {
        whole += pair.client.read_all(call).0.len();
        pair.client.release(call);
    }
    assert_eq!(whole, 5);
    pair.drive();
    assert_clean(&pair);
}

#[test]
fn args_over_the_peers_limit_are_refused_before_sending() {
    let mut pair = Pair::new();
    let over = ConnectionConfig::default().message_limit as usize + 1;
    let refused = pair.client.mux.open(opening(&message(over, 0), true));
    assert!(
        matches!(refused, Err(OpenError::TooLarge { size, limit }) if size == over as u64 && limit == over as u64 - 1)
    );
    let call = pair.call(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    assert!(matches!(
        pair.server.mux.finish(served, Some(message(over, 0))),
        Err(SendError::TooLarge { .. })
    ));
    pair.server
        .mux
        .fault(served, fault(Code::MESSAGE_TOO_LARGE, true))
        .unwrap();
    pair.drive();
    let error = failed(pair.client.mux.read(call));
    assert_eq!(error.outcome(), Outcome::Executed);
}

#[test]
fn a_sender_without_credit_waits_and_goes_on() {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    let mut sent = 0;
    while pair.client.mux.can_send(call).unwrap() {
        pair.client.mux.send(call, message(8000, 1)).unwrap();
        pair.drive();
        sent += 1;
        assert!(sent < 1000, "without a reader, sending must come to rest");
    }
    pair.client.events.clear();
    let received = pair.server.read_all(served).0.len();
    pair.drive();
    assert!(
        pair.client.events.contains(&Event::Writable(call)),
        "credit wakes the sender"
    );
    assert!(received > 0 && received < sent);
}

#[test]
fn empty_messages_cannot_be_piled_up() {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    let mut sent = 0u32;
    for _ in 0..100_000 {
        if pair.client.mux.can_send(call).unwrap() {
            pair.client.mux.send(call, message(1, 1)).unwrap();
            pair.drive();
            sent += 1;
        }
    }
    let arrived = pair.server.read_all(served).0.len();
    assert!(arrived <= 66560 / 256, "each frame costs at least 256: {arrived}");
    assert!(sent < 70_000, "and the sender stops at its 64 KiB: {sent}");
}

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
    assert_eq!(&asked.args[..], b"\x02");
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
    pair.client.mux.send(call, message(1, 1)).unwrap();
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
        pair.server.mux.send(served, message(1, 1)),
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
        pair.client.mux.send(call, message(1, 1)),
        Err(SendError::Stopped { code: Code::OK })
    ));
    assert!(
        matches!(pair.client.mux.read(call), Received::Pending),
        "the call goes on"
    );
    pair.server.mux.finish(served, Some(message(1, 7))).unwrap();
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
    pair.client.mux.send(call, message(2_000_000, 1)).unwrap();
    pair.transmit(Side::Client);
    pair.advance(Duration::from_millis(6));
    pair.server.mux.release_recv(served);
    pair.advance(Duration::from_millis(50));
    assert!(pair.server.mux.ended().is_none() && pair.client.mux.ended().is_none());
    assert_eq!(kinds(&pair.client).last(), Some(&"end"));
    pair.server.mux.finish(served, Some(message(1, 7))).unwrap();
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
    pair.server.mux.finish(served, Some(message(1, 7))).unwrap();
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
fn streams_over_the_limit_wait_outside() {
    let config = ConnectionConfig {
        stream_limit: 2,
        ..ConnectionConfig::default()
    };
    let mut pair = Pair::with(&config);
    let first = pair.call(b"\x01");
    let _second = pair.call(b"\x02");
    assert!(matches!(
        pair.client.mux.open(opening(b"\x03", true)),
        Err(OpenError::Full { limit: 2 })
    ));
    pair.client.release(first);
    assert_eq!(pair.client.mux.free_slots(), 1);
}

#[test]
fn a_slot_is_free_only_when_the_handler_has_finished() {
    let config = ConnectionConfig {
        stream_limit: 1,
        ..ConnectionConfig::default()
    };
    let mut pair = Pair::with(&config);
    let first = pair.call(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    pair.client.release(first);
    let second = pair.call(b"\x02");
    pair.drive();
    let error = failed(pair.client.mux.read(second));
    assert_eq!(error.outcome(), Outcome::Refused, "{error}");
    pair.server.release(served);
    let third = pair.call(b"\x03");
    pair.drive();
    assert_eq!(&pair.accept().1.args[..], b"\x03");
    pair.client.release(third);
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
    pair.server.mux.finish(served, Some(message(1, 7))).unwrap();
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
    pair.server.mux.finish(served, Some(message(1, 7))).unwrap();
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
    pair.server.mux.finish(served, Some(message(1, 7))).unwrap();
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
    pair.server.mux.finish(served, Some(message(1, 7))).unwrap();
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
        pair.client.mux.send(call, message(30_000, 1)).unwrap();
        pair.drive();
    }
    let now = pair.now;
    pair.server.mux.drain(Duration::from_secs(5), now);
    pair.drive();
    assert!(matches!(pair.client.sent.last(), Some(Frame::DrainAck { .. })));
}

/// Each row: frames that a client sends behind a good hello, and the code with which the server ends the connection.
#[test]
fn a_peer_that_breaks_a_rule_is_told_which_and_cut() {
    let id = StreamId::FIRST;
    let open = |stream| {
        Frame::Open(Open {
            stream,
            method: Method::new("m").unwrap(),
            micros_left: None,
            idempotent: false,
            args_follow: false,
            metadata: None,
            args: Bytes::from_static(b"\x01"),
        })
    };
    let data = |length| Frame::Data {
        stream: id,
        body: message(length, 1),
    };
    let part = |total, length| Frame::Part {
        stream: id,
        total,
        end: false,
        body: message(length, 1),
    };
    let cases: Vec<(&str, Vec<Frame>, Code)> = vec![
        ("a frame for a stream never opened", vec![data(1)], Code::PROTOCOL),
        ("a gap in the ids", vec![open(StreamId::new(3))], Code::PROTOCOL),
        (
            "the server's parity",
            vec![open(StreamId::new(2))],
            Code::PROTOCOL,
        ),
        ("an id twice", vec![open(id), open(id)], Code::PROTOCOL),
        (
            "data behind the end",
            vec![open(id), Frame::End { stream: id }, data(1)],
            Code::PROTOCOL,
        ),
        (
            "a fault from the opener",
            vec![
                open(id),
                Frame::Fault(picom_codec::Fault {
                    stream: id,
                    code: Code::INTERNAL,
                    started: true,
                    do_not_retry: false,
                    delay_ms: None,
                    text: String::new(),
                    name: None,
                    details: Bytes::from_static(&[0xc0]),
                }),
            ],
            Code::PROTOCOL,
        ),
        (
            "more than the credit",
            vec![open(id), data(60_000), data(60_000)],
            Code::FLOW,
        ),
        (
            "a credit of 0 is no frame the codec takes; one that overflows",
            vec![
                open(id),
                Frame::Credit {
                    stream: id,
                    bytes: i32::MAX as u32,
                },
            ],
            Code::FLOW,
        ),
        (
            "a part without a first",
            vec![open(id), part(None, 5000)],
            Code::PROTOCOL,
        ),
        (
            "data between parts",
            vec![open(id), part(Some(20_000), 5000), data(1)],
            Code::PROTOCOL,
        ),
        (
            "a tiny part",
            vec![open(id), part(Some(20_000), 10)],
            Code::PROTOCOL,
        ),
        (
            "more parts than the total",
            vec![open(id), part(Some(6000), 5000), part(None, 5000)],
            Code::PROTOCOL,
        ),
        (
            "drain-ack without a drain",
            vec![Frame::DrainAck { last: None }],
            Code::PROTOCOL,
        ),
        (
            "a ping flood",
            (0..101).map(|token| Frame::Ping { token }).collect(),
            Code::TOO_BUSY,
        ),
    ];
    for (what, frames, code) in cases {
        let mut pair = Pair::new();
        let now = pair.now;
        for frame in frames {
            pair.server.mux.handle_frame(frame, now);
        }
        let ended = pair
            .server
            .mux
            .ended()
            .unwrap_or_else(|| panic!("{what}: the connection goes on"));
        assert!(
            matches!(&**ended, ConnectionError::Violation { code: got, .. } if *got == code),
            "{what}: {ended}"
        );
        assert!(
            matches!(pair.server.mux.poll_frame(now), Some(Frame::Goaway(goaway)) if goaway.code == code),
            "{what}"
        );
    }
}

#[test]
fn a_message_over_the_limit_costs_its_call_alone() {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    let now = pair.now;
    let total = ConnectionConfig::default().message_limit + 1;
    pair.server.mux.handle_frame(
        Frame::Part {
            stream: StreamId::FIRST,
            total: Some(total),
            end: false,
            body: message(5000, 1),
        },
        now,
    );
    assert!(
        matches!(failed(pair.server.mux.read(served)), StreamError::TooLarge { size, .. } if size == total)
    );
    pair.drive();
    assert!(pair.server.mux.ended().is_none());
    assert!(matches!(
        failed(pair.client.mux.read(call)),
        StreamError::Reset {
            code: Code::MESSAGE_TOO_LARGE
        }
    ));
}

#[test]
fn frames_for_a_stream_that_was_reset_are_ignored() {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    pair.client.mux.reset(call, Code::CANCELLED);
    pair.client.release(call);
    // Sent before the reset arrived.
    pair.server.mux.send(served, message(1, 1)).unwrap();
    pair.transmit(Side::Server);
    pair.drive();
    assert!(pair.client.mux.is_open() && pair.server.mux.is_open());
    pair.server.release(served);
    assert_clean(&pair);
}

#[test]
fn opens_over_the_limit_that_nobody_reads_the_answer_of_end_the_connection() {
    let config = ConnectionConfig {
        stream_limit: 1,
        ..ConnectionConfig::default()
    };
    let mut pair = Pair::with(&config);
    let now = pair.now;
    let mut id = StreamId::FIRST;
    for _ in 0..2000 {
        pair.server.mux.handle_frame(
            Frame::Call(Open {
                stream: id,
                method: Method::new("m").unwrap(),
                micros_left: None,
                idempotent: false,
                args_follow: false,
                metadata: None,
                args: Bytes::from_static(b"\x01"),
            }),
            now,
        );
        id = id.next().unwrap();
    }
    assert!(matches!(
        &**pair.server.mux.ended().unwrap(),
        ConnectionError::Violation {
            code: Code::TOO_BUSY,
            ..
        }
    ));
}

#[test]
fn unread_pings_leave_one_pong() {
    let mut pair = Pair::new();
    let now = pair.now;
    for token in 0..50 {
        pair.server.mux.handle_frame(Frame::Ping { token }, now);
    }
    assert!(matches!(
        pair.server.mux.poll_frame(now),
        Some(Frame::Pong { token: 49 })
    ));
    assert!(pair.server.mux.poll_frame(now).is_none());
}

#[test]
fn a_goaway_tells_which_calls_have_not_run() {
    let mut pair = Pair::new();
    let first = pair.call(b"\x01");
    let second = pair.call(b"\x02");
    pair.transmit(Side::Client);
    let now = pair.now;
    pair.client.mux.handle_frame(
        Frame::Goaway(picom_codec::Goaway {
            last: Some(StreamId::FIRST),
            code: Code::TOO_BUSY,
            text: "later\u{1b}".into(),
        }),
        now,
    );
    assert_eq!(
        failed(pair.client.mux.read(first)).outcome(),
        Outcome::MaybeExecuted
    );
    assert_eq!(failed(pair.client.mux.read(second)).outcome(), Outcome::NeverSent);
    let text = pair.client.mux.ended().unwrap().to_string();
    assert!(
        !text.contains('\u{1b}'),
        "control characters do not reach a log: {text}"
    );
}
