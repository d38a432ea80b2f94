//! What arrives: frames, and the passing of time. Everything a peer can get wrong ends here, in one of the reactions that
//! PROTOCOL §11 allows: taken, ignored, the end of the stream, the end of the connection.

use super::drain::CutOff;
use super::error::{ConnectionError, FaultReply, StreamError};
use super::event::Event;
use super::handshake;
use super::keepalive::Verdict as Sign;
use super::mux::{Mux, Phase};
use super::openings::Opening;
use super::outbox::charge;
use super::stream::{Kind, Sending, Stream, Written};
use picom_codec::{Code, Frame, FrameError, Goaway, Hello, Open, StreamId};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A rule that the peer broke; the connection ends.
pub(super) struct Violation(pub(super) Code, pub(super) &'static str);

/// Refusals that wait to be written. A peer that reads gets them at once; one that opens over the limit again and again
/// and reads nothing is cut off.
const REFUSALS: usize = 1024;
/// A deadline further away than a year is none.
const FARTHEST: Duration = Duration::from_secs(365 * 86_400);

pub(super) fn broken(text: &'static str) -> Violation {
    Violation(Code::PROTOCOL, text)
}

impl Mux {
    /// A frame has come. If it breaks the protocol the connection ends: ask [`ended`](Self::ended).
    pub fn handle_frame(&mut self, frame: Frame, now: Instant) {
        if self.phase == Phase::Ended {
            return;
        }
        self.stats.frames_in += 1;
        self.keepalive.heard(now);
        if let Err(Violation(code, text)) = self.take_frame(frame, now) {
            self.end(ConnectionError::Violation { code, text }, Some((code, text)));
        }
    }

    /// The bytes are not frames.
    pub fn handle_bad_bytes(&mut self, error: FrameError) {
        // The peer's author needs the whole story: which limit, which byte.
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        self.end(ConnectionError::Frame(error), Some((Code::PROTOCOL, &text)));
    }

    /// The byte stream has ended or failed.
    pub fn handle_lost(&mut self, error: ConnectionError) {
        self.end(error, None);
        self.goaway = None;
    }

    /// The socket has taken so many bytes of the connection in all.
    pub fn handle_written(&mut self, written: u64, now: Instant) {
        self.written = written;
        self.keepalive.written(written, now);
    }

    /// Time has passed: see [`next_timeout`](Self::next_timeout).
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Ended => return,
            Phase::Hello { deadline, .. } => {
                if now >= deadline {
                    let limit = self.config.hello_timeout;
                    self.end(
                        ConnectionError::HelloTimeout(limit),
                        Some((Code::TIMEOUT, "no hello within the time-out")),
                    );
                }
                return;
            }
            Phase::Open => {}
        }
        while let Some(key) = self.timers.poll(now) {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.timer = None;
                let sent = !stream.is_unsent() && stream.was_sent(self.written);
                self.close_stream(key, StreamError::Deadline { sent }, Some(Code::DEADLINE));
            }
        }
        self.backlog.look(now);
        if self.backlog.patience_ends().is_some_and(|ends| now >= ends) {
            self.backlog.send_back();
            for key in self.streams.keys() {
                if self
                    .streams
                    .get(key)
                    .is_some_and(|stream| stream.in_backlog && !stream.is_over())
                {
                    self.close_stream(key, StreamError::NoSlot, None);
                }
            }
        }
        if self.keepalive.check(now, self.is_busy()) == Sign::Lost {
            let limit = self.config.pong_timeout;
            self.end(ConnectionError::PingTimeout(limit), None);
        } else if self.drain.is_over(now, self.is_busy()) {
            self.end(ConnectionError::Closed("drained"), Some((Code::OK, "drained")));
        } else if self.idle_ends().is_some_and(|ends| now >= ends) {
            self.end(ConnectionError::Closed("idle"), Some((Code::OK, "idle")));
        }
    }

    /// Somebody waits for something.
    pub(super) fn is_busy(&self) -> bool {
        self.opened > 0 || self.accepted > 0
    }

    /// When the connection is closed for want of streams.
    pub(super) fn idle_ends(&self) -> Option<Instant> {
        let idle = self.config.idle_close.filter(|_| !self.is_busy())?;
        Some(self.idle_since + idle)
    }

    fn take_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        match &frame {
            Frame::Ping { .. } => {}
            _ => self.abuse.other(),
        }
        if let Phase::Hello { .. } = self.phase {
            return match frame {
                Frame::Hello(hello) => self.take_hello(&hello, now),
                Frame::Goaway(goaway) => {
                    self.take_goaway(goaway);
                    Ok(())
                }
                _ => Err(broken("a frame before hello")),
            };
        }
        match frame {
            Frame::Hello(_) => Err(broken("a second hello")),
            Frame::Open(open) => self.take_open(open, false, now),
            Frame::Call(open) => self.take_open(open, true, now),
            Frame::Data { stream, body } => self.take_message(stream, body, false),
            Frame::Last { stream, body } => self.take_message(stream, body, true),
            Frame::Items { stream, count, body } => self.take_items(stream, count, body),
            Frame::Part {
                stream,
                total,
                end,
                body,
            } => self.take_part(stream, total, end, &body.into_bytes()),
            Frame::End { stream } => match self.target(stream, Kind::End)? {
                Some(key) => {
                    self.half_ended(key);
                    Ok(())
                }
                None => Ok(()),
            },
            Frame::Fault(fault) => self.take_fault(fault),
            Frame::Reset { stream, code } => self.take_reset(stream, code, now),
            Frame::Stop { stream, code } => self.take_stop(stream, code),
            Frame::Credit { stream, bytes } => self.take_credit(stream, bytes),
            Frame::Ping { token } => {
                self.abuse
                    .ping()
                    .map_err(|too_much| Violation(Code::TOO_BUSY, too_much.0))?;
                self.pong = Some(token);
                Ok(())
            }
            Frame::Pong { .. } | Frame::Ignored { .. } => Ok(()),
            Frame::Drain { .. } => {
                if self.drain.peer_began() {
                    self.fail_unsent();
                    self.events.push_back(Event::PeerDraining);
                }
                Ok(())
            }
            Frame::DrainAck { last } => self.drain.acknowledged(last).map_err(broken),
            Frame::Goaway(goaway) => {
                self.take_goaway(goaway);
                Ok(())
            }
        }
    }

    fn take_hello(&mut self, hello: &Hello, now: Instant) -> Result<(), Violation> {
        let limits = handshake::check(hello, &self.identity).map_err(|(code, text)| Violation(code, text))?;
        self.peer = Some(limits);
        self.peer_identity = handshake::Identity {
            service: hello.service.as_deref().map(Arc::from),
            instance: hello.instance.as_deref().map(Arc::from),
        };
        if hello.draining {
            self.drain.peer_was_draining();
        }
        if let Phase::Hello { sent: true, .. } = self.phase {
            self.open_phase(now);
        }
        Ok(())
    }

    /// Both hellos have crossed.
    pub(super) fn open_phase(&mut self, now: Instant) {
        self.phase = Phase::Open;
        self.idle_since = now;
        self.events.push_back(Event::Ready);
        if self.drain.is_draining() {
            self.events.push_back(Event::PeerDraining);
        }
    }

    fn take_open(&mut self, open: Open, ends: bool, now: Instant) -> Result<(), Violation> {
        let id = open.stream;
        let expected = self.last_accepted.map_or(Some(StreamId::FIRST), StreamId::next);
        if self.role == handshake::Role::Client || Some(id) != expected {
            return Err(broken("the id of a new stream is not the last + 2"));
        }
        if let Some(CutOff::Said(last)) = self.drain.cut_off()
            && last.is_none_or(|last| id > last)
        {
            return Err(broken("a stream was opened behind drain-ack"));
        }
        self.last_accepted = Some(id);
        let refusal = if self.drain.cut_off() == Some(CutOff::Assumed) {
            Some(Code::DRAINING)
        } else {
            (self.accepted >= self.config.stream_limit).then_some(Code::REFUSED)
        };
        if let Some(code) = refusal {
            self.stats.refused += 1;
            self.refused.push_back((id, code));
            if self.refused.len() > REFUSALS {
                return Err(Violation(Code::TOO_BUSY, "too many streams over the limit"));
            }
            return Ok(());
        }
        let left = open
            .micros_left
            .map(Duration::from_micros)
            .filter(|left| *left < FARTHEST);
        let deadline = left.map(|left| now + left);
        let cost = if open.args_follow {
            charge(0)
        } else {
            charge(open.args.len())
        };
        let opening = Opening {
            method: open.method,
            metadata: open.metadata,
            deadline,
            idempotent: open.idempotent,
            args: open.args,
            ends: ends && !open.args_follow,
        };
        let window = self.peer.as_ref().map_or(0, |peer| peer.first_window);
        let mut stream = Stream::new(false, window, self.config.first_window);
        stream.id = Some(id);
        stream.written = Written::At(0);
        stream.args_pending = open.args_follow;
        stream.recv_ended = ends && !open.args_follow;
        stream
            .recv_window
            .receive(cost)
            .map_err(|_| Violation(Code::FLOW, "the args are over the first window"))?;
        let key = self.streams.insert(stream);
        self.openings.push(key, opening);
        self.accepted += 1;
        self.stats.accepted += 1;
        if let Some(deadline) = deadline {
            self.set_deadline(key, deadline);
        }
        // The args are handed to the handler at once: what they cost is free again.
        self.return_credit(key, cost);
        if !open.args_follow {
            self.events.push_back(Event::Opened(key));
        }
        Ok(())
    }

    fn take_fault(&mut self, fault: picom_codec::Fault) -> Result<(), Violation> {
        let Some(key) = self.target(fault.stream, Kind::Fault)? else {
            return Ok(());
        };
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        let cost = charge(fault.details.len());
        stream
            .recv_window
            .receive(cost)
            .map_err(|_| Violation(Code::FLOW, "more was sent than credit allowed"))?;
        stream.fault = Some(Arc::new(FaultReply {
            code: fault.code,
            started: fault.started,
            do_not_retry: fault.do_not_retry,
            delay: fault.delay_ms.map(Duration::from_millis),
            text: fault.text,
            name: fault.name,
            details: fault.details,
        }));
        self.half_ended(key);
        Ok(())
    }

    fn take_reset(&mut self, id: StreamId, code: Code, now: Instant) -> Result<(), Violation> {
        // Only resets of calls cost us work for nothing; our own calls are ours to lose.
        if self.role == handshake::Role::Server {
            self.abuse
                .reset(now)
                .map_err(|too_much| Violation(Code::TOO_BUSY, too_much.0))?;
        }
        let Some(key) = self.target(id, Kind::Control)? else {
            return Ok(());
        };
        self.close_stream(key, StreamError::Reset { code }, None);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.control = super::stream::Control {
                queued: stream.control.queued,
                ..Default::default()
            };
        }
        self.remove_if_done(key);
        Ok(())
    }

    fn take_stop(&mut self, id: StreamId, code: Code) -> Result<(), Violation> {
        let Some(key) = self.target(id, Kind::Control)? else {
            return Ok(());
        };
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        if stream.sending == Sending::Ended {
            return Ok(());
        }
        stream.stopped = Some(code);
        stream.outbox.clear();
        stream.sending = Sending::Ended;
        let over = stream.is_over();
        self.push_control(key, |control| control.end = true);
        self.events.extend([Event::Writable(key), Event::Ended(key)]);
        if over {
            self.stream_over(key);
        }
        Ok(())
    }

    fn take_credit(&mut self, id: StreamId, bytes: u32) -> Result<(), Violation> {
        if bytes == 0 {
            return Err(Violation(Code::FLOW, "a credit of 0"));
        }
        let Some(key) = self.target(id, Kind::Control)? else {
            return Ok(());
        };
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        if stream.sending == Sending::Ended {
            return Ok(());
        }
        stream
            .send_window
            .grant(bytes)
            .map_err(|_| Violation(Code::FLOW, "credit overflows"))?;
        self.schedule_output(key);
        Ok(())
    }

    /// The peer has ended the connection; streams it never accepted have not run (PROTOCOL §9.4).
    fn take_goaway(&mut self, goaway: Goaway) {
        for key in self.streams.keys() {
            if let Some(stream) = self.streams.get(key)
                && stream.ours
                && !stream.is_over()
                && stream
                    .id
                    .is_none_or(|id| goaway.last.is_none_or(|last| id > last))
            {
                self.close_stream(key, StreamError::NotTaken, None);
            }
        }
        let text = goaway
            .text
            .chars()
            .flat_map(char::escape_debug)
            .take(4096)
            .collect();
        self.end(
            ConnectionError::Goaway {
                code: goaway.code,
                text,
            },
            None,
        );
    }
}
