//! A body that comes to its end when the process stops. A stream that its caller keeps open would otherwise hold the
//! stop up until its limit.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What a caller streams, and what it holds meanwhile.
pub(super) struct Until {
    body: Incoming,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: OwnedSemaphorePermit,
}

impl Until {
    /// Ends a body at `closing`. The permit is given back with it.
    pub(super) fn new(body: Incoming, closing: CancellationToken, permit: OwnedSemaphorePermit) -> Until {
        Until { body, closing: Box::pin(closing.cancelled_owned()), _permit: permit }
    }
}

impl Body for Until {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let ready @ Poll::Ready(_) = Pin::new(&mut self.body).poll_frame(cx) {
            return ready;
        }
        self.closing.as_mut().poll(cx).map(|()| None)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
