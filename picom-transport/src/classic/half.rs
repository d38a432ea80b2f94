//! The two halves of a classic call, with the methods that those of native streams have.

use super::shared::{Shared, register};
use crate::conn::Ending;
use crate::proto::{FaultReply, SendError, StreamError};
use bytes::Bytes;
use picom_codec::Code;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

pub(crate) struct ClassicSend(Arc<Shared>);

pub(crate) struct ClassicRecv(Arc<Shared>);

#[derive(Clone)]
pub(crate) struct ClassicWatch(Weak<Shared>);

pub(super) fn halves(shared: &Arc<Shared>) -> (ClassicSend, ClassicRecv) {
    (ClassicSend(shared.clone()), ClassicRecv(shared.clone()))
}

impl ClassicSend {
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let (ready, _replaced) = self.0.with(|state| match state.machine.can_send() {
            Ok(true) => (Poll::Ready(Ok(())), None),
            Ok(false) => register(&mut state.send, cx.waker()),
            Err(error) => (Poll::Ready(Err(error)), None),
        });
        ready
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
            Ending::Reply(message) => match self.finish(message.as_ref()) {
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
    pub(crate) fn watch_end(&self) -> ClassicWatch {
        ClassicWatch(Arc::downgrade(&self.0))
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

impl ClassicWatch {
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<StreamError> {
        match self.0.upgrade() {
            Some(shared) => poll_ended(&shared, cx),
            None => Poll::Pending,
        }
    }
}

fn poll_ended(shared: &Shared, cx: &mut Context<'_>) -> Poll<StreamError> {
    let (ended, _replaced) = shared.with(|state| match state.machine.end_of() {
        Some(error) => (Poll::Ready(error), None),
        None => register(&mut state.ended, cx.waker()),
    });
    ended
}
