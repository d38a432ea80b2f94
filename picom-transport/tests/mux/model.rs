//! Random operations on a pair of multiplexers, held against a model that knows only what each side asked for: messages
//! arrive in order, without gaps or repeats, or the stream ends in an error; nothing is held in the end.

use crate::pair::{Pair, Side, message, opening, pack};
use bytes::Bytes;
use picom_codec::Code;
use picom_transport::proto::{Key, Mux, Received};
use picom_transport::{ConnectionConfig, FaultReply, StreamError};
use proptest::prelude::*;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Operation {
    Open {
        ends: bool,
        queued: bool,
        args: usize,
        deadline_ms: Option<u16>,
    },
    ClientSend {
        stream: usize,
        length: usize,
    },
    ClientSendPack {
        stream: usize,
        lengths: Vec<u16>,
    },
    ServerSendPack {
        stream: usize,
        lengths: Vec<u16>,
    },
    ClientFinish {
        stream: usize,
    },
    ServerSend {
        stream: usize,
        length: usize,
    },
    ServerFinish {
        stream: usize,
        fault: bool,
    },
    Read {
        side: bool,
        stream: usize,
    },
    Reset {
        side: bool,
        stream: usize,
    },
    ReleaseSend {
        side: bool,
        stream: usize,
    },
    ReleaseRecv {
        side: bool,
        stream: usize,
    },
    Transmit {
        side: bool,
    },
    Receive {
        side: bool,
    },
    Advance {
        ms: u16,
    },
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 1usize..300, 2 => 300usize..20_000, 1 => 20_000usize..200_000]
}

/// Messages of a pack: up to 120 KiB of them, so that packs are cut at windows and frames.
fn lengths() -> impl Strategy<Value = Vec<u16>> {
    let length = prop_oneof![6 => 1u16..60, 1 => 60u16..=4096];
    prop::collection::vec(length, 1..120)
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::{
        Advance, ClientFinish, ClientSend, ClientSendPack, Open, Read, Receive, ReleaseRecv, ReleaseSend,
        Reset, ServerFinish, ServerSend, ServerSendPack, Transmit,
    };
    let stream = 0usize..12;
    let side = any::<bool>();
    prop_oneof![
        3 => (any::<bool>(), any::<bool>(), length(), prop::option::weighted(0.2, 1u16..500))
            .prop_map(|(ends, queued, args, deadline_ms)| Open { ends, queued, args, deadline_ms }),
        6 => (stream.clone(), length()).prop_map(|(stream, length)| ClientSend { stream, length }),
        3 => (stream.clone(), lengths()).prop_map(|(stream, lengths)| ClientSendPack { stream, lengths }),
        3 => (stream.clone(), lengths()).prop_map(|(stream, lengths)| ServerSendPack { stream, lengths }),
        2 => stream.clone().prop_map(|stream| ClientFinish { stream }),
        6 => (stream.clone(), length()).prop_map(|(stream, length)| ServerSend { stream, length }),
        2 => (stream.clone(), any::<bool>()).prop_map(|(stream, fault)| ServerFinish { stream, fault }),
        8 => (side, stream.clone()).prop_map(|(side, stream)| Read { side, stream }),
        1 => (side, stream.clone()).prop_map(|(side, stream)| Reset { side, stream }),
        1 => (side, stream.clone()).prop_map(|(side, stream)| ReleaseSend { side, stream }),
        1 => (side, stream).prop_map(|(side, stream)| ReleaseRecv { side, stream }),
        6 => side.prop_map(|side| Transmit { side }),
        6 => side.prop_map(|side| Receive { side }),
        1 => (0u16..300).prop_map(|ms| Advance { ms }),
    ]
}

/// One direction of a stream, as the model sees it.
#[derive(Default)]
struct Direction {
    sent: Vec<Bytes>,
    received: usize,
    finished: bool,
    ended: bool,
}

struct Modelled {
    client: Key,
    server: Option<Key>,
    up: Direction,
    down: Direction,
    held: [bool; 4],
    /// Something other than an orderly end may come: a reset, a deadline, a fault.
    disturbed: bool,
}

struct World {
    pair: Pair,
    streams: Vec<Modelled>,
    number: u8,
}

const SEND: usize = 0;
const RECV: usize = 1;

impl World {
    fn new(config: &ConnectionConfig) -> Self {
        let mut pair = Pair::with(config);
        pair.latency = Duration::from_millis(1);
        Self {
            pair,
            streams: Vec::new(),
            number: 0,
        }
    }

    fn next_message(&mut self, length: usize) -> Bytes {
        self.number = self.number.wrapping_add(1);
        message(length, self.number)
    }

    fn note_opened(&mut self) {
        for (key, asked) in self.pair.server.opened() {
            // Streams are served in the order of their ids; the model finds its own by the args.
            let stream = self
                .streams
                .iter_mut()
                .find(|stream| {
                    stream.server.is_none()
                        && stream.up.sent.first().is_some_and(|sent| asked.args == **sent)
                        && stream.up.received == 0
                })
                .expect("the server was opened a stream that nobody opened");
            stream.server = Some(key);
            stream.up.received = 1;
            stream.held[2] = true;
            stream.held[3] = true;
        }
    }

    fn read(&mut self, side: Side, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        let (end, key, direction) = match side {
            Side::Client => (&mut self.pair.client, Some(stream.client), &mut stream.down),
            Side::Server => (&mut self.pair.server, stream.server, &mut stream.up),
        };
        let held = stream.held[if side == Side::Client { RECV } else { 2 + RECV }];
        let Some(key) = key.filter(|_| held) else { return };
        let (messages, rest) = end.read_all(key);
        for message in messages {
            assert_eq!(
                Some(&message),
                direction.sent.get(direction.received),
                "a gap, a repeat or a foreign message"
            );
            direction.received += 1;
        }
        match rest {
            Received::End => {
                assert!(direction.finished, "an end that nobody asked for");
                assert_eq!(
                    direction.received,
                    direction.sent.len(),
                    "the end came before the last message"
                );
                direction.ended = true;
            }
            Received::Failed(error) => {
                // A slot is free to the client when it has the end, to the server when its handler has gone.
                let refused = matches!(error, StreamError::Reset { code: Code::REFUSED });
                assert!(
                    stream.disturbed || (refused && stream.server.is_none()),
                    "an error without a cause: {error}"
                );
                direction.ended = true;
            }
            Received::Pending | Received::Delivery { .. } => {}
        }
    }

    fn send(&mut self, side: Side, index: usize, length: usize) {
        let message = self.next_message(length);
        self.send_by(side, index, vec![message], |mux, key, messages| {
            mux.send(key, messages[0].clone().into()).is_ok()
        });
    }

    /// Small ones together: to the model it is as if they were sent one by one.
    fn send_pack(&mut self, side: Side, index: usize, lengths: &[u16]) {
        let messages = lengths
            .iter()
            .map(|length| self.next_message(usize::from(*length)))
            .collect();
        self.send_by(side, index, messages, |mux, key, messages| {
            mux.send_pack(key, &pack(messages)).is_ok()
        });
    }

    fn send_by(
        &mut self,
        side: Side,
        index: usize,
        messages: Vec<Bytes>,
        send: impl FnOnce(&mut Mux, Key, &[Bytes]) -> bool,
    ) {
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        let (mux, key, direction, held) = match side {
            Side::Client => (
                &mut self.pair.client.mux,
                Some(stream.client),
                &mut stream.up,
                stream.held[SEND],
            ),
            Side::Server => (
                &mut self.pair.server.mux,
                stream.server,
                &mut stream.down,
                stream.held[2 + SEND],
            ),
        };
        let Some(key) = key.filter(|_| held && !direction.finished) else {
            return;
        };
        if let Ok(true) = mux.can_send(key)
            && send(mux, key, &messages)
        {
            direction.sent.extend(messages);
        }
    }

    fn apply(&mut self, operation: Operation) {
        let side = |client: bool| if client { Side::Client } else { Side::Server };
        match operation {
            Operation::Open {
                ends,
                queued,
                args,
                deadline_ms,
            } => {
                if self.streams.len() >= 12 {
                    return;
                }
                let args = self.next_message(args);
                let mut opening = opening(&args, ends);
                opening.deadline = deadline_ms.map(|ms| self.pair.now + Duration::from_millis(ms.into()));
                let now = self.pair.now;
                let opened = match queued {
                    true => self.pair.client.mux.open_queued(opening, now),
                    false => self.pair.client.mux.open(opening),
                };
                if let Ok(client) = opened {
                    self.streams.push(Modelled {
                        client,
                        server: None,
                        up: Direction {
                            sent: vec![args],
                            finished: ends,
                            ..Direction::default()
                        },
                        down: Direction::default(),
                        held: [true, true, false, false],
                        // One that waits may be sent back.
                        disturbed: deadline_ms.is_some() || queued,
                    });
                }
            }
            Operation::ClientSend { stream, length } => self.send(Side::Client, stream, length),
            Operation::ServerSend { stream, length } => self.send(Side::Server, stream, length),
            Operation::ClientSendPack { stream, lengths } => self.send_pack(Side::Client, stream, &lengths),
            Operation::ServerSendPack { stream, lengths } => self.send_pack(Side::Server, stream, &lengths),
            Operation::ClientFinish { stream } => {
                let Some(stream) = self.streams.get_mut(stream).filter(|stream| stream.held[SEND]) else {
                    return;
                };
                if self.pair.client.mux.finish(stream.client, None).is_ok() {
                    stream.up.finished = true;
                }
            }
            Operation::ServerFinish { stream, fault } => {
                let Some(stream) = self
                    .streams
                    .get_mut(stream)
                    .filter(|stream| stream.held[2 + SEND])
                else {
                    return;
                };
                let Some(key) = stream.server else { return };
                let mux = &mut self.pair.server.mux;
                let done = if fault {
                    mux.fault(key, a_fault())
                } else {
                    mux.finish(key, None)
                };
                if done.is_ok() {
                    stream.down.finished = true;
                    stream.disturbed |= fault;
                }
            }
            Operation::Read { side: client, stream } => self.read(side(client), stream),
            Operation::Reset { side: client, stream } => {
                let Some(stream) = self.streams.get_mut(stream) else {
                    return;
                };
                stream.disturbed = true;
                match (client, stream.server) {
                    (true, _) => self.pair.client.mux.reset(stream.client, Code::CANCELLED),
                    (false, Some(key)) => self.pair.server.mux.reset(key, Code::INTERNAL),
                    _ => {}
                }
            }
            Operation::ReleaseSend { side: client, stream } => self.release(side(client), SEND, stream),
            Operation::ReleaseRecv { side: client, stream } => self.release(side(client), RECV, stream),
            Operation::Transmit { side: client } => self.pair.transmit(side(client)),
            Operation::Receive { side: client } => {
                self.pair.receive(side(client));
            }
            Operation::Advance { ms } => self.pair.advance(Duration::from_millis(ms.into())),
        }
        self.note_opened();
        for end in [&self.pair.client, &self.pair.server] {
            assert!(
                end.mux.ended().is_none(),
                "the connection ended: {}",
                end.mux.ended().unwrap()
            );
        }
    }

    fn release(&mut self, side: Side, half: usize, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        let offset = if side == Side::Client { 0 } else { 2 };
        if !std::mem::take(&mut stream.held[offset + half]) {
            return;
        }
        let (mux, key) = match side {
            Side::Client => (&mut self.pair.client.mux, stream.client),
            Side::Server => (
                &mut self.pair.server.mux,
                stream.server.expect("held halves have a stream"),
            ),
        };
        // A half that goes early disturbs the stream: it is stopped or reset.
        stream.disturbed = true;
        if half == SEND {
            mux.release_send(key)
        } else {
            mux.release_recv(key)
        }
    }

    /// Everybody finishes what is open and reads to the end.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.pair.advance(Duration::from_millis(5));
            self.note_opened();
            for index in 0..self.streams.len() {
                let Modelled {
                    client, server, held, ..
                } = self.streams[index];
                if held[SEND] && self.pair.client.mux.finish(client, None).is_ok() {
                    self.streams[index].up.finished = true;
                }
                if let Some(key) = server.filter(|_| held[2 + SEND])
                    && self.pair.server.mux.finish(key, None).is_ok()
                {
                    self.streams[index].down.finished = true;
                }
                self.read(Side::Client, index);
                self.read(Side::Server, index);
            }
        }
        for stream in &self.streams {
            assert!(
                !stream.held[RECV] || stream.down.ended,
                "the caller never learned how its call ended"
            );
            assert!(
                !stream.held[2 + RECV] || stream.up.ended,
                "the handler never learned how its input ended"
            );
        }
        for index in 0..self.streams.len() {
            for half in [SEND, RECV] {
                self.release(Side::Client, half, index);
                self.release(Side::Server, half, index);
            }
        }
        self.pair.advance(Duration::from_millis(50));
        self.note_opened();
    }
}

fn a_fault() -> FaultReply {
    FaultReply {
        code: Code::APPLICATION,
        started: true,
        do_not_retry: false,
        delay: None,
        text: "as asked".into(),
        name: Some("Asked".into()),
        details: Bytes::from_static(&[0xc0]),
    }
}

/// Small windows, so that a few operations reach every limit.
fn tight() -> ConnectionConfig {
    ConnectionConfig {
        frame_limit: 8192,
        message_limit: 256 * 1024,
        first_window: 8192,
        window_limit: 32 * 1024,
        receive_budget: 16 * 8192 + 300 * 1024,
        stream_limit: 4,
        ..ConnectionConfig::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_message_arrives_in_order_or_its_stream_fails(
        small in any::<bool>(),
        operations in prop::collection::vec(operation(), 1..120),
    ) {
        let config = if small { tight() } else { ConnectionConfig::default() };
        let mut world = World::new(&config);
        for operation in operations {
            world.apply(operation);
        }
        world.settle();
        for (name, end) in [("client", &world.pair.client), ("server", &world.pair.server)] {
            prop_assert_eq!(end.mux.streams(), 0, "{} keeps streams", name);
            let stats = end.mux.stats();
            prop_assert_eq!((stats.opened_now, stats.accepted_now), (0, 0), "{} keeps slots", name);
            let whole = config.receive_budget - u64::from(config.first_window) * u64::from(config.stream_limit);
            prop_assert_eq!(stats.budget_free, whole, "{} keeps budget", name);
        }
    }
}
