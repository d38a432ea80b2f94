//! What the users of streams ask of the multiplexer: open, send, finish, receive, end.

use super::error::{ConnectionError, FaultReply, OpenError, SendError, StreamError};
use super::event::Event;
use super::mux::{Mux, Phase, Received};
use super::openings::Opening;
use super::outbox::{Final, fit_fault};
use super::pack::Pack;
use super::pocket::Pocket;
use super::stream::{Sending, Stream};
use super::streams::Key;
use picom_codec::head::check_metadata;
use picom_codec::{Body, Code};
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Mux {
    /// Opens a stream. Its id is given when its open is handed to the driver, so a call dropped before leaves no trace.
    pub fn open(&mut self, opening: Opening) -> Result<Key, OpenError> {
        let limit = self.check_opening(&opening)?;
        if !self.has_room() {
            return Err(OpenError::Full { limit });
        }
        let key = self.insert_stream(&opening);
        self.openings.push(key, opening);
        self.take_slot(key);
        Ok(key)
    }

    /// The same, but without a free slot the call waits for one, in the order in which calls came. It is sent back
    /// ([`NoSlot`](StreamError::NoSlot)) if none becomes free for a second.
    pub fn open_queued(&mut self, opening: Opening, now: Instant) -> Result<Key, OpenError> {
        if self.has_room() {
            return self.open(opening);
        }
        self.check_opening(&opening)?;
        let key = self.insert_stream(&opening);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.in_backlog = true;
        }
        let deadline = opening.deadline;
        self.backlog.push(key, opening, now);
        // It has nothing to write, which is what brings the driver otherwise.
        let due = deadline.into_iter().chain(self.backlog.patience_ends()).min();
        self.hurry = self.hurry.into_iter().chain(due).min();
        Ok(key)
    }

    /// Gives a slot that is free to the first call that waits for one. To be called for each
    /// [`SlotFree`](super::event::Event::SlotFree) that is not meant for somebody else.
    pub fn admit(&mut self) {
        if self.backlog.is_empty() || !self.has_room() {
            return;
        }
        let waits = |key| self.streams.get(key).is_some_and(|stream| !stream.is_over());
        let Some((key, opening)) = self.backlog.pop(waits) else {
            return;
        };
        if let Some(stream) = self.streams.get_mut(key) {
            stream.in_backlog = false;
        }
        self.openings.push(key, opening);
        self.take_slot(key);
    }

    /// The peer takes one more stream, and no slot that is set aside is needed for it.
    fn has_room(&self) -> bool {
        let limit = self.peer.as_ref().map_or(0, |peer| peer.stream_limit);
        self.opened + self.held_slots < limit
    }

    /// Sets a slot that is free aside, for who opens by [`open_held`](Self::open_held) or lets it go.
    pub fn hold_slot(&mut self) {
        self.held_slots += 1;
    }

    /// Opens a stream in a slot that was set aside.
    pub fn open_held(&mut self, opening: Opening) -> Result<Key, OpenError> {
        self.held_slots = self.held_slots.saturating_sub(1);
        let opened = self.open(opening);
        if opened.is_err() {
            self.events.push_back(Event::SlotFree);
        }
        opened
    }

    /// Nobody comes for a slot that was set aside.
    pub fn let_go_of_slot(&mut self) {
        self.held_slots = self.held_slots.saturating_sub(1);
        self.events.push_back(Event::SlotFree);
    }

    /// Tells of up to `most` slots that are free, as if they just became so.
    pub fn offer_slots(&mut self, most: usize) {
        let free = self.free_slots() as usize;
        self.events
            .extend(std::iter::repeat_n(Event::SlotFree, free.min(most)));
    }

    /// Whether it may be opened at all; then how many streams the peer takes.
    fn check_opening(&self, opening: &Opening) -> Result<u32, OpenError> {
        if let Some(error) = &self.ended {
            return Err(OpenError::Closed(error.clone()));
        }
        let Some(peer) = self.peer.as_ref().filter(|_| self.phase == Phase::Open) else {
            return Err(OpenError::Draining);
        };
        if self.drain.is_draining() {
            return Err(OpenError::Draining);
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
        let head = super::transmit::open_head(opening);
        if head > peer.frame_limit as usize {
            return Err(OpenError::TooLarge {
                size: head as u64,
                limit: u64::from(peer.frame_limit),
            });
        }
        if let Some(metadata) = &opening.metadata {
            check_metadata(metadata).map_err(OpenError::Metadata)?;
        }
        Ok(peer.stream_limit)
    }

    fn insert_stream(&mut self, opening: &Opening) -> Key {
        let window = self.peer.as_ref().map_or(0, |peer| peer.first_window);
        let mut stream = Stream::new(true, window, self.config.first_window);
        if opening.ends {
            stream.sending = Sending::Finishing;
            // Nothing is left to do with the sending half: it counts as let go of.
            stream.send_held = false;
        }
        stream.scheduled = true;
        let key = self.streams.insert(stream);
        if let Some(deadline) = opening.deadline {
            self.set_deadline(key, deadline);
        }
        key
    }

    fn take_slot(&mut self, key: Key) {
        self.opened += 1;
        self.stats.opened += 1;
        self.schedule.push_output(key);
    }

    /// What the peer asked for on a stream it opened; once, after `Opened`.
    pub fn accept(&mut self, key: Key) -> Option<Opening> {
        let stream = self.streams.get_mut(key).filter(|stream| stream.untaken)?;
        stream.untaken = false;
        self.openings.take(key)
    }

    /// Whether a message would be taken now: `Ok(false)` until `Writable` tells.
    pub fn can_send(&mut self, key: Key) -> Result<bool, SendError> {
        self.room(key).map(|room| room > 0)
    }

    /// How many bytes more would be taken now: none until `Writable` tells.
    pub fn room(&mut self, key: Key) -> Result<usize, SendError> {
        let line = self.line();
        Ok(self.sending(key)?.outbox.room(line))
    }

    /// The stream, if messages can be put in line.
    #[inline]
    fn sending(&mut self, key: Key) -> Result<&mut Stream, SendError> {
        match self.streams.get_mut(key) {
            Some(stream) if stream.takes_messages() => Ok(stream),
            stream => Err(unsendable(stream)),
        }
    }

    /// Puts a message in line. Takes it also when there is no room: asking first is what keeps memory bounded.
    pub fn send(&mut self, key: Key, message: Body) -> Result<(), SendError> {
        self.sending(key)?;
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

    /// Puts the messages of a pack in line, and says how much room is left. Takes them also when there is none.
    pub fn send_pack(&mut self, key: Key, pack: &Pack) -> Result<usize, SendError> {
        let line = self.line();
        let stream = self.sending(key)?;
        // They are smaller than any limit that a peer may set (PROTOCOL §4.4).
        stream.outbox.push_pack(pack);
        let room = stream.outbox.room(line);
        if !stream.scheduled {
            self.schedule_output(key);
        }
        Ok(room)
    }

    /// The same if there is room; otherwise `false`, and nothing is sent.
    pub fn try_send_pack(&mut self, key: Key, pack: &Pack) -> Result<bool, SendError> {
        let line = self.line();
        let stream = self.sending(key)?;
        if stream.outbox.room(line) == 0 {
            return Ok(false);
        }
        stream.outbox.push_pocket(pack);
        if !stream.scheduled {
            self.schedule_output(key);
        }
        Ok(true)
    }

    /// Where senders may leave small messages without asking here, from one [`try_send_pack`](Self::try_send_pack) to the
    /// next turn of the stream. `None`: the stream is gone.
    pub fn pocket(&mut self, key: Key) -> Option<Arc<Pocket>> {
        let stream = self.streams.get_mut(key)?;
        Some(stream.outbox.pocket())
    }

    /// Ends our half behind what is in line, with a last message or without.
    pub fn finish(&mut self, key: Key, message: Option<Body>) -> Result<(), SendError> {
        match message {
            Some(message) => self.send(key, message)?,
            None => self.sending(key).map(drop)?,
        }
        self.end_with(key, Final::End)
    }

    /// Ends our half, as the acceptor, with an error behind what is in line.
    pub fn fault(&mut self, key: Key, fault: FaultReply) -> Result<(), SendError> {
        self.sending(key)?;
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
        if let Some(entry) = stream.inbox.pop_front() {
            let last = stream.recv_ended && stream.fault.is_none() && stream.inbox.is_empty();
            let grant =
                stream.recv_window.consume(entry.charge) && !stream.recv_ended && stream.failed.is_none();
            if grant {
                self.grow_window(key);
                self.push_control(key, |control| control.credit = true);
            }
            self.release_budget(entry.reserved);
            return Received::Delivery {
                delivery: entry.delivery,
                last,
            };
        }
        if let Some(fault) = &stream.fault {
            return Received::Failed(StreamError::Fault(fault.clone()));
        }
        if stream.recv_ended {
            return Received::End;
        }
        match &stream.failed {
            Some(error) => Received::Failed(StreamError::clone(error)),
            None => Received::Pending,
        }
    }

    /// Why there is no point in going on with the stream's handler: it was ended from outside, or nobody wants its output.
    pub fn end_of(&self, key: Key) -> Option<StreamError> {
        let stream = self.streams.get(key)?;
        stream
            .failed
            .as_deref()
            .cloned()
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
}

/// Why no message can be put in line on it.
#[cold]
fn unsendable(stream: Option<&mut Stream>) -> SendError {
    match stream {
        Some(Stream {
            failed: Some(error), ..
        }) => SendError::Ended(StreamError::clone(error)),
        Some(Stream {
            stopped: Some(code), ..
        }) => SendError::Stopped { code: *code },
        _ => SendError::Finished,
    }
}
