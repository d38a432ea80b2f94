//! Peers that break a rule (PROTOCOL §11), and what is merely ignored. Dialogues of frames under a virtual clock.

use super::dialogue::assert_clean;
use crate::pair::{Pair, Side, failed, message};
use bytes::Bytes;
use picom_codec::{Code, Frame, Method, Open, StreamId};
use picom_transport::{ConnectionConfig, ConnectionError, Outcome};

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
            args: Bytes::from_static(b"\x01").into(),
        })
    };
    let data = |length| Frame::Data {
        stream: id,
        body: message(length, 1).into(),
    };
    let part = |total, length| Frame::Part {
        stream: id,
        total,
        end: false,
        body: message(length, 1).into(),
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
fn frames_for_a_stream_that_was_reset_are_ignored() {
    let mut pair = Pair::new();
    let call = pair.open(b"\x01");
    pair.drive();
    let (served, _) = pair.accept();
    pair.client.mux.reset(call, Code::CANCELLED);
    pair.client.release(call);
    // Sent before the reset arrived.
    pair.server.mux.send(served, message(1, 1).into()).unwrap();
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
                args: Bytes::from_static(b"\x01").into(),
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
