//! The multiplexer of one connection, as a machine without a socket: frames and `now` go in; frames, events and the next
//! time-out come out. It reads no clock, knows no runtime and never waits.
//!
//! Its methods come in four families. *Commands* (`open`, `send`, `finish`, `reset`, `read`, …) come from the users of
//! streams and stand in this file. `handle_*` take what arrives (`receive.rs`). `poll_*` give what must go out
//! (`transmit.rs`): after any call, take frames until there is none, events until there is none, and ask for the next
//! time-out. The rest are questions.

use super::abuse::AbuseMeter;
use super::budget::ReceiveBudget;
use super::config::ConnectionConfig;
use super::drain::Drain;
use super::error::{ConnectionError, FaultReply, OpenError, SendError, StreamError};
use super::event::Event;
use super::handshake::{Identity, PeerLimits, Role};
use super::inbox::Delivery;
use super::keepalive::Keepalive;
use super::outbox::{Final, fit_fault};
use super::schedule::Schedule;
use super::stats::MuxStats;
use super::stream::{Opening, Sending, Stream};
use super::streams::{Key, Streams};
use super::timers::TimerWheel;
use bytes::Bytes;
use picom_codec::head::check_metadata;
use picom_codec::{Code, Goaway, StreamId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How far the connection is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Hellos are on their way; the handshake must be complete at the given moment.
    Hello {
        sent: bool,
        deadline: Instant,
    },
    Open,
    /// It has ended: at most a goaway is still to be written.
    Ended,
}

/// What a half finds when it asks for something to receive.
#[derive(Debug)]
pub enum Received {
    /// One or several messages.
    Delivery(Delivery),
    /// Nothing yet: `Readable` will tell.
    Pending,
    /// The peer's half has ended properly.
    End,
    /// It has ended otherwise.
    Failed(StreamError),
}

/// See the module.
pub struct Mux {
    pub(super) role: Role,
    pub(super) config: ConnectionConfig,
    pub(super) identity: Identity,
    pub(super) peer: Option<PeerLimits>,
    pub(super) peer_identity: Identity,
    pub(super) phase: Phase,
    pub(super) ended: Option<Arc<ConnectionError>>,

    pub(super) streams: Streams,
    pub(super) schedule: Schedule,
    pub(super) timers: TimerWheel<Key>,
    pub(super) budget: ReceiveBudget,
    /// The last id we gave out, and the last the peer used.
    pub(super) last_opened: Option<StreamId>,
    pub(super) last_accepted: Option<StreamId>,
    /// Our streams whose halves have not both ended; the peer's whose slots are taken.
    pub(super) opened: u32,
    pub(super) accepted: u32,
    /// Opens over the limit, to be reset. Bounded: see `receive.rs`.
    pub(super) refused: VecDeque<(StreamId, Code)>,

    pub(super) keepalive: Keepalive,
    pub(super) abuse: AbuseMeter,
    pub(super) drain: Drain,
    pub(super) pong: Option<u64>,
    pub(super) goaway: Option<Goaway>,
    /// Since when there are no streams, and the last id when that was noticed.
    pub(super) idle_since: Instant,
    pub(super) rested_at: Option<StreamId>,

    /// The stream whose request is complete with the frame just handed out.
    pub(super) completing: Option<Key>,
    /// The frame just handed out is a ping.
    pub(super) pinging: bool,
    /// Bytes of the connection that the socket has taken.
    pub(super) written: u64,
    pub(super) events: VecDeque<Event>,
    pub(super) stats: MuxStats,
}

impl Mux {
    /// A connection that begins now. On a client, `identity` is whom it means to reach; on a server, who it is.
    /// `draining` is what a server's hello says.
    pub fn new(
        role: Role,
        config: ConnectionConfig,
        identity: Identity,
        draining: bool,
        now: Instant,
    ) -> Self {
        let drain = if draining {
            Drain::from_the_start(now + config.hello_timeout)
        } else {
            Drain::default()
        };
        Self {
            role,
            phase: Phase::Hello {
                sent: false,
                deadline: now + config.hello_timeout,
            },
            identity,
            peer: None,
            peer_identity: Identity::default(),
            ended: None,
            streams: Streams::default(),
            schedule: Schedule::default(),
            timers: TimerWheel::new(now),
            budget: ReceiveBudget::new(config.receive_budget.saturating_sub(config.set_aside())),
            last_opened: None,
            last_accepted: None,
            opened: 0,
            accepted: 0,
            refused: VecDeque::new(),
            keepalive: Keepalive::new(&config, now),
            abuse: AbuseMeter::new(now),
            drain,
            pong: None,
            goaway: None,
            idle_since: now,
            rested_at: None,
            completing: None,
            pinging: false,
            written: 0,
            events: VecDeque::new(),
            stats: MuxStats::default(),
            config,
        }
    }

    // ---- questions

    /// The handshake is complete and the connection has not ended.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Neither side opens streams any more.
    pub fn is_draining(&self) -> bool {
        self.drain.is_draining()
    }

    /// Why the connection ended, if it has. A goaway may still have to be written.
    pub fn ended(&self) -> Option<&Arc<ConnectionError>> {
        self.ended.as_ref()
    }

    /// How many streams could be opened now.
    pub fn free_slots(&self) -> u32 {
        match &self.peer {
            Some(peer) if self.is_open() && !self.is_draining() => {
                peer.stream_limit.saturating_sub(self.opened)
            }
            _ => 0,
        }
    }

    /// Streams in the table, those that nobody reads any more included.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Who the peer says it is.
    pub fn peer_identity(&self) -> &Identity {
        &self.peer_identity
    }

    /// What the peer takes; `None` before the handshake.
    pub fn peer_limits(&self) -> Option<&PeerLimits> {
        self.peer.as_ref()
    }

    /// Counters.
    pub fn stats(&self) -> MuxStats {
        MuxStats {
            opened_now: self.opened,
            accepted_now: self.accepted,
            budget_free: self.budget.free(),
            ..self.stats
        }
    }

    // ---- commands

    /// Opens a stream. Its id is given when its open is handed to the driver, so a call dropped before leaves no trace.
    pub fn open(&mut self, opening: Opening) -> Result<Key, OpenError> {
        if let Some(error) = &self.ended {
            return Err(OpenError::Closed(error.clone()));
        }
        let Some(peer) = self.peer.as_ref().filter(|_| self.phase == Phase::Open) else {
            return Err(OpenError::Draining);
        };
        if self.drain.is_draining() {
            return Err(OpenError::Draining);
        }
        if self.opened >= peer.stream_limit {
            return Err(OpenError::Full {
                limit: peer.stream_limit,
            });
        }
        let size = opening.args.len() as u64;
        if size == 0 {
            return Err(OpenError::Empty);
        }
        if size > peer.message_limit {
            return Err(OpenError::TooLarge {
                size,
                limit: peer.message_limit,
            });
        }
        let head = super::transmit::open_head(&opening);
        if head > peer.frame_limit as usize {
            return Err(OpenError::TooLarge {
                size: head as u64,
                limit: u64::from(peer.frame_limit),
            });
        }
        if let Some(metadata) = &opening.metadata {
            check_metadata(metadata).map_err(OpenError::Metadata)?;
        }
        let deadline = opening.deadline;
        let ends = opening.ends;
        let mut stream = Stream::new(true, opening, peer.first_window, self.config.first_window);
        if ends {
            stream.sending = Sending::Finishing;
        }
        stream.scheduled = true;
        let key = self.streams.insert(stream);
        if let Some(deadline) = deadline {
            self.set_deadline(key, deadline);
        }
        self.opened += 1;
        self.stats.opened += 1;
        self.schedule.push_output(key);
        Ok(key)
    }

    /// What the peer asked for on a stream it opened; once, after `Opened`.
    pub fn accept(&mut self, key: Key) -> Option<Opening> {
        let stream = self.streams.get_mut(key).filter(|stream| !stream.ours)?;
        stream.opening.take().map(|opening| *opening)
    }

    /// Whether a message would be taken now: `Ok(false)` until `Writable` tells.
    pub fn can_send(&self, key: Key) -> Result<bool, SendError> {
        let Some(stream) = self.streams.get(key) else {
            return Err(SendError::Finished);
        };
        if let Some(error) = &stream.failed {
            return Err(SendError::Ended(error.clone()));
        }
        if let Some(code) = stream.stopped {
            return Err(SendError::Stopped { code });
        }
        match stream.sending {
            Sending::Open => Ok(stream.outbox.has_room()),
            Sending::Finishing | Sending::Ended => Err(SendError::Finished),
        }
    }

    /// Puts a message in line. Takes it also when there is no room: asking first is what keeps memory bounded.
    pub fn send(&mut self, key: Key, message: Bytes) -> Result<(), SendError> {
        self.can_send(key)?;
        if message.is_empty() {
            return Err(SendError::Empty);
        }
        let (size, limit) = (
            message.len() as u64,
            self.peer.as_ref().map_or(0, |peer| peer.message_limit),
        );
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        if let Some(stream) = self.streams.get_mut(key) {
            stream.outbox.push(message);
        }
        self.schedule_output(key);
        Ok(())
    }

    /// Ends our half behind what is in line, with a last message or without.
    pub fn finish(&mut self, key: Key, message: Option<Bytes>) -> Result<(), SendError> {
        match message {
            Some(message) => self.send(key, message)?,
            None => self.can_send(key).map(drop)?,
        }
        self.end_with(key, Final::End)
    }

    /// Ends our half, as the acceptor, with an error behind what is in line.
    pub fn fault(&mut self, key: Key, fault: FaultReply) -> Result<(), SendError> {
        self.can_send(key)?;
        let Some(peer) = &self.peer else {
            return Err(SendError::Finished);
        };
        let fault = fit_fault(fault, peer);
        self.end_with(key, Final::Fault(Box::new(fault)))
    }

    fn end_with(&mut self, key: Key, last: Final) -> Result<(), SendError> {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.outbox.finish(last);
            stream.sending = Sending::Finishing;
        }
        self.schedule_output(key);
        Ok(())
    }

    /// The next thing that came on the stream. Asking again after an end or an error gives the same.
    pub fn read(&mut self, key: Key) -> Received {
        let Some(stream) = self.streams.get_mut(key) else {
            return Received::End;
        };
        if let Some(entry) = stream.inbox.pop() {
            let grant =
                stream.recv_window.consume(entry.charge) && !stream.recv_ended && stream.failed.is_none();
            if grant {
                self.grow_window(key);
                self.push_control(key, |control| control.credit = true);
            }
            self.release_budget(entry.reserved);
            return Received::Delivery(entry.delivery);
        }
        if let Some(fault) = &stream.fault {
            return Received::Failed(StreamError::Fault(fault.clone()));
        }
        if stream.recv_ended {
            return Received::End;
        }
        match &stream.failed {
            Some(error) => Received::Failed(error.clone()),
            None => Received::Pending,
        }
    }

    /// Why there is no point in going on with the stream's handler: it was ended from outside, or nobody wants its output.
    pub fn end_of(&self, key: Key) -> Option<StreamError> {
        let stream = self.streams.get(key)?;
        stream
            .failed
            .clone()
            .or_else(|| stream.stopped.map(|code| StreamError::Reset { code }))
    }

    /// Ends both halves at once.
    pub fn reset(&mut self, key: Key, code: Code) {
        let Some(stream) = self.streams.get(key) else {
            return;
        };
        if stream.is_over() {
            return;
        }
        let sent = !stream.is_unsent() && stream.was_sent(self.written);
        self.close_stream(key, StreamError::Cancelled { code, sent }, Some(code));
    }

    /// Wants no more of the peer's half.
    pub fn stop(&mut self, key: Key, code: Code) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if stream.is_over() || stream.recv_ended || stream.stop_sent {
            return;
        }
        if stream.is_unsent() {
            return self.reset(key, code);
        }
        stream.stop_sent = true;
        let released = stream.discard_input();
        self.budget.forget(key);
        self.release_budget(released);
        self.push_control(key, |control| control.stop = Some(code));
    }

    /// The sending half is gone. Unfinished, the stream is reset: what was cut short never looks complete.
    pub fn release_send(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        stream.send_held = false;
        if stream.sending == Sending::Open && stream.stopped.is_none() {
            self.reset(key, Code::INCOMPLETE);
        }
        self.after_release(key);
    }

    /// The receiving half is gone. If there was more to come, the peer is told to stop; with our own half ended, or
    /// about to, the whole call is of no use to anybody and is reset.
    pub fn release_recv(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        stream.recv_held = false;
        let released = stream.discard_input();
        if !stream.recv_ended {
            let ours = stream.ours;
            let pointless = if ours {
                stream.sending != Sending::Open
            } else {
                stream.stopped.is_some()
            };
            if pointless {
                self.reset(key, Code::CANCELLED);
            } else {
                self.stop(key, if ours { Code::CANCELLED } else { Code::OK });
            }
        }
        self.release_budget(released);
        self.after_release(key);
    }

    /// Ends the connection in order: see PROTOCOL §9. `grace`: how long open streams may take.
    pub fn drain(&mut self, grace: Duration, now: Instant) {
        if self.phase == Phase::Ended {
            return;
        }
        self.drain.begin(grace.min(Duration::from_secs(86_400)), now);
        self.fail_unsent();
    }

    /// Ends the connection at once: open streams are lost.
    pub fn close(&mut self, reason: &'static str) {
        self.end(ConnectionError::Closed(reason), Some((Code::OK, reason)));
    }

    // ---- what the commands share with the rest

    pub(super) fn set_deadline(&mut self, key: Key, deadline: Instant) {
        let timer = self.timers.insert(deadline, key);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.timer = Some(timer);
        }
    }

    pub(super) fn schedule_output(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && !stream.scheduled
            && stream.has_output()
        {
            stream.scheduled = true;
            self.schedule.push_output(key);
        }
    }

    pub(super) fn push_control(&mut self, key: Key, set: impl FnOnce(&mut super::stream::Control)) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        set(&mut stream.control);
        if !stream.control.queued && stream.id.is_some() {
            stream.control.queued = true;
            self.schedule.push_control(key);
        }
    }

    /// Closes both halves; with a code, the peer is told.
    pub(super) fn close_stream(&mut self, key: Key, error: StreamError, tell: Option<Code>) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let was_over = stream.is_over();
        let unsent = stream.is_unsent();
        let released = stream.fail(error);
        self.budget.forget(key);
        self.release_budget(released);
        if let Some(code) = tell
            && !unsent
            && !was_over
        {
            self.push_control(key, |control| control.reset = Some(code));
        }
        self.events
            .extend([Event::Readable(key), Event::Writable(key), Event::Ended(key)]);
        if !was_over {
            self.stream_over(key);
        }
    }

    /// Both halves have just ended.
    pub(super) fn stream_over(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let timer = stream.timer.take();
        let grown = std::mem::take(&mut stream.grown);
        if let Some(id) = stream.id
            && stream.control.reset.is_none()
        {
            self.streams.unname(id);
        }
        if let Some(timer) = timer {
            self.timers.remove(timer);
        }
        if self.streams.get(key).is_some_and(|stream| stream.ours) {
            self.opened = self.opened.saturating_sub(1);
            self.events.push_back(Event::SlotFree);
        }
        self.release_budget(u64::from(grown));
        self.remove_if_done(key);
    }

    fn after_release(&mut self, key: Key) {
        if let Some(stream) = self.streams.get(key)
            && !stream.ours
            && !stream.send_held
            && !stream.recv_held
            && stream.sending == Sending::Open
        {
            self.reset(key, Code::INCOMPLETE);
        }
        self.remove_if_done(key);
    }

    /// Takes the stream out of the table when nobody needs it. The slot of a stream that the peer opened is free only now,
    /// when its handler has let go of both halves (PROTOCOL §5.6; CVE-2023-44487 is what happens otherwise).
    pub(super) fn remove_if_done(&mut self, key: Key) {
        if !self.streams.get(key).is_some_and(Stream::is_removable) {
            return;
        }
        if let Some(mut stream) = self.streams.remove(key) {
            if !stream.ours {
                self.accepted = self.accepted.saturating_sub(1);
            }
            let released = stream.drop_inbox() + u64::from(stream.grown);
            self.release_budget(released);
        }
    }

    /// Gives room back and lets those who wait for it go on.
    pub(super) fn release_budget(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.budget.release(bytes);
        while let Some((key, granted)) = self.budget.next_granted() {
            let Some(assembly) = self
                .streams
                .get_mut(key)
                .and_then(|stream| stream.assembly.as_mut())
            else {
                self.budget.release(granted);
                continue;
            };
            assembly.reserved = true;
            let withheld = std::mem::take(&mut assembly.withheld);
            self.return_credit(key, withheld);
        }
    }

    /// Credit of a part flows back at once: its message has its room reserved.
    pub(super) fn return_credit(&mut self, key: Key, charge: u32) {
        let stream = self.streams.get_mut(key).filter(|stream| !stream.recv_ended);
        let due = stream.is_some_and(|stream| stream.recv_window.consume(charge));
        if due {
            self.push_control(key, |control| control.credit = true);
        }
    }

    /// A reader that keeps up with a peer that has used most of its window gets a larger one, while there is room.
    fn grow_window(&mut self, key: Key) {
        let limit = self.config.window_limit;
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let size = stream.recv_window.size();
        if !stream.inbox.is_empty() || !stream.recv_window.is_mostly_used() || size >= limit {
            return;
        }
        let extra = size.min(limit - size);
        if self.budget.take_spare(u64::from(extra)) {
            stream.recv_window.grow(extra);
            stream.grown += extra;
        }
    }

    /// Streams that are still in line when the connection begins to drain: they have not run and can go elsewhere.
    pub(super) fn fail_unsent(&mut self) {
        for key in self.streams.keys() {
            if self
                .streams
                .get(key)
                .is_some_and(|stream| stream.is_unsent() && !stream.is_over())
            {
                self.close_stream(key, StreamError::NotTaken, None);
            }
        }
    }

    /// The connection has ended: every stream learns it, and with it whether its request had been sent.
    pub(super) fn end(&mut self, error: ConnectionError, tell: Option<(Code, &str)>) {
        if self.phase == Phase::Ended {
            return;
        }
        if let Some((code, text)) = tell {
            self.goaway = Some(Goaway {
                last: self.last_accepted,
                code,
                text: text.to_owned(),
            });
        }
        self.phase = Phase::Ended;
        let error = Arc::new(error);
        self.ended = Some(error.clone());
        for key in self.streams.keys() {
            if let Some(stream) = self.streams.get(key)
                && !stream.is_over()
            {
                let sent = !stream.is_unsent() && stream.was_sent(self.written);
                self.stats.cut += 1;
                self.close_stream(
                    key,
                    StreamError::ConnectionLost {
                        error: error.clone(),
                        sent,
                    },
                    None,
                );
            }
            // A reset that is no longer written must not keep its stream.
            if let Some(stream) = self.streams.get_mut(key) {
                stream.control = super::stream::Control::default();
            }
            self.remove_if_done(key);
        }
        self.events.push_back(Event::PeerDraining);
    }
}
