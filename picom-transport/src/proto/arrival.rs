//! Messages that arrive: whole, packed or in parts, on the streams they are for.

use super::assembly::{Assembly, PartError};
use super::error::StreamError;
use super::event::Event;
use super::handshake;
use super::inbox::{Delivery, Entry};
use super::mux::Mux;
use super::outbox::charge;
use super::receive::{Violation, broken};
use super::stream::{Kind, Verdict, judge};
use super::streams::Key;
use bytes::Bytes;
use picom_codec::{Body, Code, Items, StreamId};

impl Mux {
    /// The stream a frame is for; `None` if it is to be ignored.
    pub(super) fn target(&self, id: StreamId, kind: Kind) -> Result<Option<Key>, Violation> {
        let ours = id.is_client_opened() == (self.role == handshake::Role::Client);
        let last = if ours {
            self.last_opened
        } else {
            self.last_accepted
        };
        if last.is_none_or(|last| id > last) {
            return Err(broken("a frame for a stream that was never opened"));
        }
        if kind == Kind::Fault && !ours {
            return Err(broken("a fault from the opener of the stream"));
        }
        let Some(key) = self.streams.find(id) else {
            return Ok(None);
        };
        let Some(stream) = self.streams.get(key) else {
            return Ok(None);
        };
        match judge(stream, kind) {
            Verdict::Take => Ok(Some(key)),
            Verdict::Ignore => Ok(None),
            Verdict::Break(text) => Err(broken(text)),
        }
    }

    pub(super) fn take_message(&mut self, id: StreamId, body: Body, ends: bool) -> Result<(), Violation> {
        let Some(key) = self.target(id, Kind::Message)? else {
            return Ok(());
        };
        self.arrived(key, charge(body.len()), Delivery::One(body))?;
        if ends {
            self.half_ended(key);
        }
        Ok(())
    }

    pub(super) fn take_items(&mut self, id: StreamId, count: u32, body: Bytes) -> Result<(), Violation> {
        let Some(key) = self.target(id, Kind::Message)? else {
            return Ok(());
        };
        self.arrived(
            key,
            charge(body.len()),
            Delivery::Many(Box::new(Items::new(count, body, self.config.scan))),
        )
    }

    /// Puts a delivery into the inbox, if anybody is there to read it.
    fn arrived(&mut self, key: Key, cost: u32, delivery: Delivery) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        stream
            .recv_window
            .receive(cost)
            .map_err(|_| Violation(Code::FLOW, "more was sent than credit allowed"))?;
        if stream.stop_sent || !stream.recv_held {
            return Ok(());
        }
        stream.inbox.push_back(Entry {
            delivery,
            charge: cost,
            reserved: 0,
        });
        self.events.push_back(Event::Readable(key));
        Ok(())
    }

    pub(super) fn take_part(
        &mut self,
        id: StreamId,
        total: Option<u64>,
        end: bool,
        part: &Bytes,
    ) -> Result<(), Violation> {
        let kind = if total.is_some() {
            Kind::FirstPart
        } else {
            Kind::NextPart
        };
        let Some(key) = self.target(id, kind)? else {
            return Ok(());
        };
        let limit = self.config.message_limit;
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(());
        };
        let cost = charge(part.len());
        stream
            .recv_window
            .receive(cost)
            .map_err(|_| Violation(Code::FLOW, "more was sent than credit allowed"))?;
        let unwanted = stream.stop_sent || !stream.recv_held;
        if let Some(total) = total {
            if total > limit {
                self.close_stream(
                    key,
                    StreamError::TooLarge { size: total, limit },
                    Some(Code::MESSAGE_TOO_LARGE),
                );
                return Ok(());
            }
            let mut assembly = Assembly::new(total);
            if unwanted {
                assembly.discard();
            } else {
                assembly.reserved = self.budget.reserve(key, total);
            }
            stream.assembly = Some(Box::new(assembly));
        }
        let Some(assembly) = stream.assembly.as_mut() else {
            return Ok(());
        };
        let whole = assembly.push(part, end).map_err(|error| {
            broken(match error {
                PartError::Overlong => "more parts than the total",
                PartError::Tiny => "a part is too short",
                PartError::EndsEarly => "the end stands within a message",
            })
        })?;
        if unwanted {
            if whole.is_some() {
                stream.assembly = None;
            }
            if end {
                self.half_ended(key);
            }
            return Ok(());
        }
        let reserved = assembly.reserved;
        if !reserved {
            assembly.withheld = assembly.withheld.saturating_add(cost);
        }
        let total = assembly.total();
        if let Some(body) = whole {
            let withheld = assembly.withheld;
            stream.assembly = None;
            // A message that came whole before its reservation was granted takes the room of the first window, which it
            // cannot exceed; its credit flows back when it is received.
            let (charge, held) = if reserved { (0, total) } else { (withheld, 0) };
            if !reserved {
                self.budget.forget(key);
            }
            self.completed(key, body, charge, held, end);
        }
        if reserved {
            self.return_credit(key, cost);
        }
        Ok(())
    }

    /// All parts of a message have come.
    fn completed(&mut self, key: Key, body: Bytes, charge: u32, reserved: u64, end: bool) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if stream.args_pending && !stream.ours {
            stream.args_pending = false;
            stream.recv_ended = end;
            if let Some(opening) = self.openings.get_mut(key) {
                opening.args = body.into();
                opening.ends = end;
            }
            self.events.push_back(Event::Opened(key));
            // The handler has the args now: they are no longer ours to hold.
            self.return_credit(key, charge);
            self.release_budget(reserved);
            return;
        }
        stream.inbox.push_back(Entry {
            delivery: Delivery::One(body.into()),
            charge,
            reserved,
        });
        self.events.push_back(Event::Readable(key));
        if end {
            self.half_ended(key);
        }
    }

    /// The peer's half has ended in order.
    pub(super) fn half_ended(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        if stream.args_pending && !stream.ours {
            // The end came in place of the args: there is no call.
            self.close_stream(
                key,
                StreamError::Reset {
                    code: Code::INCOMPLETE,
                },
                Some(Code::INCOMPLETE),
            );
            return;
        }
        stream.recv_ended = true;
        let released = stream
            .assembly
            .take()
            .filter(|assembly| assembly.reserved)
            .map_or(0, |a| a.total());
        stream.control.credit = false;
        stream.control.stop = None;
        let over = stream.is_over();
        self.events.push_back(Event::Readable(key));
        self.release_budget(released);
        if over {
            self.stream_over(key);
        }
    }
}
