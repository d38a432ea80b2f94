//! What a line gives to the frames, and in which pieces.

use super::*;

const ID: StreamId = StreamId::FIRST;

fn peer(frame_limit: u32, first_window: u32) -> PeerLimits {
    PeerLimits {
        frame_limit,
        first_window,
        ..PeerLimits::for_tests()
    }
}

fn all(outbox: &mut Outbox, peer: &PeerLimits) -> Vec<(Frame, u32, bool)> {
    let mut frames = Vec::new();
    while let Next::Frame { frame, charge, ends } = outbox.next(ID, u32::MAX, peer) {
        frames.push((frame, charge, ends));
    }
    assert!(outbox.is_empty() && outbox.bytes == 0);
    frames
}

#[test]
fn a_lone_message_with_its_end_is_one_frame() {
    let mut outbox = Outbox::default();
    outbox.push(Bytes::from_static(b"\x07").into());
    outbox.finish(Final::End);
    let frames = all(&mut outbox, &peer(65536, 65536));
    assert!(matches!(&frames[..], [(Frame::Last { body, .. }, 256, true)] if *body == [7][..]));
}

#[test]
fn small_messages_in_line_are_packed() {
    let mut outbox = Outbox::default();
    for n in 0..5u8 {
        outbox.push(Bytes::from(vec![n]).into());
    }
    outbox.finish(Final::End);
    let frames = all(&mut outbox, &peer(65536, 65536));
    assert!(matches!(&frames[..],
        [(Frame::Items { count: 5, body, .. }, 256, false), (Frame::End { .. }, 0, true)]
        if body[..] == [0, 1, 2, 3, 4]));
}

#[test]
fn packing_stops_at_the_credit_between_messages() {
    let mut outbox = Outbox::default();
    for n in 0..4u8 {
        outbox.push(Bytes::from(vec![n; 200]).into());
    }
    let limits = peer(65536, 65536);
    assert!(matches!(outbox.next(ID, 255, &limits), Next::Blocked));
    let Next::Frame {
        frame: Frame::Items { count: 2, body, .. },
        charge: 400,
        ..
    } = outbox.next(ID, 599, &limits)
    else {
        panic!("two fit into 599 bytes")
    };
    assert_eq!((body[0], body[399]), (0, 1));
    let Next::Frame {
        frame: Frame::Data { body, .. },
        charge: 256,
        ..
    } = outbox.next(ID, 256, &limits)
    else {
        panic!("one fits into 256 bytes")
    };
    assert_eq!(body.into_bytes()[0], 2);
}

#[test]
fn a_message_over_the_frame_limit_travels_in_parts() {
    let mut outbox = Outbox::default();
    outbox.push(Bytes::from(vec![1u8; 20_000]).into());
    outbox.finish(Final::End);
    let frames = all(&mut outbox, &peer(8192, 65536));
    let lengths: Vec<_> = frames
        .iter()
        .map(|(frame, charge, ends)| match frame {
            Frame::Part { total, end, body, .. } => (*total, body.len(), *end, *charge, *ends),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        lengths,
        [
            (Some(20_000), 8160, false, 8160, false),
            (None, 8160, false, 8160, false),
            (None, 3680, true, 3680, true)
        ]
    );
}

#[test]
fn what_follows_a_message_in_parts_is_not_lost() {
    let mut outbox = Outbox::default();
    outbox.push(Bytes::from(vec![1u8; 20_000]).into());
    outbox.push(Bytes::from_static(b"\x07").into());
    outbox.finish(Final::End);
    let frames = all(&mut outbox, &peer(8192, 65536));
    assert!(matches!(frames.last(), Some((Frame::Last { body, .. }, 256, true)) if *body == [7][..]));
    assert_eq!(frames.len(), 4);
}

#[test]
fn a_message_over_the_first_window_travels_in_parts_and_waits_for_credit() {
    let mut outbox = Outbox::default();
    outbox.push(Bytes::from(vec![1u8; 20_000]).into());
    let limits = peer(65536, 16_384);
    let Next::Frame {
        frame: Frame::Part { body, .. },
        charge: 16_384,
        ..
    } = outbox.next(ID, 16_384, &limits)
    else {
        panic!("the first part fills the window")
    };
    assert_eq!(body.len(), 16_384);
    assert!(
        matches!(outbox.next(ID, 3615, &limits), Next::Blocked),
        "a short part would not be the last"
    );
    assert!(matches!(
        outbox.next(ID, 3616, &limits),
        Next::Frame {
            frame: Frame::Part {
                end: false,
                total: None,
                ..
            },
            charge: 3616,
            ends: false
        }
    ));
}

#[test]
fn a_fault_follows_the_messages() {
    let mut outbox = Outbox::default();
    outbox.push(Bytes::from_static(b"\x01").into());
    outbox.finish(Final::Fault(Box::new(FaultReply {
        code: picom_codec::Code::INTERNAL,
        started: true,
        do_not_retry: false,
        delay: None,
        text: "oh".into(),
        name: None,
        details: Bytes::from_static(&[0xc0]),
    })));
    let frames = all(&mut outbox, &peer(65536, 65536));
    assert!(matches!(
        &frames[..],
        [(Frame::Data { .. }, 256, false), (Frame::Fault(_), 256, true)]
    ));
}

#[test]
fn a_fault_is_cut_to_what_the_peer_takes() {
    let fault = FaultReply {
        code: picom_codec::Code::APPLICATION,
        started: true,
        do_not_retry: false,
        delay: None,
        text: "ä".repeat(10_000),
        name: Some("E".into()),
        details: Bytes::from(vec![0u8; 5000]),
    };
    let cut = fit_fault(fault, &peer(8192, 8192));
    assert!(
        cut.text.len() < 2048 && cut.text.contains("5000 bytes"),
        "{}",
        cut.text.len()
    );
    assert_eq!(cut.details[..], [0xc0]);
}
