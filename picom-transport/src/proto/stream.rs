//! One stream: its two halves and what may happen to each (PROTOCOL §5, §11).
//!
//! ```text
//!   the peer's half, as its receiver sees it         our half
//!
//!        open/call                                     Open ── finish, fault ──► Finishing
//!   idle ────────► Open ──part──► Part                   │                          │ last frame written
//!                   │ ▲            │ last part           │                          ▼
//!                   │ └────────────┘                     └──────── stop ─────────► Ended
//!                   │ end, last, fault
//!                   ▼                                  reset, from either side, a deadline or the loss of the
//!                 Ended                                connection close both at once (`failed`)
//! ```

use super::assembly::Assembly;
use super::error::{FaultReply, StreamError};
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::timers::TimerKey;
use super::window::{RecvWindow, SendWindow};
use picom_codec::{Code, StreamId};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// Messages may follow.
    Open,
    /// The end is in line.
    Finishing,
    /// The last frame of the half is written, or the peer stopped it.
    Ended,
}

/// Answers of the stream that wait to be written: flags, so that no peer can grow a queue (DESIGN: control never queues).
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) reset: Option<Code>,
    pub(super) stop: Option<Code>,
    pub(super) credit: bool,
    pub(super) end: bool,
    /// It stands in the schedule's control queue.
    pub(super) queued: bool,
}

impl Control {
    pub(super) fn is_empty(&self) -> bool {
        self.reset.is_none() && self.stop.is_none() && !self.credit && !self.end
    }
}

/// Whether the peer can have seen the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Not all of it was handed to the driver.
    No,
    /// It is complete when the socket has taken this many bytes of the connection.
    At(u64),
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: Option<StreamId>,
    /// It is found by its id.
    pub(super) named: bool,
    /// We are the opener.
    pub(super) ours: bool,
    /// The peer opened it, and no handler has taken it yet.
    pub(super) untaken: bool,
    /// It waits for a slot: it stands in the backlog.
    pub(super) in_backlog: bool,

    pub(super) sending: Sending,
    pub(super) outbox: Outbox,
    pub(super) send_window: SendWindow,
    /// The args go first, in parts: the request is complete only behind them.
    pub(super) args_pending: bool,
    pub(super) written: Written,
    /// The peer wants no more of our half.
    pub(super) stopped: Option<Code>,

    pub(super) recv_ended: bool,
    pub(super) inbox: Inbox,
    pub(super) recv_window: RecvWindow,
    /// What the window has been given beyond the first, to be returned to the budget.
    pub(super) grown: u32,
    pub(super) assembly: Option<Box<Assembly>>,
    pub(super) fault: Option<Arc<FaultReply>>,
    /// We want no more of the peer's half: what still comes of it is dropped.
    pub(super) stop_sent: bool,

    /// Both halves were closed at once.
    pub(super) failed: Option<Box<StreamError>>,
    pub(super) control: Control,
    /// It stands in the schedule's queue of streams with something to send.
    pub(super) scheduled: bool,
    pub(super) timer: Option<TimerKey>,
    /// The user still holds the halves.
    pub(super) send_held: bool,
    pub(super) recv_held: bool,
}

impl Stream {
    pub(super) fn new(ours: bool, peer_window: u32, own_window: u32) -> Self {
        Self {
            id: None,
            named: false,
            ours,
            untaken: !ours,
            in_backlog: false,
            sending: Sending::Open,
            outbox: Outbox::default(),
            send_window: SendWindow::new(peer_window),
            args_pending: false,
            written: Written::No,
            stopped: None,
            recv_ended: false,
            inbox: Inbox::default(),
            recv_window: RecvWindow::new(own_window),
            grown: 0,
            assembly: None,
            fault: None,
            stop_sent: false,
            failed: None,
            control: Control::default(),
            scheduled: false,
            timer: None,
            send_held: true,
            recv_held: true,
        }
    }

    /// Both halves have ended, one way or the other: its id means nothing any more.
    pub(super) fn is_over(&self) -> bool {
        self.failed.is_some() || (self.recv_ended && self.sending == Sending::Ended)
    }

    /// Nobody needs it any more.
    pub(super) fn is_removable(&self) -> bool {
        self.is_over()
            && !self.send_held
            && !self.recv_held
            && self.control.reset.is_none()
            && self.control.stop.is_none()
    }

    /// The open of one of our streams has not been handed to the driver.
    pub(super) fn is_unsent(&self) -> bool {
        self.ours && self.id.is_none()
    }

    /// Whether the socket, having taken `written` bytes of the connection, has taken the whole request.
    pub(super) fn was_sent(&self, written: u64) -> bool {
        match self.written {
            Written::No => !self.ours,
            Written::At(end) => end <= written,
        }
    }

    /// Messages can be put in line.
    #[inline]
    pub(super) fn takes_messages(&self) -> bool {
        self.sending == Sending::Open && self.failed.is_none() && self.stopped.is_none()
    }

    /// There is something to hand to the driver, credit permitting.
    pub(super) fn has_output(&self) -> bool {
        self.failed.is_none() && (self.is_unsent() || !self.outbox.is_empty())
    }

    /// Closes both halves at once. What the peer had completed stays readable (PROTOCOL §5.3). Returns what it held of the
    /// budget.
    pub(super) fn fail(&mut self, error: StreamError) -> u64 {
        self.outbox.clear();
        if std::mem::take(&mut self.untaken) {
            // No handler has taken it, so nobody holds its halves.
            self.send_held = false;
            self.recv_held = false;
        }
        self.sending = Sending::Ended;
        self.control.credit = false;
        self.control.end = false;
        let mut released = 0;
        if !self.recv_ended {
            released += self.drop_inbox();
        }
        if self.failed.is_none() {
            self.failed = Some(Box::new(error));
        }
        released
    }

    /// Nobody reads the peer's half any more: drops what waits, and what still comes is only followed to its end. Returns
    /// what it held of the budget.
    pub(super) fn discard_input(&mut self) -> u64 {
        let within = self.assembly.take();
        let mut released = self.drop_inbox();
        if let Some(mut assembly) = within {
            released += assembly.discard();
            self.assembly = Some(assembly);
        }
        released
    }

    /// Drops what waits to be received. Returns what it held of the budget.
    pub(super) fn drop_inbox(&mut self) -> u64 {
        let mut released = 0;
        while let Some(entry) = self.inbox.pop_front() {
            released += entry.reserved;
        }
        if let Some(assembly) = self.assembly.take()
            && assembly.reserved
        {
            released += assembly.total();
        }
        released
    }
}

/// The frames of a stream, as the table of PROTOCOL §11 sorts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    FirstPart,
    NextPart,
    End,
    Fault,
    Control,
}

/// What a frame does to a stream that exists (PROTOCOL §11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    Ignore,
    Break(&'static str),
}

/// One cell of the table in PROTOCOL §11, for a stream that is known.
pub(super) fn judge(stream: &Stream, kind: Kind) -> Verdict {
    use Verdict::{Break, Ignore, Take};
    if kind == Kind::Fault && !stream.ours {
        return Break("a fault from the opener of the stream");
    }
    if stream.is_over() {
        return Ignore;
    }
    if kind == Kind::Control {
        return Take;
    }
    if stream.recv_ended {
        return Break("a frame behind the end of its half");
    }
    let within = stream.assembly.is_some();
    match kind {
        // Having been told to stop, the peer may leave a message unfinished (PROTOCOL §5.4).
        Kind::End if stream.stop_sent => Take,
        Kind::Message | Kind::FirstPart | Kind::End | Kind::Fault if within => {
            Break("a frame between the parts of a message")
        }
        Kind::NextPart if !within => Break("a part without a first part"),
        _ => Take,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picom_codec::Body;

    fn stream(ours: bool) -> Stream {
        let mut stream = Stream::new(ours, 65536, 65536);
        stream.id = Some(StreamId::FIRST);
        stream
    }

    /// PROTOCOL §11, row by row: open, part, ended, gone. T take, I ignore, B break.
    #[test]
    fn every_cell_of_the_table_is_as_the_protocol_says() {
        let table = [
            (Kind::Message, "TBBI"),
            (Kind::FirstPart, "TBBI"),
            (Kind::NextPart, "BTBI"),
            (Kind::End, "TBBI"),
            (Kind::Fault, "TBBI"),
            (Kind::Control, "TTTI"),
        ];
        for (kind, row) in table {
            for (state, expected) in ["open", "part", "ended", "gone"].into_iter().zip(row.chars()) {
                let mut stream = stream(true);
                match state {
                    "part" => stream.assembly = Some(Box::new(Assembly::new(10))),
                    "ended" => stream.recv_ended = true,
                    "gone" => {
                        stream.recv_ended = true;
                        stream.sending = Sending::Ended;
                    }
                    _ => {}
                }
                let got = match judge(&stream, kind) {
                    Verdict::Take => 'T',
                    Verdict::Ignore => 'I',
                    Verdict::Break(_) => 'B',
                };
                assert_eq!(got, expected, "{kind:?} in state {state}");
            }
        }
    }

    #[test]
    fn the_opener_never_sends_a_fault() {
        for ended in [false, true] {
            let mut stream = stream(false);
            stream.recv_ended = ended;
            assert!(matches!(judge(&stream, Kind::Fault), Verdict::Break(_)));
        }
    }

    #[test]
    fn a_reset_keeps_what_was_complete() {
        let mut stream = stream(true);
        stream.inbox.push_back(super::super::inbox::Entry {
            delivery: super::super::inbox::Delivery::One(Body::copy_from_slice(b"\x07")),
            charge: 256,
            reserved: 0,
        });
        stream.recv_ended = true;
        stream.fail(StreamError::Reset {
            code: Code::CANCELLED,
        });
        assert!(!stream.inbox.is_empty());
    }

    #[test]
    fn a_reset_drops_what_was_not_complete_and_gives_back_its_room() {
        let mut stream = stream(true);
        stream.inbox.push_back(super::super::inbox::Entry {
            delivery: super::super::inbox::Delivery::One(Body::copy_from_slice(b"\x07")),
            charge: 0,
            reserved: 5000,
        });
        let mut assembly = Assembly::new(7000);
        assembly.reserved = true;
        stream.assembly = Some(Box::new(assembly));
        assert_eq!(
            stream.fail(StreamError::Reset {
                code: Code::CANCELLED
            }),
            12_000
        );
        assert!(stream.inbox.is_empty() && stream.assembly.is_none());
    }
}
