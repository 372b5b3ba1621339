//! A body that ends when the process stops, or its time is over. A stream that its caller keeps open would otherwise
//! delay the stop until its limit, and hold its place for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What a caller streams.
pub(super) struct Until {
    body: Incoming,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    time_is_over: Pin<Box<Sleep>>,
}

impl Until {
    /// Ends a body at `closing`, or after so long.
    pub(super) fn new(body: Incoming, closing: CancellationToken, limit: Duration) -> Until {
        Until { body, closing: Box::pin(closing.cancelled_owned()), time_is_over: Box::pin(sleep(limit)) }
    }
}

impl Body for Until {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        // First: a caller that always has more to ask would never let the others come to their turn.
        if self.closing.as_mut().poll(cx).is_ready() || self.time_is_over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
