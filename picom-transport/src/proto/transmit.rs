//! What must go out: one frame at a time, answers before messages, and the moment at which something must happen though
//! nothing arrives.

use super::error::ConnectionError;
use super::event::Event;
use super::handshake;
use super::keepalive::Verdict as Sign;
use super::mux::{Mux, Phase};
use super::openings::Opening;
use super::outbox::{Next, charge, fits};
use super::stream::{Sending, Written};
use super::streams::Key;
use bytes::Bytes;
use picom_codec::{Code, Frame, Open, StreamId};
use std::time::{Duration, Instant};

/// The head of an open frame without its strings: array, kind, stream, time, flags, lengths.
const OPEN_HEAD: usize = 32;
const NIL: Bytes = Bytes::from_static(&[0xc0]);

/// How long the head of the open frame can be.
pub(super) fn open_head(opening: &Opening) -> usize {
    OPEN_HEAD + opening.method.as_bytes().len() + opening.metadata.as_ref().map_or(0, Bytes::len)
}

impl Mux {
    /// The next frame to write. `None`: nothing at present. Take frames only as fast as the socket takes bytes: what
    /// waits here can still be dropped, overtaken by answers, or sent elsewhere.
    pub fn poll_frame(&mut self, now: Instant) -> Option<Frame> {
        let frame = match self.phase {
            Phase::Hello { sent, deadline } => self.poll_handshake(sent, deadline, now),
            Phase::Open => self.poll_open(now),
            Phase::Ended => self.goaway.take().map(Frame::Goaway),
        };
        self.stats.frames_out += u64::from(frame.is_some());
        frame
    }

    /// The frame last taken ends at this byte of the connection.
    pub fn frame_staged(&mut self, end: u64) {
        if std::mem::take(&mut self.pinging) {
            self.keepalive.staged(end);
        }
        if let Some(key) = self.completing.take()
            && let Some(stream) = self.streams.get_mut(key)
        {
            stream.written = Written::At(end);
        }
    }

    /// Whether [`poll_frame`](Self::poll_frame) may have something. It may be wrong in saying yes.
    pub fn has_output(&self) -> bool {
        match self.phase {
            Phase::Hello { sent, .. } => {
                !sent && (self.role == handshake::Role::Client || self.peer.is_some())
            }
            Phase::Open => {
                !self.schedule.is_empty()
                    || self.pong.is_some()
                    || !self.refused.is_empty()
                    || self.drain.has_output(self.is_busy())
            }
            Phase::Ended => self.goaway.is_some(),
        }
    }

    /// The next event. Take all of them after every call that changes something.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether [`poll_event`](Self::poll_event) has something.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Ended => return None,
            Phase::Hello { deadline, .. } => return Some(deadline),
            Phase::Open => {}
        }
        let sign = match self.keepalive.check(now, self.is_busy()) {
            Sign::Wait(until) => Some(until),
            Sign::Ping(_) | Sign::Lost => Some(now),
            Sign::Writing => None,
        };
        let drained = self.drain.is_ours().then(|| self.drain.next_timeout()).flatten();
        let others = [
            self.timers.next_timeout(),
            drained,
            self.idle_ends(),
            self.backlog.patience_ends(),
        ];
        others.into_iter().flatten().chain(sign).min()
    }

    /// A moment that has come to be due since this was asked last, without anything to write: whoever waits for a later
    /// [`next_timeout`](Self::next_timeout) waits too long.
    pub fn take_hurry(&mut self) -> Option<Instant> {
        self.hurry.take()
    }

    fn poll_handshake(&mut self, sent: bool, deadline: Instant, now: Instant) -> Option<Frame> {
        let may = self.role == handshake::Role::Client || self.peer.is_some();
        if sent || !may {
            return None;
        }
        let hello = handshake::hello(&self.config, &self.identity, self.drain.is_ours());
        self.phase = Phase::Hello { sent: true, deadline };
        if self.peer.is_some() {
            self.open_phase(now);
        }
        Some(Frame::Hello(hello))
    }

    fn poll_open(&mut self, now: Instant) -> Option<Frame> {
        self.backlog.look(now);
        if let Some(token) = self.pong.take() {
            return Some(Frame::Pong { token });
        }
        if let Some((stream, code)) = self.refused.pop_front() {
            return Some(Frame::Reset { stream, code });
        }
        while let Some(key) = self.schedule.pop_control() {
            if let Some(frame) = self.poll_control(key) {
                return Some(frame);
            }
        }
        if let Some(grace) = self.drain.take_announcement(now) {
            return Some(Frame::Drain {
                grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
            });
        }
        if self.drain.take_ack() {
            return Some(Frame::DrainAck {
                last: self.last_opened,
            });
        }
        if let Some(token) = self.keepalive.ping(now, self.is_busy()) {
            self.keepalive.asked(token);
            self.pinging = true;
            return Some(Frame::Ping { token });
        }
        while let Some(key) = self.schedule.pop_output() {
            if let Some(frame) = self.poll_stream(key, now) {
                return Some(frame);
            }
        }
        if self.drain.is_over(now, self.is_busy()) {
            self.end(ConnectionError::Closed("drained"), Some((Code::OK, "drained")));
            return self.goaway.take().map(Frame::Goaway);
        }
        if !self.is_busy() {
            self.rest(now);
        }
        None
    }

    /// Nothing is open and nothing is to be written: the idle time runs from the last moment at which this was not so.
    fn rest(&mut self, now: Instant) {
        if self.last_opened.max(self.last_accepted) != self.rested_at {
            self.rested_at = self.last_opened.max(self.last_accepted);
            self.idle_since = now;
        }
    }

    /// One answer of a stream; it stays in the queue while it has more.
    fn poll_control(&mut self, key: Key) -> Option<Frame> {
        let stream = self.streams.get_mut(key)?;
        let id = stream.id?;
        let control = &mut stream.control;
        let frame = if let Some(code) = control.reset.take() {
            // Nothing else of the stream means anything behind a reset.
            *control = super::stream::Control {
                queued: true,
                ..Default::default()
            };
            Some(Frame::Reset { stream: id, code })
        } else if let Some(code) = control.stop.take() {
            Some(Frame::Stop { stream: id, code })
        } else if std::mem::take(&mut control.end) {
            Some(Frame::End { stream: id })
        } else if std::mem::take(&mut control.credit) {
            stream
                .recv_window
                .take_grant()
                .map(|bytes| Frame::Credit { stream: id, bytes })
        } else {
            None
        };
        if stream.control.is_empty() {
            stream.control.queued = false;
        } else {
            self.schedule.push_control(key);
        }
        self.remove_if_done(key);
        frame
    }

    /// One frame of a stream whose turn it is; behind it the stream goes to the end of the line.
    fn poll_stream(&mut self, key: Key, now: Instant) -> Option<Frame> {
        let line = self.line();
        let peer = self.peer.as_ref()?;
        let stream = self.streams.get_mut(key)?;
        stream.scheduled = false;
        stream.outbox.collect();
        if stream.failed.is_some() {
            return None;
        }
        if stream.is_unsent() {
            return self.poll_opening(key, now);
        }
        let (frame, ends) = match stream.outbox.next(stream.id?, stream.send_window.credit(), peer) {
            // Credit brings it back.
            Next::Blocked | Next::Empty => return None,
            Next::Frame { frame, charge, ends } => {
                if !stream.send_window.spend(charge) {
                    return None;
                }
                (frame, ends)
            }
        };
        if stream.args_pending && stream.ours {
            let more = matches!(&frame, Frame::Part { .. }) && stream.outbox.is_within_message();
            if !more {
                stream.args_pending = false;
                self.completing = Some(key);
            }
        }
        if stream.outbox.room_was_made(line) && stream.sending == Sending::Open {
            self.events.push_back(Event::Writable(key));
        }
        if ends {
            stream.sending = Sending::Ended;
            if stream.is_over() {
                self.stream_over(key);
            } else {
                self.stop_unread_input(key);
            }
        } else {
            self.schedule_output(key);
        }
        Some(frame)
    }

    /// Our reply is complete and nobody here reads the rest of the input (PROTOCOL §5.4).
    fn stop_unread_input(&mut self, key: Key) {
        if let Some(stream) = self.streams.get_mut(key)
            && !stream.ours
            && !stream.recv_held
            && !stream.stop_sent
        {
            stream.stop_sent = true;
            self.push_control(key, |control| control.stop = Some(Code::OK));
        }
    }

    /// The open of one of our streams: it gets its id now.
    fn poll_opening(&mut self, key: Key, now: Instant) -> Option<Frame> {
        let Some(id) = self.last_opened.map_or(Some(StreamId::FIRST), StreamId::next) else {
            self.close_stream(key, super::error::StreamError::NotTaken, None);
            return None;
        };
        let peer = self.peer.as_ref()?;
        let stream = self.streams.get_mut(key)?;
        let opening = self.openings.take(key)?;
        let head = open_head(&opening);
        let left = opening
            .deadline
            .map(|deadline| deadline.saturating_duration_since(now));
        if left.is_some_and(|left| left < Duration::from_micros(1)) {
            // The wheel will say so, within its millisecond.
            self.openings.put_back(key, opening);
            return None;
        }
        self.last_opened = Some(id);
        stream.id = Some(id);
        self.streams.name(id, key);
        let stream = self.streams.get_mut(key)?;
        let whole = fits(opening.args.len(), head, peer);
        let micros_left = left.map(|left| u64::try_from(left.as_micros()).unwrap_or(u64::MAX));
        let Opening {
            method,
            metadata,
            idempotent,
            args,
            ends,
            ..
        } = opening;
        let (args, follow) = if whole {
            (args, None)
        } else {
            (NIL.into(), Some(args))
        };
        let cost = charge(if whole { args.len() } else { 0 });
        let spent = stream.send_window.spend(cost);
        debug_assert!(spent, "a first window has room for an open");
        let open = Open {
            stream: id,
            method,
            micros_left,
            idempotent,
            args_follow: follow.is_some(),
            metadata,
            args,
        };
        if let Some(args) = follow {
            stream.args_pending = true;
            stream.outbox.push_args_first(args, ends);
            self.schedule_output(key);
            return Some(Frame::Open(open));
        }
        self.completing = Some(key);
        if ends {
            stream.sending = Sending::Ended;
            return Some(Frame::Call(open));
        }
        self.schedule_output(key);
        Some(Frame::Open(open))
    }
}
