//! Handshakes and calls that go well. Dialogues of frames under a virtual clock.

use super::dialogue::{assert_clean, kinds};
use crate::pair::{Pair, Side, message, opening};
use picom_codec::Code;
use picom_transport::proto::{Event, Identity, Received};
use picom_transport::{ConnectionConfig, ConnectionError, OpenError};

#[test]
fn a_unary_call_is_one_frame_each_way() {
    let mut pair = Pair::new();
    let call = pair.call(b"\x01");
    pair.drive();
    let (served, asked) = pair.accept();
    assert_eq!((asked.args, asked.ends), (b"\x01"[..].into(), true));
    assert!(matches!(pair.server.mux.read(served), Received::End));
    pair.server
        .mux
        .finish(served, Some(message(1, 7).into()))
        .unwrap();
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
fn a_turn_takes_half_of_what_a_caller_waits_for_or_a_quarter_if_many_threads_share_it() {
    let mut pair = Pair::new();
    let table = [
        (0, 8, 8),
        (1, 8, 8),
        (16, 8, 8),
        (40, 20, 10),
        (64, 32, 16),
        (256, 128, 64),
        (512, 128, 64),
    ];
    for (calls, alone, shared) in table {
        while pair.client.mux.stats().opened_now < calls {
            pair.call(b"\x01");
        }
        let turns = [1, 2, 8].map(|workers| pair.client.mux.frames_a_turn(workers));
        assert_eq!(turns, [alone, shared, shared], "{calls} calls under way");
    }
    for workers in [1, 2] {
        let answers = pair.server.mux.frames_a_turn(workers);
        assert_eq!(answers, 64, "who answers takes what the caller's turns send");
    }
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
        pair.client.mux.send(call, message(1, n).into()).unwrap();
    }
    pair.client.mux.finish(call, None).unwrap();
    pair.drive();
    let (served, _) = pair.accept();
    let (input, rest) = pair.server.read_all(served);
    assert_eq!(input, (0..100).map(|n| message(1, n)).collect::<Vec<_>>());
    assert!(matches!(rest, Received::End));
    for n in 0..100 {
        pair.server.mux.send(served, message(3000, n).into()).unwrap();
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
    assert_eq!(asked.args, large[..]);
    assert!(asked.ends);
    pair.server
        .mux
        .finish(served, Some(large.clone().into()))
        .unwrap();
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
