//! The multiplexer of one connection, as a machine without a socket: frames and `now` go in; frames, events and the next
//! time-out come out. It reads no clock, knows no runtime and never waits.
//!
//! Its methods come in four families. *Commands* (`open`, `send`, `finish`, `reset`, `read`, …) come from the users of
//! streams and stand in this file. `handle_*` take what arrives (`receive.rs`). `poll_*` give what must go out
//! (`transmit.rs`): after any call, take frames until there is none, events until there is none, and ask for the next
//! time-out. The rest are questions.

use super::abuse::AbuseMeter;
use super::backlog::Backlog;
use super::budget::ReceiveBudget;
use super::config::ConnectionConfig;
use super::drain::Drain;
use super::error::{ConnectionError, StreamError};
use super::event::Event;
use super::handshake::{Identity, PeerLimits, Role};
use super::inbox::Delivery;
use super::keepalive::Keepalive;
use super::openings::Openings;
use super::outbox::{LINE, LONG_LINE};
use super::schedule::Schedule;
use super::stats::MuxStats;
use super::streams::{Key, Streams};
use super::timers::TimerWheel;
use picom_codec::{Code, Goaway, StreamId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Bounds of [`Mux::frames_a_turn`]: a write and the read it causes cost as much as some eight small calls (16 calls in
/// flight, 4 frames a turn: 3.2 + 3.1 µs of processor time each; 8 frames: 2.4 + 2.1), and as nothing beside 64.
const LEAST_FRAMES: usize = 8;
const MOST_FRAMES: usize = 64;
/// The same for a caller with one worker: 256 in flight went from 904,000 calls a second with 64 to 977,000 with 128.
const MOST_REPLIES: usize = 128;

/// So many streams at most may have a [long line](super::outbox::LONG_LINE) each: a peer that does not read must not make us
/// hold so much for each of many.
const FEW_STREAMS: u32 = 16;

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
    /// One or several messages; with `last`, the peer's half ends properly behind them, and there is no need to ask again.
    Delivery {
        /// The messages.
        delivery: Delivery,
        /// See above.
        last: bool,
    },
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
    pub(super) openings: Openings,
    pub(super) backlog: Backlog,
    pub(super) schedule: Schedule,
    pub(super) timers: TimerWheel<Key>,
    pub(super) budget: ReceiveBudget,
    /// The last id we gave out, and the last the peer used.
    pub(super) last_opened: Option<StreamId>,
    pub(super) last_accepted: Option<StreamId>,
    /// Our streams whose halves have not both ended; the peer's whose slots are taken.
    pub(super) opened: u32,
    /// Slots set aside for calls whose turn it is.
    pub(super) held_slots: u32,
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
    /// See [`take_hurry`](Self::take_hurry).
    pub(super) hurry: Option<Instant>,
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
            openings: Openings::default(),
            backlog: Backlog::default(),
            schedule: Schedule::default(),
            timers: TimerWheel::new(now),
            budget: ReceiveBudget::new(config.receive_budget.saturating_sub(config.set_aside())),
            last_opened: None,
            last_accepted: None,
            opened: 0,
            held_slots: 0,
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
            hurry: None,
            stats: MuxStats::default(),
            config,
        }
    }

    // ---- questions

    /// The handshake is complete and the connection has not ended.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Hellos have crossed, whatever came of it since.
    pub fn has_shaken_hands(&self) -> bool {
        !matches!(self.phase, Phase::Hello { .. })
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
                peer.stream_limit.saturating_sub(self.opened + self.held_slots)
            }
            _ => 0,
        }
    }

    /// How many frames should be handled before others have their turn and what they cause is written, when many have come
    /// at once.
    ///
    /// A caller with many calls under way gets their replies together, makes the next calls together, and while it does one
    /// the service waits, and then the other way round. Handled by halves, both sides work at the same time. With several
    /// `workers` to run its tasks it is by quarters: of many that are woken together the others take some over, which costs
    /// more than the writes that are saved (64 in flight, two workers: 572,000 to 599,000 calls a second by quarters, 376,000
    /// to 441,000 by halves; one worker: 660,000 and 757,000).
    pub fn frames_a_turn(&self, workers: usize) -> usize {
        let opened = self.opened as usize;
        match self.role {
            Role::Client if workers == 1 => (opened / 2).clamp(LEAST_FRAMES, MOST_REPLIES),
            Role::Client => (opened / 4).clamp(LEAST_FRAMES, MOST_FRAMES),
            Role::Server => MOST_FRAMES,
        }
    }

    /// Whether so much is to be written that it should not wait for what the next turn causes: half of what a turn takes.
    pub fn is_worth_a_write(&self, workers: usize) -> bool {
        !self.is_open() || 2 * self.schedule.len() >= self.frames_a_turn(workers)
    }

    /// Streams in the table, those that nobody reads any more included.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether the stream is in the table: a half of it is held, or something of it is still to be written.
    pub fn holds(&self, key: Key) -> bool {
        self.streams.get(key).is_some()
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
            backlog: self.backlog.len(),
            turnover: self.backlog.turnover(),
            ..self.stats
        }
    }

    /// Gives back the room that lists have had for streams: of use when there are none, and there may be none for long.
    pub fn shrink(&mut self) {
        if self.streams.len() > 0 {
            return;
        }
        self.streams.shrink();
        self.timers.shrink();
        self.openings.shrink();
        self.schedule.shrink();
        self.events.shrink_to_fit();
        self.refused.shrink_to_fit();
    }

    // ---- what the commands, `receive.rs` and `transmit.rs` share

    /// How many bytes of a stream may wait if its messages are large.
    pub(super) fn line(&self) -> usize {
        if self.opened + self.accepted <= FEW_STREAMS {
            LONG_LINE
        } else {
            LINE
        }
    }

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
    pub(super) fn grow_window(&mut self, key: Key) {
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
}
