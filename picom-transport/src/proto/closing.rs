//! How streams and the connection end, and what they give back when they do.

use super::error::{ConnectionError, StreamError};
use super::event::Event;
use super::mux::{Mux, Phase};
use super::stream::{Control, Sending, Stream};
use super::streams::Key;
use picom_codec::{Code, Goaway};
use std::sync::Arc;

impl Mux {
    /// Closes both halves; with a code, the peer is told.
    pub(super) fn close_stream(&mut self, key: Key, error: StreamError, tell: Option<Code>) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let was_over = stream.is_over();
        let unsent = stream.is_unsent();
        let in_backlog = stream.in_backlog;
        let waits = unsent || stream.untaken;
        let released = stream.fail(error);
        if in_backlog {
            if !was_over {
                self.backlog
                    .given_up(|key| self.streams.get(key).is_some_and(|stream| !stream.is_over()));
            }
        } else if waits {
            self.openings.take(key);
        }
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
        if stream.control.reset.is_none() {
            self.streams.unname(key);
        }
        if let Some(timer) = timer {
            self.timers.remove(timer);
        }
        if self
            .streams
            .get(key)
            .is_some_and(|stream| stream.ours && !stream.in_backlog)
        {
            self.opened = self.opened.saturating_sub(1);
            self.backlog.freed();
            self.events.push_back(Event::SlotFree);
        }
        self.remove_if_done(key);
    }

    pub(super) fn after_release(&mut self, key: Key) {
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
        let removed = self.streams.remove(key, |stream| {
            (stream.ours, stream.drop_inbox() + u64::from(stream.grown))
        });
        if let Some((ours, released)) = removed {
            if !ours {
                self.accepted = self.accepted.saturating_sub(1);
            }
            self.release_budget(released);
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
                stream.control = Control::default();
            }
            self.remove_if_done(key);
        }
        self.events.push_back(Event::PeerDraining);
    }
}
