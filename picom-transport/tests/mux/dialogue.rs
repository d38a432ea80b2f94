//! What the dialogues share: the names of the frames that were sent, a plain fault, and the check that nothing is left.

use crate::pair::{End, Pair};
use bytes::Bytes;
use picom_codec::{Code, Frame};
use picom_transport::{ConnectionConfig, FaultReply};

pub(crate) fn kinds(end: &End) -> Vec<&'static str> {
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

pub(crate) fn fault(code: Code, started: bool) -> FaultReply {
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
pub(crate) fn assert_clean(pair: &Pair) {
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
