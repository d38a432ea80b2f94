//! What a stream has to send, and how it becomes frames: small messages packed together, large ones cut into parts, the
//! end in order behind them (PROTOCOL §6, §7.1). Credit is the limit; whose turn it is stands in `schedule.rs`.

use super::error::FaultReply;
use super::handshake::PeerLimits;
use super::line::Line;
use super::pack::{MOST_PACKED, Pack};
use super::packed::Packed;
use super::pocket::Pocket;
use bytes::Bytes;
use picom_codec::{Body, Fault, Frame, StreamId};
use std::sync::Arc;

/// The most that is packed into one frame: beyond it a frame's head costs nothing, and a receiver could begin sooner.
const PACK: usize = 32 * 1024;
/// A stream takes messages while fewer bytes of it wait.
pub(super) const LINE: usize = 64 * 1024;
/// The same if messages are large: with four of 64 KiB in line a write takes them together (streams of such chunks went from
/// 3.5 to 6.0 GB/s). Small ones gain nothing: there and back they were an eighth slower, being out of the caches.
pub(super) const LONG_LINE: usize = 256 * 1024;
const LARGE: usize = 16 * 1024;
/// Heads of data, last, items and fault frames without their strings: array, kind, stream, numbers, header of what follows.
const HEAD: usize = 32;
/// Each part but the last carries at least so much (PROTOCOL §6.2).
const LEAST_PART: u32 = 4096;
/// What a frame costs at least (PROTOCOL §7.1).
pub(super) const LEAST_CHARGE: u32 = 256;

/// What a body of this length costs.
pub(super) fn charge(body: usize) -> u32 {
    u32::try_from(body).unwrap_or(u32::MAX).max(LEAST_CHARGE)
}

/// Whether a message travels in one frame to this peer (PROTOCOL §6.1).
pub(super) fn fits(body: usize, head: usize, peer: &PeerLimits) -> bool {
    body.saturating_add(head) <= peer.frame_limit as usize && charge(body) <= peer.first_window
}

/// How a half ends.
#[derive(Debug)]
pub(super) enum Final {
    End,
    Fault(Box<FaultReply>),
}

#[derive(Debug)]
enum Outgoing {
    Message {
        body: Body,
        written: usize,
        in_parts: bool,
    },
    Packed(Box<Packed>),
}

/// The next frame of a stream, if it may go.
#[derive(Debug)]
pub(super) enum Next {
    /// Send it, it costs `charge`; with `ends` it is the last of the half.
    Frame { frame: Frame, charge: u32, ends: bool },
    /// There is something, but no credit for it.
    Blocked,
    /// There is nothing.
    Empty,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    line: Line<Outgoing>,
    bytes: usize,
    /// The half ends behind what is in line, and with this fault, if there is one. (An option of [`Final`] takes a word more,
    /// in each of many streams.)
    ends: bool,
    fault: Option<Box<FaultReply>>,
    /// Somebody found no room.
    awaited: bool,
    /// Something may be in the pocket, which belongs behind what is in line.
    pocketed: bool,
    /// Made for senders who ask for it.
    pocket: Option<Arc<Pocket>>,
}

impl Outbox {
    /// How many bytes more it takes before its line is full, `long` if its messages are large. If none, somebody will wait
    /// for [room](Self::room_was_made).
    pub(super) fn room(&mut self, long: usize) -> usize {
        self.collect();
        let room = self.line_for(long).saturating_sub(self.bytes);
        self.awaited |= room == 0;
        room
    }

    /// Whether there is room again for somebody who found none.
    pub(super) fn room_was_made(&mut self, long: usize) -> bool {
        let made = self.awaited && self.bytes < self.line_for(long);
        self.awaited &= !made;
        made
    }

    fn line_for(&self, long: usize) -> usize {
        match self.line.back() {
            Some(Outgoing::Message { body, .. }) if body.len() >= LARGE => long,
            _ => LINE,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.is_empty() && !self.ends && !self.pocketed
    }

    /// Where small messages can be left while the stream waits for its turn.
    pub(super) fn pocket(&mut self) -> Arc<Pocket> {
        self.pocket.get_or_insert_default().clone()
    }

    /// Puts in line what was left in the pocket, and closes it.
    pub(super) fn collect(&mut self) {
        if let (true, Some(pocket)) = (std::mem::take(&mut self.pocketed), &self.pocket) {
            let mut left = pocket.close();
            self.bytes += left.len();
            match self.packed() {
                Some(packed) => packed.append(left),
                None if left.count() > 1 => self.line.push_back(Outgoing::Packed(Box::new(left))),
                None => {
                    if let Some((_, body)) = left.take(usize::MAX) {
                        self.line.push_back(Outgoing::Message {
                            body: body.into(),
                            written: 0,
                            in_parts: false,
                        });
                    }
                }
            }
        }
    }

    /// Puts the messages of a pack in line, by way of the pocket if there is one, which is then open. There must be
    /// [room](Self::room), and the stream must be given its turn.
    pub(super) fn push_pocket(&mut self, pack: &Pack) {
        let room = LINE.saturating_sub(self.bytes);
        match &self.pocket {
            Some(pocket) if room > 0 && !self.pocketed && !pack.is_empty() => {
                pocket.open(room, pack);
                self.pocketed = true;
            }
            _ => self.push_pack(pack),
        }
    }

    pub(super) fn push(&mut self, message: Body) {
        self.collect();
        self.bytes += message.len();
        if message.len() > MOST_PACKED {
            return self.line.push_back(Outgoing::Message {
                body: message,
                written: 0,
                in_parts: false,
            });
        }
        match self.packed() {
            Some(packed) => packed.push(&message),
            None => self.line.push_back(Outgoing::Message {
                body: message,
                written: 0,
                in_parts: false,
            }),
        }
    }

    /// Puts the messages of a pack in line: as if they were pushed one by one.
    pub(super) fn push_pack(&mut self, pack: &Pack) {
        self.collect();
        self.bytes += pack.len();
        match self.packed() {
            Some(packed) => packed.extend(pack),
            None if pack.count() == 1 => self.line.push_back(Outgoing::Message {
                body: Body::copy_from_slice(pack.bytes()),
                written: 0,
                in_parts: false,
            }),
            None if pack.is_empty() => {}
            None => self.line.push_back(Outgoing::Packed(Box::new(pack.into()))),
        }
    }

    /// What small messages are packed into, if that is what stands last in line. A lone small message becomes one: it is
    /// with the second in line that packing begins.
    fn packed(&mut self) -> Option<&mut Packed> {
        let back = self.line.back_mut()?;
        if let Outgoing::Message {
            body,
            written: 0,
            in_parts: false,
        } = back
            && body.len() <= MOST_PACKED
        {
            let mut packed = Box::<Packed>::default();
            packed.push(body);
            *back = Outgoing::Packed(packed);
        }
        match back {
            Outgoing::Packed(packed) => Some(packed),
            Outgoing::Message { .. } => None,
        }
    }

    /// The args of an open that did not fit its frame (PROTOCOL §6.4): they go before all that is in line already.
    pub(super) fn push_args_first(&mut self, args: Body, ends: bool) {
        self.bytes += args.len();
        self.line.push_front(Outgoing::Message {
            body: args,
            written: 0,
            in_parts: true,
        });
        self.ends |= ends;
    }

    /// The next thing in line is the rest of a message that has been begun.
    pub(super) fn is_within_message(&self) -> bool {
        matches!(self.line.front(), Some(Outgoing::Message { written, .. }) if *written > 0)
    }

    pub(super) fn finish(&mut self, last: Final) {
        self.collect();
        self.ends = true;
        self.fault = match last {
            Final::End => None,
            Final::Fault(fault) => Some(fault),
        };
    }

    /// Forgets everything that waits, as after a reset.
    pub(super) fn clear(&mut self) {
        if let Some(pocket) = self.pocket.take() {
            pocket.close();
        }
        *self = Self::default();
    }

    pub(super) fn next(&mut self, stream: StreamId, credit: u32, peer: &PeerLimits) -> Next {
        self.collect();
        match self.line.pop_front() {
            Some(Outgoing::Packed(packed)) => self.next_packed(stream, packed, credit, peer),
            Some(Outgoing::Message {
                body,
                written: 0,
                in_parts: false,
            }) if fits(body.len(), HEAD, peer) => {
                let charge = charge(body.len());
                if credit < charge {
                    // The receiver grants half a window at a time: it may never grant the whole message at once.
                    if body.len() > LEAST_PART as usize && credit >= LEAST_PART {
                        return self.next_part(stream, body, 0, credit, peer);
                    }
                    self.line.push_front(Outgoing::Message {
                        body,
                        written: 0,
                        in_parts: false,
                    });
                    return Next::Blocked;
                }
                self.took(body.len());
                self.whole(stream, body, charge)
            }
            Some(Outgoing::Message { body, written, .. }) => {
                self.next_part(stream, body, written, credit, peer)
            }
            None => self.next_final(stream, credit),
        }
    }

    fn next_packed(
        &mut self,
        stream: StreamId,
        mut packed: Box<Packed>,
        credit: u32,
        peer: &PeerLimits,
    ) -> Next {
        let room = PACK.min(peer.frame_limit as usize - HEAD).min(credit as usize);
        let taken = if credit < LEAST_CHARGE {
            None
        } else {
            packed.take(room)
        };
        let Some((count, body)) = taken else {
            self.line.push_front(Outgoing::Packed(packed));
            return Next::Blocked;
        };
        self.took(body.len());
        if !packed.is_empty() {
            self.line.push_front(Outgoing::Packed(packed));
        }
        let charge = charge(body.len());
        if count == 1 {
            return self.whole(stream, body.into(), charge);
        }
        Next::Frame {
            frame: Frame::Items { stream, count, body },
            charge,
            ends: false,
        }
    }

    /// A frame with one whole message, which ends the half if nothing follows.
    fn whole(&mut self, stream: StreamId, body: Body, charge: u32) -> Next {
        let ends = self.takes_end();
        let frame = if ends {
            Frame::Last { stream, body }
        } else {
            Frame::Data { stream, body }
        };
        Next::Frame { frame, charge, ends }
    }

    fn next_part(
        &mut self,
        stream: StreamId,
        body: Body,
        written: usize,
        credit: u32,
        peer: &PeerLimits,
    ) -> Next {
        let left = body.len() - written;
        let most = (peer.frame_limit - HEAD as u32)
            .min(peer.first_window)
            .min(credit);
        let length = left.min(most as usize);
        if credit < LEAST_CHARGE || (length < left && most < LEAST_PART) {
            self.line.push_front(Outgoing::Message {
                body,
                written,
                in_parts: true,
            });
            return Next::Blocked;
        }
        let total = (written == 0).then_some(body.len() as u64);
        let part = body.slice(written..written + length);
        self.took(length);
        let mut end = false;
        if length < left {
            self.line.push_front(Outgoing::Message {
                body,
                written: written + length,
                in_parts: true,
            });
        } else {
            end = self.takes_end();
        }
        let frame = Frame::Part {
            stream,
            total,
            end,
            body: part,
        };
        Next::Frame {
            frame,
            charge: charge(length),
            ends: end,
        }
    }

    fn next_final(&mut self, stream: StreamId, credit: u32) -> Next {
        if !self.ends {
            return Next::Empty;
        }
        let Some(fault) = self.fault.take() else {
            self.ends = false;
            return Next::Frame {
                frame: Frame::End { stream },
                charge: 0,
                ends: true,
            };
        };
        let charge = charge(fault.details.len());
        if credit < charge {
            self.fault = Some(fault);
            return Next::Blocked;
        }
        self.ends = false;
        let FaultReply {
            code,
            started,
            do_not_retry,
            delay,
            text,
            name,
            details,
        } = *fault;
        let delay_ms = delay.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        let fault = Fault {
            stream,
            code,
            started,
            do_not_retry,
            delay_ms,
            text,
            name,
            details,
        };
        Next::Frame {
            frame: Frame::Fault(fault),
            charge,
            ends: true,
        }
    }

    fn took(&mut self, bytes: usize) {
        self.bytes -= bytes.min(self.bytes);
    }

    /// Whether the half ends behind what has just been taken; if so, the end goes with it.
    fn takes_end(&mut self) -> bool {
        let ends = self.ends && self.fault.is_none() && self.line.is_empty();
        self.ends &= !ends;
        ends
    }
}

/// Cuts a fault to what the peer takes in one frame: details that do not fit are left out, and the text says so.
pub(super) fn fit_fault(mut fault: FaultReply, peer: &PeerLimits) -> FaultReply {
    const TEXT: usize = 4096;
    const NAME: usize = 128;
    let frame = peer.frame_limit as usize;
    cut(&mut fault.text, TEXT.min(frame / 4));
    if let Some(name) = &mut fault.name {
        cut(name, NAME);
    }
    let head = HEAD + fault.text.len() + fault.name.as_ref().map_or(0, String::len);
    // Half a window is what a sender is sure to get when all is read.
    if !fits(fault.details.len(), head, peer) || charge(fault.details.len()) > peer.first_window / 2 {
        let size = fault.details.len();
        fault.details = Bytes::from_static(&[0xc0]);
        fault.name = None;
        cut(&mut fault.text, frame / 8);
        fault.text.push_str(&format!(
            " (details of {size} bytes are left out: over the peer's limit)"
        ));
    }
    fault
}

fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let mut end = most;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests;
