//! One attempt of a call under way at an endpoint: its stream, its share of the load, and what its end says about the
//! endpoint.

use super::endpoint::{Endpoint, InFlight};
use super::service::{Service, now};
use picom_codec::{Body, Code, ItemsError};
use picom_transport::{Delivery, RecvHalf, SendHalf, StreamError};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// See the module. Dropped, the stream ends: the peer's handler is cancelled unless the reply was complete.
#[derive(Debug)]
pub(crate) struct Flight {
    /// For input, if there is any.
    pub(crate) send: Option<SendHalf>,
    recv: RecvHalf,
    load: InFlight,
    service: Arc<Service>,
    opened: Instant,
    /// The endpoint has been told how it went.
    settled: bool,
}

/// What the end of an attempt says about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// It works.
    Good,
    /// It does not.
    Bad,
    /// It is ending.
    Draining,
    /// The connection is gone; the endpoint may be.
    Lost,
    /// Nothing.
    None,
}

impl Flight {
    pub(super) fn new(
        service: Arc<Service>,
        endpoint: Arc<Endpoint>,
        (send, recv): (Option<SendHalf>, RecvHalf),
        opened: Instant,
    ) -> Self {
        Flight {
            send,
            recv,
            load: endpoint.begin(),
            service,
            opened,
            settled: false,
        }
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        self.load.endpoint()
    }

    /// The next message of the reply, its end, or why there is none.
    pub(crate) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Body>, StreamError>> {
        let received = ready!(self.recv.poll_recv(cx));
        self.settle(&received);
        Poll::Ready(received)
    }

    /// The same, but messages that came in one frame come together.
    pub(crate) fn poll_delivery(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Delivery>, StreamError>> {
        let received = ready!(self.recv.poll_delivery(cx));
        self.settle(&received);
        Poll::Ready(received)
    }

    /// The messages that came together are malformed: the stream ends with that.
    pub(crate) fn bad_items(&mut self, error: ItemsError) -> StreamError {
        self.recv.bad_items(error)
    }

    /// Tells the endpoint how it went, when the first of the reply is there.
    fn settle<T>(&mut self, received: &Result<Option<T>, StreamError>) {
        if !self.settled {
            self.settled = true;
            let endpoint = self.load.endpoint();
            match received.as_ref().map_or_else(sign, |_| Sign::Good) {
                Sign::Good => {
                    let now = self.recv.last_heard().unwrap_or_else(now);
                    endpoint.observe(now.saturating_duration_since(self.opened), now);
                    self.service.answered(endpoint);
                }
                Sign::Bad => self.service.failed(endpoint),
                Sign::Draining => self.service.draining(endpoint.id),
                Sign::Lost => {
                    self.service.failed(endpoint);
                    self.service.disconnected(endpoint);
                }
                Sign::None => self.settled = false,
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.settled {
            self.service.undecided(self.load.endpoint());
        }
    }
}

fn sign(error: &StreamError) -> Sign {
    match error {
        StreamError::Fault(fault) if fault.started => Sign::Good,
        StreamError::Fault(fault) => match fault.code {
            Code::REFUSED | Code::TOO_BUSY => Sign::Bad,
            Code::DRAINING => Sign::Draining,
            // It answered, if only that it will not: an unknown method, arguments that do not decode.
            _ => Sign::Good,
        },
        StreamError::Reset { code: Code::DRAINING } | StreamError::NotTaken => Sign::Draining,
        // A peer that answers pings and no calls.
        StreamError::Reset { .. } | StreamError::Deadline { sent: true } => Sign::Bad,
        StreamError::ConnectionLost { .. } => Sign::Lost,
        StreamError::TooLarge { .. } | StreamError::BadItems(_) => Sign::Good,
        StreamError::Deadline { sent: false } | StreamError::Cancelled { .. } | StreamError::NoSlot => {
            Sign::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picom_transport::{ConnectionError, FaultReply};

    fn fault(code: Code, started: bool) -> StreamError {
        StreamError::Fault(Arc::new(FaultReply {
            code,
            started,
            do_not_retry: false,
            delay: None,
            text: String::new(),
            name: None,
            details: picom_codec::value::nil(),
        }))
    }

    #[test]
    fn only_what_the_endpoint_is_to_blame_for_speaks_against_it() {
        let lost = StreamError::ConnectionLost {
            error: Arc::new(ConnectionError::PeerClosed),
            sent: true,
        };
        let table = [
            (fault(Code::PANIC, true), Sign::Good),
            (fault(Code::APPLICATION, true), Sign::Good),
            (fault(Code::UNKNOWN_METHOD, false), Sign::Good),
            (fault(Code::REFUSED, false), Sign::Bad),
            (fault(Code::DRAINING, false), Sign::Draining),
            (StreamError::Reset { code: Code::REFUSED }, Sign::Bad),
            (StreamError::Reset { code: Code::DRAINING }, Sign::Draining),
            (StreamError::NotTaken, Sign::Draining),
            (StreamError::Deadline { sent: true }, Sign::Bad),
            (StreamError::Deadline { sent: false }, Sign::None),
            (StreamError::NoSlot, Sign::None),
            (
                StreamError::Cancelled {
                    code: Code::CANCELLED,
                    sent: true,
                },
                Sign::None,
            ),
            (StreamError::TooLarge { size: 2, limit: 1 }, Sign::Good),
            (lost, Sign::Lost),
        ];
        for (error, expected) in table {
            assert_eq!(sign(&error), expected, "{error:?}");
        }
    }
}
