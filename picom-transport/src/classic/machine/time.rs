//! What happens without bytes: how long a header, a frame, a socket and a peer's goodbye may take, and how a call is cut.

use super::{Arriving, Machine, Sending, Side, Socket};
use crate::proto::{ConnectionError, StreamError};
use picom_codec::classic::error_record;
use std::time::{Duration, Instant};

/// A reader that is merely slow stops the socket here, where native streams have credit for that: it gets so many times
/// the stall time-out.
const PATIENCE: u32 = 6;

/// Behind our end, a peer that is silent may take so long to close its side. The original's client may never do it.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// The same for one that still sends: closing earlier would destroy what it has not read yet.
pub(super) const LONGEST_LINGER: Duration = Duration::from_secs(10);

/// A header must come at this rate on average, in bytes a second: a full frame of the native dialect. Whoever is slower holds
/// a place among those that have said nothing.
const LEAST_RATE: u64 = 64 * 1024;

/// What is known of a header that is still arriving.
#[derive(Debug)]
pub(super) struct HeaderTime {
    /// When the connection began; later by what we did not read meanwhile.
    begun: Instant,
    /// What has come of it, in bytes.
    pub(super) arrived: u64,
    /// We do not read it because there is no room for more: since when, and what it then needed of how much.
    held_back: Option<(Instant, u64, u64)>,
}

impl HeaderTime {
    pub(super) fn new(begun: Instant) -> Self {
        HeaderTime {
            begun,
            arrived: 0,
            held_back: None,
        }
    }
}

impl Machine {
    /// When something is to happen without bytes. `staged`: the shell has bytes that the socket did not take.
    pub(in crate::classic) fn next_timeout(&self, staged: bool) -> Option<Instant> {
        let times = match self.socket {
            Socket::Working => [
                self.header_until(),
                self.deadline,
                self.cut_at,
                self.stalled_at(staged),
                self.partial_until(),
            ],
            Socket::Finishing => [
                self.linger_until(),
                self.stalled_at(self.shut_at.is_none()),
                self.goodbye_until(),
                None,
                None,
            ],
            Socket::Abort | Socket::Gone => return None,
        };
        times.into_iter().flatten().min()
    }

    /// Lets time pass.
    pub(in crate::classic) fn handle_timeout(&mut self, staged: bool, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match self.socket {
            Socket::Working => self.work_timeout(staged, now),
            Socket::Finishing if due(self.linger_until()) => self.socket = Socket::Gone,
            Socket::Finishing if due(self.goodbye_until()) => {
                // What the socket has not even taken is lost for certain.
                self.cut |= self.shut_at.is_none();
                self.socket = if self.cut { Socket::Abort } else { Socket::Gone };
            }
            Socket::Finishing if due(self.stalled_at(self.shut_at.is_none())) => self.socket = Socket::Abort,
            Socket::Finishing | Socket::Abort | Socket::Gone => {}
        }
    }

    fn work_timeout(&mut self, staged: bool, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let stall = self.rules.stall_timeout;
        if due(self.header_until()) {
            let held_back = self.header.as_ref().and_then(|header| header.held_back);
            let error = match held_back {
                Some((_, have, limit)) => ConnectionError::HeaderBudget { have, limit },
                None => ConnectionError::HelloTimeout(self.rules.header_timeout),
            };
            self.lose(error, Socket::Abort);
        } else if due(self.deadline) {
            let sent = self.sent();
            self.fail(StreamError::Deadline { sent }, Socket::Abort);
        } else if due(self.cut_at) {
            self.cut = self.is_busy();
            self.end_now("the service is ending");
        } else if due(self.stalled_at(staged)) || due(self.partial_until()) {
            self.lose(ConnectionError::Stalled(stall), Socket::Abort);
        }
    }

    /// Silence ends a header, and so does a trickle.
    fn header_until(&self) -> Option<Instant> {
        let header = self.header.as_ref()?;
        if let Some((since, ..)) = header.held_back {
            return Some(since + self.rules.stall_timeout);
        }
        let silent = self.heard.max(header.begun) + self.rules.header_timeout;
        let allowed = Duration::from_secs(1) * u32::try_from(header.arrived / LEAST_RATE).unwrap_or(u32::MAX);
        Some(silent.min(header.begun + self.rules.header_timeout + allowed))
    }

    fn stalled_at(&self, waits: bool) -> Option<Instant> {
        waits.then(|| self.progress + self.rules.stall_timeout * PATIENCE)
    }

    fn partial_until(&self) -> Option<Instant> {
        self.partial_since.map(|since| since + self.rules.stall_timeout)
    }

    fn linger_until(&self) -> Option<Instant> {
        let shut = self.shut_at?;
        Some((self.heard.max(shut) + LINGER).min(shut + LONGEST_LINGER))
    }

    /// Beyond a drain's grace, what is complete has a moment to arrive.
    fn goodbye_until(&self) -> Option<Instant> {
        self.cut_at?.checked_add(LINGER)
    }

    /// There is no room for the `have` bytes that the header needs of the `limit` for all; the shell does not read.
    pub(in crate::classic) fn hold_back(&mut self, have: u64, limit: u64, now: Instant) {
        if let Some(header) = &mut self.header {
            header.held_back.get_or_insert((now, have, limit));
        }
    }

    /// There is room again. That nothing came meanwhile was not the peer's doing.
    pub(in crate::classic) fn go_on(&mut self, now: Instant) {
        if let Some(header) = &mut self.header
            && let Some((since, ..)) = header.held_back.take()
        {
            header.begun += now.saturating_duration_since(since);
            self.heard = now;
        }
    }

    /// Everything is written and our direction closed: what the peer still does is waited for a little.
    pub(in crate::classic) fn shut(&mut self, now: Instant) {
        self.shut_at.get_or_insert(now);
    }

    /// No new work: a call under way may go on until `grace` has passed, and has a second to say goodbye.
    pub(in crate::classic) fn drain(&mut self, grace: Duration, now: Instant) {
        let at = now.checked_add(grace);
        self.cut_at = match self.cut_at {
            Some(earlier) => at.map(|at| at.min(earlier)).or(Some(earlier)),
            None => at,
        };
        self.signals.driver = true;
    }

    /// Ends at once; what is complete already has a second to arrive.
    pub(in crate::classic) fn close(&mut self, now: Instant) {
        self.drain(Duration::ZERO, now);
        if self.socket == Socket::Working {
            self.cut = self.is_busy();
            self.end_now("the service is ending");
        }
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
    pub(in crate::classic) fn is_busy(&self) -> bool {
        self.socket == Socket::Working && (self.side == Side::Client || self.arriving != Arriving::Header)
    }

    /// A call was under way when it was cut.
    pub(in crate::classic) fn was_cut(&self) -> bool {
        self.cut
    }
}
