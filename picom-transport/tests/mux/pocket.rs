//! Small messages that are left in a stream's pocket arrive as if they had been put in line one by one.

use crate::pair::{Pair, message, pack};
use bytes::Bytes;
use picom_codec::Code;
use picom_transport::SendError;
use picom_transport::proto::{Key, Pocket, Received};
use proptest::prelude::*;
use std::sync::Arc;

/// A stream, and where its small messages can be left.
fn stream(pair: &mut Pair) -> (Key, Key, Arc<Pocket>) {
    let key = pair.open(b"\x01");
    let pocket = pair.client.mux.pocket(key).unwrap();
    pair.drive();
    let (served, _) = pair.accept();
    (key, served, pocket)
}

/// As a sender does it: into the pocket, or else to the stream. `false`: there is no room.
fn send(pair: &mut Pair, key: Key, pocket: &Pocket, message: &Bytes) -> Result<bool, SendError> {
    let mut pack = pack(std::slice::from_ref(message));
    if pocket.push(&mut pack) {
        return Ok(true);
    }
    pair.client.mux.try_send_pack(key, &pack)
}

#[derive(Clone, Debug)]
enum Step {
    Small(usize),
    Together(usize),
    Large(usize),
    /// The driver has its turn, and the peer reads.
    Turn,
    /// Somebody asks for room.
    Ask,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1usize..100).prop_map(Step::Small),
        1 => (2usize..20).prop_map(Step::Together),
        1 => (5000usize..100_000).prop_map(Step::Large),
        2 => Just(Step::Turn),
        1 => Just(Step::Ask),
    ]
}

proptest! {
    #[test]
    fn all_arrive_in_order_whichever_way_they_went(
        steps in prop::collection::vec(step(), 1..80),
        faulty in any::<bool>(),
    ) {
        let mut pair = Pair::new();
        let (key, served, pocket) = stream(&mut pair);
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for (n, step) in steps.into_iter().enumerate() {
            let next = |length| message(length, n as u8);
            match step {
                Step::Small(length) => {
                    if send(&mut pair, key, &pocket, &next(length)).unwrap() {
                        sent.push(next(length));
                    }
                }
                Step::Together(count) => {
                    let messages = vec![next(30); count];
                    pair.client.mux.send_pack(key, &pack(&messages)).unwrap();
                    sent.extend(messages);
                }
                Step::Large(length) => {
                    pair.client.mux.send(key, next(length).into()).unwrap();
                    sent.push(next(length));
                }
                Step::Turn => {
                    pair.drive();
                    got.extend(pair.server.read_all(served).0);
                }
                Step::Ask => drop(pair.client.mux.room(key).unwrap()),
            }
        }
        let last = faulty.then(|| Bytes::from_static(b"\x07").into());
        sent.extend(faulty.then(|| Bytes::from_static(b"\x07")));
        pair.client.mux.finish(key, last).unwrap();
        let rest = pocket.push(&mut pack(&[message(5, 0)]));
        prop_assert!(!rest, "nothing goes behind the end");
        let mut end = Received::Pending;
        while matches!(end, Received::Pending) {
            pair.drive();
            let (messages, now) = pair.server.read_all(served);
            prop_assert!(!messages.is_empty() || !matches!(now, Received::Pending), "it stands still");
            got.extend(messages);
            end = now;
        }
        prop_assert!(matches!(end, Received::End), "{end:?}");
        prop_assert_eq!(got, sent);
    }
}

#[test]
fn a_pocket_is_open_from_one_message_to_the_next_turn_of_its_stream() {
    let mut pair = Pair::new();
    let (key, served, pocket) = stream(&mut pair);
    for n in 0..3 {
        assert!(
            !pocket.push(&mut pack(&[message(5, n)])),
            "nobody would come for it"
        );
        assert!(
            pair.client
                .mux
                .try_send_pack(key, &pack(&[message(5, n)]))
                .unwrap()
        );
        assert!(pocket.push(&mut pack(&[message(6, n)])));
        pair.drive();
        assert_eq!(
            pair.server.read_all(served).0,
            [message(5, n), message(6, n)],
            "round {n}"
        );
    }
}

#[test]
fn what_waits_in_a_pocket_counts_for_the_line() {
    let mut pair = Pair::new();
    let (key, served, pocket) = stream(&mut pair);
    let mut sent = 0;
    while send(&mut pair, key, &pocket, &message(100, 1)).unwrap() {
        sent += 1;
        assert!(sent <= 656, "64 KiB, and no more than one message over");
    }
    assert_eq!(sent, 656);
    pair.drive();
    assert_eq!(pair.server.read_all(served).0.len(), sent);
    assert!(
        send(&mut pair, key, &pocket, &message(100, 1)).unwrap(),
        "room again"
    );
}

#[test]
fn a_pocket_of_a_stream_that_has_ended_takes_nothing() {
    for stopped in [false, true] {
        let mut pair = Pair::new();
        let (key, served, pocket) = stream(&mut pair);
        assert!(send(&mut pair, key, &pocket, &message(5, 1)).unwrap());
        assert!(pocket.push(&mut pack(&[message(5, 2)])));
        if stopped {
            pair.server.mux.stop(served, Code::CANCELLED);
            pair.transmit(crate::pair::Side::Server);
            pair.receive(crate::pair::Side::Client);
        } else {
            pair.client.mux.reset(key, Code::CANCELLED);
        }
        let ended = send(&mut pair, key, &pocket, &message(5, 3));
        match stopped {
            true => assert!(matches!(
                ended,
                Err(SendError::Stopped {
                    code: Code::CANCELLED
                })
            )),
            false => assert!(matches!(ended, Err(SendError::Ended(_)))),
        }
        pair.drive();
        assert!(pair.server.read_all(served).0.is_empty(), "what waited is gone");
    }
}
