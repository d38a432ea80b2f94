//! The body of an answer on its way out: whole, or cut short on purpose.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

/// The connection ends here, without or in the middle of an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
pub(crate) struct Cut;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Answer {
    whole: Full<Bytes>,
    /// What is announced, when less is sent.
    announced: Option<u64>,
}

impl Answer {
    /// The body, ended after so many bytes if that is said and it is longer.
    pub(crate) fn new(mut body: Full<Bytes>, truncate: Option<usize>) -> Answer {
        let length = body.size_hint().exact().unwrap_or_default();
        let after = truncate.filter(|after| u64::try_from(*after).is_ok_and(|after| after < length));
        let Some(after) = after else {
            return Answer {
                whole: body,
                announced: None,
            };
        };
        let bytes = match Pin::new(&mut body).poll_frame(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            _ => Bytes::new(),
        };
        Answer {
            whole: Full::new(bytes.slice(..after.min(bytes.len()))),
            announced: Some(length),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let cut = self.announced.is_some();
        match Pin::new(&mut self.whole).poll_frame(cx) {
            Poll::Ready(None) if cut => Poll::Ready(Some(Err(Cut))),
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(never))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.announced.is_none() && self.whole.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.announced
            .map_or_else(|| self.whole.size_hint(), SizeHint::with_exact)
    }
}

fn never(error: Infallible) -> Cut {
    match error {}
}
