//! One call of the classic dialect, from either side, without a socket: bytes and time in, bytes and the next time-out out.

mod halves;

use crate::proto::{ConnectionError, FaultReply, OpenError, StreamError};
use bytes::{Bytes, BytesMut};
use picom_codec::classic::{
    ClassicHeader, END, Record, error_record, read_header, readable, record, write_header,
};
use picom_codec::{Code, LengthCodec, LengthError, Limits, Method, scan, value, varint};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::codec::Decoder;

/// Received and not yet taken, and queued and not yet written: each at most so much and a message. The peer is then held
/// back by TCP, the only back-pressure that the dialect has.
pub(super) const HELD: u64 = 64 * 1024;

/// What one received item counts at least, so that a flood of tiny ones is not held by the hundred thousand.
const LEAST_CHARGE: u64 = 64;

/// A reader that is merely slow stops the socket here, where native streams have credit for that: it gets so many times
/// the stall time-out.
const PATIENCE: u32 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What is to be done with the byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    /// Read and write.
    Working,
    /// Write what is left, say that nothing follows, read to the peer's end for a moment, close.
    Finishing,
    /// Close it so that the peer cannot take what came for complete.
    Abort,
    /// It is gone already.
    Gone,
}

/// Who may go on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signals {
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) ended: bool,
    pub(super) driver: bool,
}

/// The limits that a machine keeps.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) message_limit: u64,
    pub(super) scan: Limits,
    pub(super) header_timeout: Duration,
    pub(super) stall_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arriving {
    /// The server waits for what is called.
    Header,
    Items,
    /// Nobody wants what still comes.
    Ignored,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Open,
    Finished,
    /// The peer has answered before the input ended.
    Stopped,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    side: Side,
    service: Arc<str>,
    method: String,
    rules: Rules,
    codec: LengthCodec,
    arriving: Arriving,
    /// What was called, until the shell takes it.
    called: Option<ClassicHeader>,
    inbox: VecDeque<Bytes>,
    inbox_charge: u64,
    /// How the peer's half ended, behind what is in the inbox.
    input_end: Option<Result<(), StreamError>>,
    sending: Sending,
    out: BytesMut,
    queued: u64,
    written: u64,
    /// The client's header ends here.
    header_end: u64,
    /// The whole call is over for those who hold its halves, and why.
    failed: Option<StreamError>,
    socket: Socket,
    signals: Signals,
    header_until: Option<Instant>,
    deadline: Option<Instant>,
    cut_at: Option<Instant>,
    cut: bool,
    partial_since: Option<Instant>,
    /// When bytes of the peer came last.
    heard: Instant,
    /// What was left over then, in bytes.
    unread: usize,
    /// When the socket last took something, while something waits.
    progress: Instant,
    send_held: bool,
    recv_held: bool,
}

impl Machine {
    fn new(side: Side, service: Arc<str>, rules: Rules, now: Instant) -> Self {
        let limit = u32::try_from(rules.message_limit).unwrap_or(u32::MAX);
        Machine {
            side,
            service,
            method: String::new(),
            rules,
            codec: LengthCodec::lenient(limit),
            arriving: Arriving::Items,
            called: None,
            inbox: VecDeque::new(),
            inbox_charge: 0,
            input_end: None,
            sending: Sending::Open,
            out: BytesMut::new(),
            queued: 0,
            written: 0,
            header_end: 0,
            failed: None,
            socket: Socket::Working,
            signals: Signals::default(),
            header_until: None,
            deadline: None,
            cut_at: None,
            cut: false,
            partial_since: None,
            heard: now,
            unread: 0,
            progress: now,
            send_held: true,
            recv_held: true,
        }
    }

    /// The side that was connected to; it waits for a header, at most `until`.
    pub(super) fn server(service: Arc<str>, rules: Rules, until: Instant, now: Instant) -> Self {
        let mut machine = Self::new(Side::Server, service, rules, now);
        machine.arriving = Arriving::Header;
        machine.header_until = Some(until);
        // There are no halves before there is a call.
        (machine.send_held, machine.recv_held) = (false, false);
        machine
    }

    /// The side that calls; its header is queued. Without input (`ends`) its direction is closed behind it.
    pub(super) fn client(
        service: Arc<str>,
        method: &Method,
        args: &Bytes,
        ends: bool,
        deadline: Option<Instant>,
        rules: Rules,
        now: Instant,
    ) -> Result<Self, OpenError> {
        if args.is_empty() {
            return Err(OpenError::Empty);
        }
        let (size, limit) = (args.len() as u64, rules.message_limit);
        if size > limit {
            return Err(OpenError::TooLarge { size, limit });
        }
        let args = readable(args).map_err(|error| OpenError::Unreadable(Box::new(error)))?;
        // `undefined` there, which is how a call without arguments is made.
        let args = (args != value::nil()).then_some(args);
        let mut machine = Self::new(Side::Client, service, rules, now);
        machine.method = method.as_str().to_owned();
        machine.deadline = deadline;
        machine.push(&write_header(method.as_str(), args.as_ref()));
        machine.header_end = machine.queued;
        if ends {
            machine.sending = Sending::Finished;
        }
        Ok(machine)
    }

    // ---- bytes in

    /// Whether there is room for what comes.
    pub(super) fn wants_input(&self) -> bool {
        match self.socket {
            Socket::Working => self.inbox_charge < HELD && self.arriving != Arriving::Over,
            Socket::Finishing => true,
            Socket::Abort | Socket::Gone => false,
        }
    }

    /// Takes whole frames out of `bytes` while there is room.
    pub(super) fn receive(&mut self, bytes: &mut BytesMut, now: Instant) {
        if bytes.len() > self.unread {
            self.heard = now;
        }
        let mut progress = false;
        while self.inbox_charge < HELD && self.socket == Socket::Working && self.arriving != Arriving::Over {
            match self.codec.decode(bytes) {
                Ok(Some(payload)) => {
                    progress = true;
                    self.payload(payload);
                }
                Ok(None) => break,
                Err(error) => self.bad_frame(error),
            }
        }
        if matches!(self.arriving, Arriving::Over) || self.socket != Socket::Working {
            bytes.clear();
        }
        self.unread = bytes.len();
        // What the inbox has no room for is not late.
        let waits = self.inbox_charge < HELD && !bytes.is_empty();
        self.partial_since = match self.partial_since {
            _ if !waits => None,
            Some(since) if !progress => Some(since),
            _ => Some(now),
        };
    }

    /// When bytes of the peer came last.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    fn payload(&mut self, payload: Bytes) {
        if payload.is_empty() {
            return;
        }
        match (self.arriving, self.side) {
            (Arriving::Header, _) => match read_header(&payload, &self.rules.scan) {
                Ok(header) => {
                    self.arriving = Arriving::Items;
                    self.header_until = None;
                    self.method = header.cmd.clone().unwrap_or_else(|| "undefined".to_owned());
                    (self.send_held, self.recv_held) = (true, true);
                    self.called = Some(header);
                }
                Err(_) => self.violated("the first frame is not one well-formed value within the limits"),
            },
            (Arriving::Items, Side::Server) => self.item(payload),
            (Arriving::Items, Side::Client) | (Arriving::Ignored, Side::Client) => {
                if scan::scan(&payload, &self.rules.scan).is_err() {
                    return self.violated("an item is not one well-formed value within the limits");
                }
                match record(&payload) {
                    None if self.arriving == Arriving::Items => self.item(payload),
                    None => {}
                    Some(Record::End) => self.replied(Ok(())),
                    Some(Record::Error(text)) => {
                        let fault = self.fault_of(text);
                        self.replied(Err(StreamError::Fault(Arc::new(fault))));
                    }
                }
            }
            (Arriving::Ignored, Side::Server) | (Arriving::Over, _) => {}
        }
    }

    fn item(&mut self, payload: Bytes) {
        self.inbox_charge += (payload.len() as u64).max(LEAST_CHARGE);
        self.inbox.push_back(payload);
        self.signals.readable = true;
    }

    /// The server has said all it will: the rest of our input is of no use.
    fn replied(&mut self, end: Result<(), StreamError>) {
        self.arriving = Arriving::Over;
        self.input_end = Some(end);
        self.deadline = None;
        if self.sending == Sending::Open {
            self.sending = Sending::Stopped;
        }
        self.out.clear();
        self.queued = self.written;
        self.socket = Socket::Finishing;
        self.signals = Signals {
            readable: true,
            writable: true,
            ended: true,
            driver: true,
        };
    }

    /// What an error record says, as a fault. Only two kinds can be told apart.
    fn fault_of(&self, text: String) -> FaultReply {
        let unknown = text == format!("{}:{} Does not exist", self.service, self.method);
        let own = text
            .strip_prefix('[')
            .and_then(|text| text.strip_prefix(&*self.service))
            .and_then(|text| text.strip_prefix("] "))
            .map(str::to_owned);
        FaultReply {
            code: if unknown {
                Code::UNKNOWN_METHOD
            } else {
                Code::APPLICATION
            },
            started: !unknown,
            do_not_retry: unknown,
            delay: None,
            text: own.unwrap_or(text),
            name: None,
            details: value::nil(),
        }
    }

    fn bad_frame(&mut self, error: LengthError) {
        self.lose(ConnectionError::Frame(error.into()), Socket::Abort);
    }

    fn violated(&mut self, text: &'static str) {
        let error = ConnectionError::Violation {
            code: Code::BAD_MESSAGE,
            text,
        };
        self.lose(error, Socket::Abort);
    }

    /// The peer sends no more; `left` bytes of a frame had come.
    pub(super) fn receive_end(&mut self, left: usize) {
        // Whole frames have been taken: what is left is part of one, and of a payload nothing may have come yet.
        let cut = left > 0 || self.codec.decode_eof(&mut BytesMut::new()).is_err();
        match (self.side, self.arriving) {
            (_, Arriving::Over) => {}
            (Side::Server, Arriving::Header) => self.lose(ConnectionError::PeerClosed, Socket::Gone),
            (Side::Server, _) => {
                self.arriving = Arriving::Over;
                self.input_end = Some(if cut {
                    Err(self.lost(ConnectionError::Truncated { have: left }))
                } else {
                    Ok(())
                });
                self.signals.readable = true;
            }
            (Side::Client, _) => {
                let error = if cut {
                    ConnectionError::Truncated { have: left }
                } else {
                    ConnectionError::PeerClosed
                };
                self.lose(error, Socket::Gone);
            }
        }
    }

    /// The byte stream is of no use any more.
    pub(super) fn lose(&mut self, error: ConnectionError, socket: Socket) {
        let error = self.lost(error);
        self.fail(error, socket);
    }

    fn lost(&self, error: ConnectionError) -> StreamError {
        StreamError::ConnectionLost {
            error: Arc::new(error),
            sent: self.sent(),
        }
    }

    fn fail(&mut self, error: StreamError, socket: Socket) {
        self.arriving = Arriving::Over;
        self.header_until = None;
        self.deadline = None;
        self.cut_at = None;
        self.failed.get_or_insert(error);
        self.socket = socket;
        if socket != Socket::Finishing {
            self.out.clear();
        }
        self.signals = Signals {
            readable: true,
            writable: true,
            ended: true,
            driver: true,
        };
    }

    /// Whether the socket has taken the whole request.
    fn sent(&self) -> bool {
        self.side == Side::Server || self.written >= self.header_end
    }

    // ---- bytes out

    fn push(&mut self, payload: &[u8]) {
        if self.out.is_empty() && self.queued == self.written {
            self.signals.driver = true;
        }
        let before = self.out.len();
        self.out.reserve(varint::MAX_STRICT + payload.len());
        varint::write(payload.len() as u64, &mut self.out);
        self.out.extend_from_slice(payload);
        self.queued += (self.out.len() - before) as u64;
        self.signals.driver = true;
    }

    /// What is to be written next.
    pub(super) fn take_output(&mut self) -> BytesMut {
        self.out.split()
    }

    /// The socket has taken so many bytes more.
    pub(super) fn wrote(&mut self, count: usize, now: Instant) {
        let full = self.waiting() >= HELD;
        self.written += count as u64;
        self.progress = now;
        if full && self.waiting() < HELD {
            self.signals.writable = true;
        }
    }

    /// There was nothing to write until now.
    pub(super) fn begins_to_write(&mut self, now: Instant) {
        self.progress = now;
    }

    fn waiting(&self) -> u64 {
        self.queued.saturating_sub(self.written)
    }

    /// Nothing follows what is queued: our direction can be closed behind it.
    pub(super) fn half_closes(&self) -> bool {
        self.side == Side::Client && self.sending == Sending::Finished
    }

    // ---- time

    /// When something is to happen without bytes. `staged`: the shell has bytes that the socket did not take.
    pub(super) fn next_timeout(&self, staged: bool) -> Option<Instant> {
        if self.socket != Socket::Working {
            return None;
        }
        let stalled = staged.then(|| self.progress + self.rules.stall_timeout * PATIENCE);
        let partial = self.partial_since.map(|since| since + self.rules.stall_timeout);
        let times = [self.header_until, self.deadline, self.cut_at, stalled, partial];
        times.into_iter().flatten().min()
    }

    /// Lets time pass.
    pub(super) fn handle_timeout(&mut self, staged: bool, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.socket != Socket::Working {
            return;
        }
        let stall = self.rules.stall_timeout;
        if due(self.header_until) {
            self.lose(
                ConnectionError::HelloTimeout(self.rules.header_timeout),
                Socket::Abort,
            );
        } else if due(self.deadline) {
            let sent = self.sent();
            self.fail(StreamError::Deadline { sent }, Socket::Abort);
        } else if due(self.cut_at) {
            self.cut = true;
            self.end_now("the service is ending");
        } else if (staged && due(Some(self.progress + stall * PATIENCE)))
            || due(self.partial_since.map(|since| since + stall))
        {
            self.lose(ConnectionError::Stalled(stall), Socket::Abort);
        }
    }

    /// No new work: a call under way may go on until `grace` has passed.
    pub(super) fn drain(&mut self, grace: Duration, now: Instant) {
        if self.arriving == Arriving::Header {
            // It may still ask: it would find nobody else by itself.
            self.header_until = self.header_until.map(|until| until.min(now + grace));
        }
        self.cut_at = now.checked_add(grace);
        self.signals.driver = true;
    }

    /// Ends at once.
    pub(super) fn close(&mut self) {
        self.cut = self.is_busy();
        self.end_now("the service is ending");
    }

    fn end_now(&mut self, text: &str) {
        let answers = self.side == Side::Server && self.sending == Sending::Open && self.send_held;
        if answers {
            self.push(&error_record(&format!("[{}] {text}", self.service)));
            self.sending = Sending::Finished;
        }
        let error = self.lost(ConnectionError::Closed("drained"));
        let socket = if answers { Socket::Finishing } else { Socket::Abort };
        self.fail(error, socket);
    }

    /// A call is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.socket == Socket::Working && (self.side == Side::Client || self.arriving != Arriving::Header)
    }

    /// A call was under way when it was cut.
    pub(super) fn was_cut(&self) -> bool {
        self.cut
    }

    // ---- for the shell

    /// The byte stream failed behind the end of the call: nobody is concerned any more.
    pub(super) fn gone(&mut self) {
        self.socket = Socket::Gone;
    }

    pub(super) fn socket(&self) -> Socket {
        self.socket
    }

    pub(super) fn take_signals(&mut self) -> Signals {
        std::mem::take(&mut self.signals)
    }

    /// What is called, once.
    pub(super) fn take_call(&mut self) -> Option<ClassicHeader> {
        self.called.take()
    }

    /// Whether what the server waits for first has come, or will not.
    pub(super) fn is_ready(&self) -> bool {
        self.arriving != Arriving::Header
    }

    /// There is no such method.
    pub(super) fn unknown(&mut self) {
        (self.send_held, self.recv_held) = (false, false);
        self.arriving = Arriving::Ignored;
        self.push_unknown();
    }

    fn push_unknown(&mut self) {
        let text = format!("{}:{} Does not exist", self.service, self.method);
        self.push(&error_record(&text));
        self.push(END);
        self.finished();
    }

    fn finished(&mut self) {
        self.sending = Sending::Finished;
        self.cut_at = None;
        self.signals.driver = true;
        if self.side == Side::Server {
            self.socket = Socket::Finishing;
        }
    }
}

#[cfg(test)]
mod tests;
