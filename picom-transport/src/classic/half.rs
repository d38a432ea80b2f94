//! The two halves of a classic call, with the methods that those of native streams have.

use super::shared::{Shared, register};
use crate::conn::Ending;
use crate::proto::{FaultReply, Pack, SendError, StreamError};
use bytes::Bytes;
use picom_codec::{Body, Code};
use std::sync::Arc;
use std::task::{Context, Poll};

pub(crate) struct ClassicSend(Arc<Shared>);

pub(crate) struct ClassicRecv(Arc<Shared>);

pub(super) fn halves(shared: &Arc<Shared>) -> (ClassicSend, ClassicRecv) {
    (ClassicSend(shared.clone()), ClassicRecv(shared.clone()))
}

impl ClassicSend {
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<usize, SendError>> {
        let (ready, _replaced) = self.0.with(|state| match state.machine.room() {
            Ok(0) => register(&mut state.send, cx.waker()),
            room => (Poll::Ready(room), None),
        });
        ready
    }

    pub(crate) fn room(&self) -> Result<usize, SendError> {
        self.0.with(|state| state.machine.room())
    }

    /// A frame for each message, until the first that cannot be sent.
    pub(crate) fn send_pack(&self, pack: &Pack) -> Result<usize, SendError> {
        self.0.with(|state| {
            for message in pack.messages() {
                state.machine.send(&message)?;
            }
            state.machine.room()
        })
    }

    /// The same if there is room.
    pub(crate) fn try_send_pack(&self, pack: &Pack) -> Result<bool, SendError> {
        if self.room()? == 0 {
            return Ok(false);
        }
        self.send_pack(pack).map(|_| true)
    }

    pub(crate) fn start_send(&self, message: &Bytes) -> Result<(), SendError> {
        self.0.with(|state| state.machine.send(message))
    }

    pub(crate) fn finish(&self, last: Option<&Bytes>) -> Result<(), SendError> {
        self.0.with(|state| state.machine.finish(last))
    }

    pub(crate) fn fault(&self, fault: &FaultReply) -> Result<(), SendError> {
        self.0.with(|state| state.machine.fault(fault))
    }

    pub(crate) fn reset(&self, code: Code) {
        self.0.with(|state| state.machine.reset(code));
    }

    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        poll_ended(&self.0, cx)
    }

    /// Answers; what cannot be sent becomes the fault that `otherwise` makes of the reason.
    pub(crate) fn conclude(
        &self,
        ending: Ending,
        otherwise: impl FnOnce(&SendError) -> FaultReply,
    ) -> Result<(), SendError> {
        match ending {
            Ending::Reply(message) => match self.finish(message.map(Body::into_bytes).as_ref()) {
                Err(error @ (SendError::Unreadable(_) | SendError::TooLarge { .. } | SendError::Empty)) => {
                    self.fault(&otherwise(&error))
                }
                sent => sent,
            },
            Ending::Fault(fault) => self.fault(&fault),
        }
    }
}

impl Drop for ClassicSend {
    fn drop(&mut self) {
        let _wakers = self.0.with(|state| {
            state.machine.release_send();
            (state.send.take(), state.ended.take())
        });
    }
}

impl ClassicRecv {
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        poll_ended(&self.0, cx)
    }

    pub(crate) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        let (received, _replaced) = self.0.with(|state| match state.machine.read() {
            Some(received) => (Poll::Ready(received), None),
            None => register(&mut state.recv, cx.waker()),
        });
        received
    }

    pub(crate) fn reset(&self, code: Code) {
        self.0.with(|state| state.machine.reset(code));
    }
}

impl Drop for ClassicRecv {
    fn drop(&mut self) {
        let _waker = self.0.with(|state| {
            state.machine.release_recv();
            state.recv.take()
        });
    }
}

fn poll_ended(shared: &Shared, cx: &mut Context<'_>) -> Poll<StreamError> {
    let (ended, _replaced) = shared.with(|state| match state.machine.end_of() {
        Some(error) => (Poll::Ready(error), None),
        None => register(&mut state.ended, cx.waker()),
    });
    ended
}
