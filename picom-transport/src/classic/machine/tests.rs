//! One call, bytes by bytes, without a socket or a clock.

use super::*;
use crate::proto::{FaultReply, SendError};
use picom_codec::Code;
use std::time::Duration;

fn rules() -> Rules {
    Rules {
        message_limit: 1 << 20,
        scan: Limits::default(),
        header_timeout: Duration::from_secs(2),
        stall_timeout: Duration::from_secs(10),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "any instant will do as the beginning of a test's time"
)]
fn start() -> Instant {
    Instant::now()
}

/// A server and what it was sent.
fn server(bytes: &[u8]) -> Machine {
    let mut machine = Machine::server("svc".into(), rules(), start());
    machine.receive(&mut BytesMut::from(bytes), start());
    machine
}

fn client(args: Bytes, ends: bool) -> Machine {
    let method = Method::new("add").unwrap();
    Machine::client("svc".into(), &method, &args, ends, None, rules(), start()).unwrap()
}

fn fed(mut machine: Machine, bytes: &[u8]) -> Machine {
    machine.receive(&mut BytesMut::from(bytes), start());
    machine
}

const CALL: &[u8] = b"\x09\x81\xa3cmd\xa3add";
const THE_END: &[u8] = b"\x0c\x81\xa6_type_\xa3end";

#[test]
fn a_call_is_its_header_its_items_and_the_end() {
    let mut machine = server(b"\x00\x80\x00\x09\x81\xa3cmd\xa3add\x00\x01\x07\x81\x80\x00\x08");
    assert_eq!(machine.take_call().unwrap().cmd.as_deref(), Some("add"));
    assert!(machine.take_call().is_none());
    assert_eq!(machine.read().unwrap().unwrap().unwrap(), &b"\x07"[..]);
    assert_eq!(machine.read().unwrap().unwrap().unwrap(), &b"\x08"[..]);
    assert!(machine.read().is_none(), "more may come");
    machine.receive_end(0);
    assert_eq!(machine.read().unwrap().unwrap(), None);
    machine.finish(Some(&Bytes::from_static(b"\x0f"))).unwrap();
    assert_eq!(&machine.take_output()[..], [b"\x01\x0f", THE_END].concat());
    assert_eq!(machine.socket(), Socket::Finishing);
}

#[test]
fn input_that_is_cut_off_is_no_end() {
    // Within a payload, right behind its prefix, within the prefix.
    for part in [&b"\x05\xa4ab"[..], b"\x05", b"\x81"] {
        let mut machine = Machine::server("svc".into(), rules(), start());
        let mut bytes = BytesMut::from(&[CALL, part].concat()[..]);
        machine.receive(&mut bytes, start());
        machine.receive_end(bytes.len());
        assert!(
            matches!(
                machine.read(),
                Some(Err(StreamError::ConnectionLost { sent: true, .. }))
            ),
            "{part:?}"
        );
        assert!(machine.room().unwrap() > 0, "the answer still has a reader");
    }
}

#[test]
fn faults_are_texts_as_the_original_writes_them() {
    let said = |fault: FaultReply| {
        let mut machine = server(CALL);
        machine.fault(&fault).unwrap();
        let out = machine.take_output();
        String::from_utf8_lossy(&out[1..]).into_owned()
    };
    let fault = |code, started, text: &str| FaultReply {
        code,
        started,
        do_not_retry: false,
        delay: None,
        text: text.into(),
        name: None,
        details: value::nil(),
    };
    let failed = said(fault(Code::INTERNAL, true, "boom"));
    assert!(failed.ends_with("[svc] boom"), "{failed}");
    let unknown = said(fault(Code::UNKNOWN_METHOD, false, "anything"));
    assert!(
        unknown.contains("svc:add Does not exist") && unknown.ends_with("_type_\u{fffd}end"),
        "{unknown}"
    );
}

#[test]
fn a_client_without_input_says_so_at_once_and_reads_to_the_end_record() {
    let mut machine = client(value::encode(&[2, 5]).unwrap(), true);
    assert_eq!(
        &machine.take_output()[..],
        b"\x11\x82\xa3cmd\xa3add\xa4args\x92\x02\x05"
    );
    assert!(machine.half_closes());
    let mut machine = fed(machine, &[b"\x01\x07", THE_END, b"\x01\x09"].concat());
    assert_eq!(machine.read().unwrap().unwrap().unwrap(), &b"\x07"[..]);
    assert_eq!(machine.read().unwrap().unwrap(), None);
    assert_eq!(
        machine.read().unwrap().unwrap(),
        None,
        "what follows the end is nothing"
    );
    assert_eq!(machine.socket(), Socket::Finishing);
}

#[test]
fn no_arguments_are_no_key() {
    let mut machine = client(value::nil(), true);
    assert_eq!(&machine.take_output()[..], CALL);
}

#[test]
fn a_connection_that_ends_without_an_end_record_is_lost() {
    let mut machine = fed(client(value::nil(), true), b"\x01\x07");
    machine.receive_end(0);
    assert!(machine.read().unwrap().is_ok());
    // The header was never written, so the call cannot have run.
    assert!(matches!(
        machine.read(),
        Some(Err(StreamError::ConnectionLost { sent: false, .. }))
    ));
    let mut machine = client(value::nil(), true);
    let count = machine.take_output().len();
    machine.wrote(count, start());
    machine.receive_end(0);
    let lost = machine.read().unwrap().unwrap_err();
    assert!(matches!(lost, StreamError::ConnectionLost { sent: true, .. }));
}

#[test]
fn error_records_become_faults_of_the_two_kinds_there_are() {
    let fault = |text: &str| {
        let payload = error_record(text);
        let bytes = [&[payload.len() as u8][..], &payload].concat();
        match fed(client(value::nil(), true), &bytes).read() {
            Some(Err(StreamError::Fault(fault))) => (*fault).clone(),
            other => panic!("{other:?}"),
        }
    };
    let failed = fault("[svc] boom");
    assert_eq!(
        (failed.code, failed.started, &*failed.text),
        (Code::APPLICATION, true, "boom")
    );
    let unknown = fault("svc:add Does not exist");
    assert_eq!((unknown.code, unknown.started), (Code::UNKNOWN_METHOD, false));
    assert!(unknown.do_not_retry);
    assert_eq!(fault("[other] boom").text, "[other] boom");
    assert_eq!(fault("").text, "");
}

#[test]
fn what_the_peer_could_not_read_is_refused_and_the_stream_goes_on() {
    let mut machine = server(CALL);
    let record = value::encode(&std::collections::BTreeMap::from([("_type_", "end")])).unwrap();
    assert!(matches!(machine.send(&record), Err(SendError::Unreadable(_))));
    assert!(matches!(
        machine.send(&value::nil()),
        Err(SendError::Unreadable(_))
    ));
    assert!(matches!(machine.send(&Bytes::new()), Err(SendError::Empty)));
    let large = value::encode(&"x".repeat(1 << 20)).unwrap();
    assert!(matches!(
        machine.send(&large),
        Err(SendError::TooLarge { limit: 0x10_0000, .. })
    ));
    let method = Method::new("add").unwrap();
    let refused = Machine::client("svc".into(), &method, &large, true, None, rules(), start());
    assert!(matches!(refused, Err(OpenError::TooLarge { .. })));
    // With what is around them: `82 a3cmd a3add a4args` are fourteen bytes.
    let fits = |len: usize| {
        let args = value::encode(&"x".repeat(len - 5)).unwrap();
        assert_eq!(args.len(), len);
        match Machine::client("svc".into(), &method, &args, true, None, rules(), start()) {
            Ok(mut client) => {
                assert!(server(&client.take_output()).take_call().is_some());
                true
            }
            Err(error) => {
                assert!(matches!(
                    error,
                    OpenError::TooLarge {
                        size: 0x10_0001,
                        limit: 0x10_0000
                    }
                ));
                false
            }
        }
    };
    assert!(fits((1 << 20) - 14));
    assert!(!fits((1 << 20) - 13));
    assert!(machine.take_output().is_empty());
    machine.send(&value::encode(&1).unwrap()).unwrap();
    // Nil as the value of a handler is no value.
    machine.finish(Some(&value::nil())).unwrap();
    assert_eq!(&machine.take_output()[..], [b"\x01\x01", THE_END].concat());
}

#[test]
fn what_was_cut_short_on_our_side_never_looks_complete() {
    let mut machine = server(CALL);
    machine.release_send();
    let out = machine.take_output();
    assert!(String::from_utf8_lossy(&out).contains("[svc] the call was given up"));
    assert_eq!(machine.socket(), Socket::Finishing);

    let mut machine = client(value::nil(), false);
    machine.release_send();
    assert_eq!(machine.socket(), Socket::Abort);
}

#[test]
fn a_full_inbox_holds_the_peer_back_until_it_is_read() {
    let mut machine = server(CALL);
    let mut bytes = BytesMut::from(&b"\x01\x07".repeat(2000)[..]);
    machine.receive(&mut bytes, start());
    assert!(!machine.wants_input());
    assert_eq!(bytes.len(), 2 * (2000 - (HELD / LEAST_CHARGE) as usize));
    assert_eq!(machine.next_timeout(false), None, "what is held back is not late");
    let mut items = 0;
    while let Some(Ok(Some(_))) = machine.read() {
        items += 1;
        machine.receive(&mut bytes, start());
    }
    assert_eq!(items, 2000);
    assert!(bytes.is_empty() && machine.wants_input());
}

#[test]
fn times_are_kept() {
    let begin = start();
    let mut machine = Machine::server("svc".into(), rules(), begin);
    assert_eq!(machine.next_timeout(false), Some(begin + Duration::from_secs(2)));
    machine.handle_timeout(false, begin + Duration::from_secs(2));
    assert_eq!(machine.socket(), Socket::Abort);

    let mut machine = server(&[CALL, b"\x05\xa4"].concat());
    let until = machine.next_timeout(false).unwrap();
    machine.handle_timeout(false, until);
    assert!(matches!(
        machine.end_of(),
        Some(StreamError::ConnectionLost { .. })
    ));

    let mut machine = server(CALL);
    machine.drain(Duration::from_secs(3), begin);
    machine.handle_timeout(false, begin + Duration::from_secs(3));
    assert!(machine.was_cut() && machine.end_of().is_some());
    assert!(String::from_utf8_lossy(&machine.take_output()).contains("[svc] the service is ending"));

    let method = Method::new("add").unwrap();
    let deadline = Some(begin + Duration::from_secs(1));
    let mut machine = Machine::client(
        "svc".into(),
        &method,
        &value::nil(),
        true,
        deadline,
        rules(),
        begin,
    )
    .unwrap();
    machine.handle_timeout(false, begin + Duration::from_secs(1));
    assert!(matches!(
        machine.read(),
        Some(Err(StreamError::Deadline { sent: false }))
    ));
    assert_eq!(machine.socket(), Socket::Abort);
}

#[test]
fn bad_bytes_end_that_call_and_nothing_else() {
    let table: [&[u8]; 4] = [
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x02\x81\xc1",
        b"\x05\x81\xa3cmd",
        b"\x06\xdf\xff\xff\xff\xff\x00",
    ];
    for bytes in table {
        let machine = server(bytes);
        assert_eq!(machine.socket(), Socket::Abort, "{bytes:?}");
        assert!(machine.end_of().is_some());
    }
    for bytes in [&b"\x01\xc1"[..], b"\x02\x92\x01"] {
        let mut machine = fed(client(value::nil(), true), bytes);
        assert!(matches!(
            machine.read(),
            Some(Err(StreamError::ConnectionLost { .. }))
        ));
    }
}

#[test]
fn who_sends_what_is_not_taken_is_told_so_while_there_is_an_answer() {
    let mut deep = b"\x50\x82\xa3cmd\xa3add\xa4args".to_vec();
    deep.extend_from_slice(&[0x91; 66]);
    deep.push(0xc0);
    deep[0] = deep.len() as u8 - 1;
    let headers: [(&[u8], &str); 4] = [
        (&deep, "nested deeper"),
        (b"\x10\x82\xa3cmd\xa3add\xa4args\x01\x02", "trailing bytes"),
        (b"\x0f\x82\xa3cmd\xa3add\xa4args\x92", "are announced"),
        (b"\xff\xff\xff\xff\x7f", "the limit is 1048576"),
    ];
    for (bytes, expected) in headers {
        let mut machine = server(bytes);
        assert_eq!(machine.socket(), Socket::Finishing, "{expected}");
        assert!(machine.is_ready() && machine.take_call().is_none());
        let said = String::from_utf8_lossy(&machine.take_output()).into_owned();
        assert!(said.contains("[svc] ") && said.contains(expected), "{said}");
    }
    let too_long = [CALL, b"\x01\x07\xff\xff\xff\x7f"].concat();
    let mut machine = server(&too_long);
    let said = String::from_utf8_lossy(&machine.take_output()).into_owned();
    assert!(said.contains("[svc] a payload of 268435455 bytes"), "{said}");
    assert_eq!(machine.socket(), Socket::Finishing);
    assert_eq!(machine.read().unwrap().unwrap().unwrap(), &b"\x07"[..]);
    assert!(matches!(
        machine.read(),
        Some(Err(StreamError::ConnectionLost { .. }))
    ));
}

#[test]
fn an_early_end_stops_the_input() {
    let mut machine = client(value::nil(), false);
    let count = machine.take_output().len();
    machine.wrote(count, start());
    machine.send(&value::encode(&1).unwrap()).unwrap();
    let mut machine = fed(machine, THE_END);
    assert!(matches!(
        machine.send(&value::encode(&2).unwrap()),
        Err(SendError::Stopped { .. })
    ));
    assert!(
        machine.take_output().is_empty(),
        "the rest of the input is dropped"
    );
    assert_eq!(machine.read().unwrap().unwrap(), None);
}

mod times;
