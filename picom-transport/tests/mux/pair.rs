//! Two multiplexers on a virtual clock, with a wire between them that delays whole frames and can be cut. Every frame
//! goes through its bytes, so what the multiplexer says can also be written.

use bytes::{Bytes, BytesMut};
use picom_codec::{Frame, FrameCodec, Method};
use picom_transport::proto::{Delivery, Event, Identity, Key, Mux, Opening, Received, Role, StreamError};
use picom_transport::{ConnectionConfig, ConnectionError, Pack};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio_util::codec::{Decoder, Encoder};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

pub(crate) struct End {
    pub(crate) mux: Mux,
    codec: FrameCodec,
    written: u64,
    /// Frames on their way to this side, and when they arrive.
    arriving: VecDeque<(Instant, Bytes)>,
    pub(crate) events: Vec<Event>,
    /// Every frame this side sent.
    pub(crate) sent: Vec<Frame>,
}

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) client: End,
    pub(crate) server: End,
    pub(crate) latency: Duration,
    /// The socket takes nothing from this side.
    pub(crate) clogged: Option<Side>,
}

impl End {
    fn new(role: Role, config: &ConnectionConfig, identity: Identity, now: Instant) -> Self {
        Self {
            mux: Mux::new(role, config.clone(), identity, false, now),
            codec: FrameCodec::new(config.frame_limit),
            written: 0,
            arriving: VecDeque::new(),
            events: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Takes all events, and gives slots that are free to calls that wait for one.
    fn take_events(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            if event == Event::SlotFree {
                self.mux.admit();
            }
            self.events.push(event);
        }
    }

    /// Streams that the peer opened since the last time.
    pub(crate) fn opened(&mut self) -> Vec<(Key, Opening)> {
        let keys: Vec<Key> = self
            .events
            .iter()
            .filter_map(|event| {
                if let Event::Opened(key) = event {
                    Some(*key)
                } else {
                    None
                }
            })
            .collect();
        self.events.retain(|event| !matches!(event, Event::Opened(_)));
        // One that failed meanwhile is not there any more.
        keys.into_iter()
            .filter_map(|key| Some((key, self.mux.accept(key)?)))
            .collect()
    }

    /// All messages that are there, and how the stream stands behind them.
    pub(crate) fn read_all(&mut self, key: Key) -> (Vec<Bytes>, Received) {
        let mut messages = Vec::new();
        loop {
            match self.mux.read(key) {
                Received::Delivery {
                    delivery: Delivery::One(message),
                    ..
                } => messages.push(message.into_bytes()),
                Received::Delivery {
                    delivery: Delivery::Many(items),
                    ..
                } => {
                    messages.extend(items.map(|item| item.expect("well-formed items")));
                }
                other => return (messages, other),
            }
        }
    }

    pub(crate) fn release(&mut self, key: Key) {
        self.mux.release_send(key);
        self.mux.release_recv(key);
    }
}

impl Pair {
    #[expect(
        clippy::disallowed_methods,
        reason = "an arbitrary origin: from here the clock is ours"
    )]
    pub(crate) fn unready(config: &ConnectionConfig) -> Self {
        let now = Instant::now();
        Self {
            now,
            client: End::new(Role::Client, config, Identity::default(), now),
            server: End::new(Role::Server, config, Identity::default(), now),
            latency: Duration::ZERO,
            clogged: None,
        }
    }

    /// A pair that has shaken hands.
    pub(crate) fn with(config: &ConnectionConfig) -> Self {
        let mut pair = Self::unready(config);
        pair.drive();
        assert!(pair.client.mux.is_open() && pair.server.mux.is_open());
        pair.client.sent.clear();
        pair.server.sent.clear();
        pair
    }

    pub(crate) fn new() -> Self {
        Self::with(&ConnectionConfig::default())
    }

    fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Takes what one side has to say onto the wire.
    pub(crate) fn transmit(&mut self, side: Side) {
        let (now, arrives) = (self.now, self.now + self.latency);
        if self.clogged == Some(side) {
            return;
        }
        let end = self.end(side);
        let mut on_the_way = Vec::new();
        while let Some(frame) = end.mux.poll_frame(now) {
            let mut wire = BytesMut::new();
            end.codec
                .encode(frame.clone(), &mut wire)
                .expect("what the multiplexer says can be written");
            end.written += wire.len() as u64;
            end.mux.frame_staged(end.written);
            end.mux.handle_written(end.written, now);
            end.sent.push(frame);
            on_the_way.push((arrives, wire.freeze()));
        }
        end.take_events();
        let other = if side == Side::Client {
            Side::Server
        } else {
            Side::Client
        };
        self.end(other).arriving.extend(on_the_way);
    }

    /// Lets one side take what has arrived. Says whether anything had.
    pub(crate) fn receive(&mut self, side: Side) -> bool {
        let now = self.now;
        let end = self.end(side);
        let mut any = false;
        while end.arriving.front().is_some_and(|(at, _)| *at <= now) {
            let (_, bytes) = end.arriving.pop_front().expect("it is there");
            let frame = end
                .codec
                .decode(&mut BytesMut::from(&bytes[..]))
                .expect("a good frame")
                .expect("a whole frame");
            end.mux.handle_frame(frame, now);
            any = true;
        }
        end.take_events();
        any
    }

    /// Runs until nothing more happens at this moment.
    pub(crate) fn drive(&mut self) {
        loop {
            self.transmit(Side::Client);
            self.transmit(Side::Server);
            let client = self.receive(Side::Client);
            let server = self.receive(Side::Server);
            if !client && !server {
                return;
            }
        }
    }

    /// Lets time pass, stopping at everything that is due on the way.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        loop {
            self.drive();
            let due = [
                self.client.mux.next_timeout(self.now),
                self.server.mux.next_timeout(self.now),
            ];
            let arrivals = [&self.client, &self.server].map(|end| end.arriving.front().map(|(at, _)| *at));
            let next = due.into_iter().chain(arrivals).flatten().min();
            self.now = next
                .filter(|next| *next < until)
                .unwrap_or(until)
                .max(self.now + Duration::from_nanos(1));
            let now = self.now;
            self.client.mux.handle_timeout(now);
            self.server.mux.handle_timeout(now);
            if self.now >= until {
                return self.drive();
            }
        }
    }

    /// Cuts the wire: what is on it is lost.
    pub(crate) fn cut(&mut self) {
        for side in [Side::Client, Side::Server] {
            let end = self.end(side);
            end.arriving.clear();
            end.mux.handle_lost(ConnectionError::PeerClosed);
            end.take_events();
        }
    }

    /// A call whose half ends with the args.
    pub(crate) fn call(&mut self, args: &[u8]) -> Key {
        self.client
            .mux
            .open(opening(args, true))
            .expect("the connection takes a call")
    }

    /// A call with further input.
    pub(crate) fn open(&mut self, args: &[u8]) -> Key {
        self.client
            .mux
            .open(opening(args, false))
            .expect("the connection takes a call")
    }

    /// The one stream that the server has been opened.
    pub(crate) fn accept(&mut self) -> (Key, Opening) {
        let mut opened = self.server.opened();
        assert_eq!(opened.len(), 1, "exactly one stream was opened");
        opened.remove(0)
    }
}

pub(crate) fn opening(args: &[u8], ends: bool) -> Opening {
    Opening {
        method: Method::new("m").expect("a method's name"),
        metadata: None,
        deadline: None,
        idempotent: false,
        args: Bytes::copy_from_slice(args).into(),
        ends,
    }
}

/// A message of this length: a `bin` whose bytes all are `n`, or a small integer.
pub(crate) fn message(length: usize, n: u8) -> Bytes {
    let mut out = Vec::with_capacity(length);
    match length {
        0 | 1 => out.push(n & 0x7f),
        2..=257 => {
            out.extend([0xc4, (length - 2) as u8]);
        }
        _ => {
            out.push(0xc6);
            out.extend(((length - 5) as u32).to_be_bytes());
        }
    }
    out.resize(length.max(1), n);
    out.into()
}

pub(crate) fn failed(received: Received) -> StreamError {
    match received {
        Received::Failed(error) => error,
        other => panic!("an error, not {other:?}"),
    }
}

/// These messages, all small, to be sent together.
pub(crate) fn pack(messages: &[Bytes]) -> Pack {
    let mut pack = Pack::default();
    for message in messages {
        let large = pack.push_with(|out, _| {
            out.extend_from_slice(message);
            Ok::<_, ()>(())
        });
        assert_eq!(large, Ok(None));
    }
    pack
}
