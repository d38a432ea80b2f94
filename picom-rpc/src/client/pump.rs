//! Sends the stream that a caller gave as input, behind the arguments. The stream is not polled before the call was
//! opened. What was sent is remembered for a while, so that an attempt that did not run can be made again elsewhere.

use bytes::Bytes;
use futures_core::Stream;
use picom_codec::{EncodeError, value};
use picom_transport::{SendError, SendHalf};
use serde::Serialize;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Input remembered for another attempt, in bytes: what one connection takes in before the peer has said anything.
/// Past it the call is bound to its instance.
const REMEMBERED: usize = 64 * 1024;

type Encoded = Pin<Box<dyn Stream<Item = Result<Bytes, EncodeError>> + Send>>;

/// See the module.
pub(crate) struct Pump {
    input: Encoded,
    /// What came out of the input so far, for another attempt. `None`: too much to remember.
    sent: Option<Vec<Bytes>>,
    sent_bytes: usize,
    /// How many of those this attempt has sent.
    position: usize,
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

impl Pump {
    pub(crate) fn new<S>(input: S) -> Self
    where
        S: Stream + Send + 'static,
        S::Item: Serialize,
    {
        Pump {
            input: Box::pin(Encode {
                input: Box::pin(input),
            }),
            sent: Some(Vec::new()),
            sent_bytes: 0,
            position: 0,
            dry: false,
            finished: false,
        }
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
        while let Some(open) = half {
            let remembered = self
                .sent
                .as_ref()
                .and_then(|sent| sent.get(self.position))
                .cloned();
            if remembered.is_none() && self.dry {
                if let Some(half) = half.take() {
                    // An end that comes too late is told by the reply.
                    let _ = half.finish();
                }
                break;
            }
            match ready!(open.poll_ready(cx)) {
                Ok(()) => {}
                Err(SendError::TooLarge { size, limit }) => {
                    return self.fail(SendError::TooLarge { size, limit });
                }
                Err(_) => break,
            }
            let message = match remembered {
                Some(message) => message,
                None => match ready!(self.input.as_mut().poll_next(cx)) {
                    Some(Ok(message)) => self.remember(message),
                    Some(Err(error)) => {
                        self.finished = true;
                        return Poll::Ready(Err(PumpError::Encode(error)));
                    }
                    None => {
                        self.dry = true;
                        continue;
                    }
                },
            };
            self.position += 1;
            match open.start_send(message) {
                Ok(()) => {}
                Err(error @ (SendError::TooLarge { .. } | SendError::Unreadable(_))) => {
                    return self.fail(error);
                }
                Err(_) => break,
            }
        }
        self.finished = true;
        Poll::Ready(Ok(()))
    }

    fn fail(&mut self, error: SendError) -> Poll<Result<(), PumpError>> {
        self.finished = true;
        Poll::Ready(Err(PumpError::Send(error)))
    }

    fn remember(&mut self, message: Bytes) -> Bytes {
        self.sent_bytes = self.sent_bytes.saturating_add(message.len());
        if self.sent_bytes > REMEMBERED {
            self.sent = None;
        }
        if let Some(sent) = &mut self.sent {
            sent.push(message.clone());
        }
        message
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

struct Encode<S> {
    input: Pin<Box<S>>,
}

impl<S> Stream for Encode<S>
where
    S: Stream,
    S::Item: Serialize,
{
    type Item = Result<Bytes, EncodeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.input.as_mut().poll_next(cx));
        Poll::Ready(item.map(|item| value::encode(&item)))
    }
}
