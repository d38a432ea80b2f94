//! Credit, budget, slots and sizes (PROTOCOL §6, §7, §5.6). Dialogues of frames under a virtual clock.

use super::dialogue::{assert_clean, fault};
use crate::pair::{Pair, failed, message, opening};
use picom_codec::{Code, Frame, StreamId};
use picom_transport::proto::Event;
use picom_transport::{ConnectionConfig, OpenError, Outcome, SendError, StreamError};

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
            pair.server
                .mux
                .finish(served, Some(message(1, 1).into()))
                .unwrap();
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
            .finish(served, Some(message(10_000_000, 9).into()))
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
        pair.server.mux.finish(served, Some(message(over, 0).into())),
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
        pair.client.mux.send(call, message(8000, 1).into()).unwrap();
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

/// A stream takes so many messages of `length` bytes until it has to wait, with `streams` open.
fn piled_up(streams: usize, length: usize) -> (usize, usize) {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    for _ in 1..streams {
        pair.open(b"\x01");
    }
    pair.drive();
    let mut sent = 0;
    while pair.client.mux.can_send(call).unwrap() {
        pair.client.mux.send(call, message(length, 1).into()).unwrap();
        pair.drive();
        sent += 1;
        assert!(sent < 1_000_000, "there is no end to it");
    }
    (pair.server.read_all(served).0.len(), sent)
}

#[test]
fn empty_messages_cannot_be_piled_up() {
    let (arrived, sent) = piled_up(1, 1);
    assert!(arrived <= 66560 / 256, "each frame costs at least 256: {arrived}");
    assert!(sent < 70_000, "and the sender stops at its 64 KiB: {sent}");
}

#[test]
fn a_line_of_large_messages_is_long_with_few_streams() {
    const LARGE: usize = 20_000;
    for (streams, line) in [(1, 256 * 1024), (16, 256 * 1024), (17, 64 * 1024)] {
        let (arrived, sent) = piled_up(streams, LARGE);
        let in_line = (sent - arrived) * LARGE;
        // Of one that has gone in part the rest is in line.
        assert!(
            in_line >= line && in_line < line + 2 * LARGE,
            "{in_line}, not {line}"
        );
    }
}

/// Somebody waits while others come and go, and what is a full line with many streams is none with few.
#[test]
fn who_waits_for_room_is_told_of_it_whatever_the_others_do() {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    let others: Vec<_> = (0..16).map(|_| pair.open(b"\x01")).collect();
    pair.drive();
    while pair.client.mux.can_send(call).unwrap() {
        pair.client.mux.send(call, message(20_000, 1).into()).unwrap();
    }
    for other in others {
        pair.client.mux.reset(other, Code::CANCELLED);
    }
    pair.client.events.clear();
    pair.drive();
    // The window is spent; the rest is still in line, and all of it goes as the peer reads.
    let mut rounds = 0;
    while !pair.client.events.contains(&Event::Writable(call)) {
        assert!(rounds < 100, "nobody tells who waits");
        assert!(!pair.server.read_all(served).0.is_empty());
        pair.drive();
        rounds += 1;
    }
    assert!(pair.client.mux.can_send(call).unwrap());
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
    assert_eq!(pair.accept().1.args, b"\x03"[..]);
    pair.client.release(third);
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
            body: message(5000, 1).into(),
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
