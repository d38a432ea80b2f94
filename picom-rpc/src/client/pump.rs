//! Sends the stream that a caller gave as input, behind the arguments. The stream is not polled before the call was
//! opened. What was sent is remembered for a while, so that an attempt that did not run can be made again elsewhere.

use super::wake_flag::WakeFlag;
use crate::packing::{self, Stop, Stretch, Values};
use futures_core::Stream;
use picom_codec::{Body, EncodeError};
use picom_transport::{Pack, SendError, SendHalf};
use pin_project_lite::pin_project;
use serde::Serialize;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

/// Input remembered for another attempt, in bytes: what one connection takes in before the peer has said anything.
/// Past it the call is bound to its instance.
const REMEMBERED: usize = 64 * 1024;

/// See the module.
pub(crate) struct Pump {
    input: Pin<Box<dyn Input>>,
    /// What came out of the input so far, for another attempt. `None`: too much to remember.
    sent: Option<Vec<Sent>>,
    sent_bytes: usize,
    /// How many of those this attempt has sent.
    position: usize,
    /// What came out of the input last, and has not been sent.
    next: Option<Body>,
    /// What the input and the room for it are polled with: that they have called it is remembered.
    wakes: WakeFlag,
    /// The input has ended.
    dry: bool,
    /// This attempt has nothing more to do.
    finished: bool,
}

/// Why input cannot be sent.
#[derive(Debug)]
pub(crate) enum PumpError {
    Encode(EncodeError),
    Send(SendError),
}

/// Input as it was sent.
enum Sent {
    /// One message.
    One(Body),
    /// Small ones together.
    Together(Pack),
}

impl Sent {
    fn send(&self, half: &mut SendHalf) -> Result<(), SendError> {
        match self {
            Sent::One(message) => half.start_send(message.clone()),
            Sent::Together(pack) => half.send_pack(&mut pack.clone()).map(drop),
        }
    }
}

impl Pump {
    /// One on the heap: few calls have input, and all would carry the room for it.
    pub(crate) fn new<S>(input: S) -> Box<Self>
    where
        S: Stream + Send + 'static,
        S::Item: Serialize,
    {
        Box::new(Pump {
            input: Box::pin(Items { items: input }),
            sent: Some(Vec::new()),
            sent_bytes: 0,
            position: 0,
            next: None,
            wakes: WakeFlag::new(),
            dry: false,
            finished: false,
        })
    }

    /// Neither the input nor the room for it have called since they were polled last, for `task`.
    #[inline]
    pub(crate) fn is_quiet(&self, task: &Waker) -> bool {
        self.wakes.is_quiet(task)
    }

    /// Whether another attempt can send the same again.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.sent.is_some()
    }

    /// Begins again, for another attempt.
    pub(crate) fn rewind(&mut self) {
        self.position = 0;
        self.finished = false;
    }

    /// Sends what can be sent. Ready when the half has ended: the input is through, or the peer wants no more of it (the
    /// reply tells what became of the call).
    pub(crate) fn poll(
        &mut self,
        half: &mut Option<SendHalf>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        self.wakes.attend(cx.waker());
        let waker = self.wakes.waker().clone();
        let cx = &mut Context::from_waker(&waker);
        let mut stretch = Stretch::default();
        while let Some(open) = half {
            if self.is_through() {
                if let Some(half) = half.take() {
                    // An end that comes too late is told by the reply.
                    let _ = half.finish();
                }
                break;
            }
            let room = match ready!(open.poll_room(cx)) {
                Ok(room) => room,
                Err(error) => return self.ended(error),
            };
            if let Err(error) = ready!(self.send(open, room, &mut stretch, cx)) {
                return match error {
                    PumpError::Send(error) => self.ended(error),
                    PumpError::Encode(_) => {
                        self.finished = true;
                        Poll::Ready(Err(error))
                    }
                };
            }
        }
        self.finished = true;
        Poll::Ready(Ok(()))
    }

    /// Everything has been sent on this attempt.
    fn is_through(&self) -> bool {
        let again = self.sent.as_ref().map_or(0, Vec::len);
        self.dry && self.next.is_none() && self.position >= again
    }

    /// Sends what comes next: what earlier attempts have sent, then what is ready of the input.
    fn send(
        &mut self,
        half: &mut SendHalf,
        room: usize,
        stretch: &mut Stretch,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        if let Some(again) = self.sent.as_ref().and_then(|sent| sent.get(self.position)) {
            self.position += 1;
            return Poll::Ready(again.send(half).map_err(PumpError::Send));
        }
        if let Some(message) = self.next.take() {
            self.remember(message.len(), || Sent::One(message.clone()));
            return Poll::Ready(half.start_send(message).map_err(PumpError::Send));
        }
        if self.dry {
            return Poll::Ready(Ok(()));
        }
        packing::with_pack(|pack| {
            let stop = self.input.as_mut().fill(pack, room, stretch, cx);
            if !pack.is_empty() {
                self.remember(pack.len(), || Sent::Together(pack.clone()));
                half.send_pack(pack).map_err(PumpError::Send)?;
            }
            match stop {
                Stop::Full => {}
                Stop::Waiting | Stop::Tired => return Poll::Pending,
                Stop::Ended => self.dry = true,
                Stop::Large(message) => self.next = Some(message),
                Stop::Encode(error) => return Poll::Ready(Err(PumpError::Encode(error))),
                Stop::Failed(never) => match never {},
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Nothing can be sent any more. Only what this side is to blame for is an error: the reply tells the rest.
    fn ended(&mut self, error: SendError) -> Poll<Result<(), PumpError>> {
        self.finished = true;
        Poll::Ready(match error {
            SendError::TooLarge { .. } | SendError::Unreadable(_) => Err(PumpError::Send(error)),
            _ => Ok(()),
        })
    }

    /// Keeps what is about to be sent, if there is room for it.
    fn remember(&mut self, bytes: usize, sent: impl FnOnce() -> Sent) {
        self.position += 1;
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        if self.sent_bytes > REMEMBERED {
            self.sent = None;
        }
        if let Some(remembered) = &mut self.sent {
            remembered.push(sent());
        }
    }
}

impl fmt::Debug for Pump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pump")
            .field("dry", &self.dry)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

/// Input of whatever type.
trait Input: Send {
    /// Packs what is ready.
    fn fill(
        self: Pin<&mut Self>,
        pack: &mut Pack,
        most: usize,
        stretch: &mut Stretch,
        cx: &mut Context<'_>,
    ) -> Stop<Infallible>;
}

pin_project! {
    struct Items<S> {
        #[pin]
        items: S,
    }
}

impl<S> Input for Items<S>
where
    S: Stream + Send,
    S::Item: Serialize,
{
    fn fill(
        self: Pin<&mut Self>,
        pack: &mut Pack,
        most: usize,
        stretch: &mut Stretch,
        cx: &mut Context<'_>,
    ) -> Stop<Infallible> {
        packing::fill::<_, Values<Infallible>>(self.project().items, pack, most, stretch, cx)
    }
}
