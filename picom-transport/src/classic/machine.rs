//! One call of the classic dialect, from either side, without a socket: bytes and time in, bytes and the next time-out out.

mod arrival;
mod halves;
mod time;

use crate::proto::{ConnectionError, OpenError, StreamError};
use bytes::{Bytes, BytesMut};
use picom_codec::classic::{ClassicHeader, END, error_record, readable, write_header};
use picom_codec::{LengthCodec, Limits, Method, value, varint};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use time::HeaderTime;

/// Received and not yet taken, and queued and not yet written: each at most so much and a message. The peer is then held
/// back by TCP, the only back-pressure that the dialect has.
pub(super) const HELD: u64 = 64 * 1024;

/// What one received item counts at least, so that a flood of tiny ones is not held by the hundred thousand.
const LEAST_CHARGE: u64 = 64;

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
    /// Of a server, until its header is complete.
    header: Option<HeaderTime>,
    deadline: Option<Instant>,
    /// When a drain cuts what is still under way.
    cut_at: Option<Instant>,
    cut: bool,
    partial_since: Option<Instant>,
    /// When bytes of the peer came last.
    heard: Instant,
    /// What was left over then, in bytes.
    unread: usize,
    /// When the socket last took something, while something waits.
    progress: Instant,
    /// When all was written and our direction closed.
    shut_at: Option<Instant>,
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
            header: None,
            deadline: None,
            cut_at: None,
            cut: false,
            partial_since: None,
            heard: now,
            unread: 0,
            progress: now,
            shut_at: None,
            send_held: true,
            recv_held: true,
        }
    }

    /// The side that was connected to, when the connection began; it waits for a header.
    pub(super) fn server(service: Arc<str>, rules: Rules, begun: Instant) -> Self {
        let mut machine = Self::new(Side::Server, service, rules, begun);
        machine.arriving = Arriving::Header;
        machine.header = Some(HeaderTime::new(begun));
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
        let limit = rules.message_limit;
        let too_large = |size: usize| match size as u64 {
            size if size > limit => Err(OpenError::TooLarge { size, limit }),
            _ => Ok(()),
        };
        // Before anything is made of it; and then as the peer, that keeps a limit like ours, will count.
        too_large(args.len())?;
        let args = readable(args).map_err(|error| OpenError::Unreadable(Box::new(error)))?;
        // `undefined` there, which is how a call without arguments is made.
        let args = (args != value::nil()).then_some(args);
        let mut machine = Self::new(Side::Client, service, rules, now);
        machine.method = method.as_str().to_owned();
        machine.deadline = deadline;
        let header = write_header(method.as_str(), args.as_ref());
        too_large(header.len())?;
        machine.push(&header);
        machine.header_end = machine.queued;
        if ends {
            machine.sending = Sending::Finished;
        }
        Ok(machine)
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
        self.header = None;
        self.deadline = None;
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
        self.signals.driver = true;
        if self.side == Side::Server {
            self.socket = Socket::Finishing;
        }
    }
}

#[cfg(test)]
mod tests;
