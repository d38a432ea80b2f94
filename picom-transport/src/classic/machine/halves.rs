//! What the two halves of a call ask of its machine.

use super::{Arriving, HELD, LEAST_CHARGE, Machine, Sending, Side, Socket};
use crate::proto::{FaultReply, SendError, StreamError};
use bytes::Bytes;
use picom_codec::classic::{END, error_record, readable_item};
use picom_codec::{Code, value};

impl Machine {
    fn may_send(&self) -> Result<(), SendError> {
        match (&self.failed, self.sending) {
            (Some(error), _) => Err(SendError::Ended(error.clone())),
            (None, Sending::Open) => Ok(()),
            (None, Sending::Finished) => Err(SendError::Finished),
            (None, Sending::Stopped) => Err(SendError::Stopped { code: Code::OK }),
        }
    }

    /// How many bytes more may wait for the socket.
    pub(in crate::classic) fn room(&self) -> Result<usize, SendError> {
        self.may_send()?;
        Ok(HELD.saturating_sub(self.waiting()) as usize)
    }

    pub(in crate::classic) fn send(&mut self, message: &Bytes) -> Result<(), SendError> {
        self.may_send()?;
        if message.is_empty() {
            return Err(SendError::Empty);
        }
        // The peer names no limit: ours stands in for it.
        let (size, limit) = (message.len() as u64, self.rules.message_limit);
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        let item = readable_item(message, self.side == Side::Server)
            .map_err(|error| SendError::Unreadable(Box::new(error)))?;
        self.push(&item);
        Ok(())
    }

    /// Ends the half; a last message of nil is none, as in JavaScript.
    pub(in crate::classic) fn finish(&mut self, last: Option<&Bytes>) -> Result<(), SendError> {
        self.may_send()?;
        if let Some(last) = last.filter(|last| ***last != *value::nil()) {
            self.send(last)?;
        }
        if self.side == Side::Server {
            self.push(END);
        }
        self.finished();
        Ok(())
    }

    pub(in crate::classic) fn fault(&mut self, fault: &FaultReply) -> Result<(), SendError> {
        self.may_send()?;
        if self.side == Side::Client {
            self.reset(Code::CANCELLED);
        } else if fault.code == Code::UNKNOWN_METHOD && !fault.started {
            self.push_unknown();
        } else {
            self.push(&error_record(&format!("[{}] {}", self.service, fault.text)));
            self.finished();
        }
        Ok(())
    }

    /// Ends the call so that nobody takes it for complete.
    pub(in crate::classic) fn reset(&mut self, code: Code) {
        if self.failed.is_some() || self.socket != Socket::Working {
            return;
        }
        if self.side == Side::Server && self.sending == Sending::Open {
            let text = match code {
                Code::REFUSED => "the call was refused: too many calls are under way",
                _ => "the call was given up",
            };
            self.push(&error_record(&format!("[{}] {text}", self.service)));
            self.sending = Sending::Finished;
            self.fail(StreamError::Cancelled { code, sent: true }, Socket::Finishing);
        } else if self.side == Side::Client {
            let sent = self.sent();
            self.fail(StreamError::Cancelled { code, sent }, Socket::Abort);
        }
    }

    pub(in crate::classic) fn release_send(&mut self) {
        self.send_held = false;
        if self.sending == Sending::Open {
            self.reset(Code::INCOMPLETE);
        }
    }

    /// The next message, the end, or why there is none; `None`: nothing yet.
    pub(in crate::classic) fn read(&mut self) -> Option<Result<Option<Bytes>, StreamError>> {
        if let Some(item) = self.inbox.pop_front() {
            let full = self.inbox_charge >= HELD;
            self.inbox_charge = self
                .inbox_charge
                .saturating_sub((item.len() as u64).max(LEAST_CHARGE));
            if full && self.inbox_charge < HELD {
                self.signals.driver = true;
            }
            return Some(Ok(Some(item)));
        }
        match (&self.input_end, &self.failed) {
            (Some(Ok(())), _) => Some(Ok(None)),
            (Some(Err(error)), _) | (None, Some(error)) => Some(Err(error.clone())),
            (None, None) => None,
        }
    }

    pub(in crate::classic) fn release_recv(&mut self) {
        self.recv_held = false;
        self.inbox.clear();
        self.inbox_charge = 0;
        if matches!(self.arriving, Arriving::Items) {
            self.arriving = Arriving::Ignored;
        }
        // With our input sent as well, the reply was all that the call was still for.
        if self.side == Side::Client && self.sending == Sending::Finished {
            self.reset(Code::CANCELLED);
        }
        self.signals.driver = true;
    }

    /// Why there is no point in going on.
    pub(in crate::classic) fn end_of(&self) -> Option<StreamError> {
        match (&self.failed, self.sending) {
            (Some(error), _) => Some(error.clone()),
            (None, Sending::Stopped) => Some(StreamError::Reset { code: Code::OK }),
            _ => None,
        }
    }
}
