//! A body that ends when the process stops, or after a timeout. A stream that its caller keeps open would otherwise
//! delay the stop until its timeout, and hold its permit without end. The method reads a normal end of the stream, not
//! an error. The end is checked before each frame, so that it also ends a stream whose caller always sends more.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The body that a caller streams.
pub(super) struct Until {
    body: Incoming,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    time_is_over: Pin<Box<Sleep>>,
}

impl Until {
    /// Ends a body once `closing` is cancelled, or after `limit`.
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
        // The end is checked first: a caller that always sends more would otherwise never reach it.
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
