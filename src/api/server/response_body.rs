//! The body of a response, which the connection gets in parts. Each part keeps the exchange alive until it is written
//! to the socket, so memory is freed when the bytes are gone, and never when a handler returns. A part has 16 KiB at
//! most, so that a slow peer differs from one that reads nothing. Each part that waits is also recorded as read or
//! dropped, once, so that the counts of the connection come back to zero. Parts share the bytes of the body and copy
//! none.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::exchange::Exchange;

/// The largest part, in bytes. Progress counts by the part, so that a slow peer differs from one that reads nothing.
const PART: usize = 16 << 10;

/// The body.
#[derive(Debug)]
pub(in crate::api) struct ResponseBody<B> {
    body: B,
    /// The rest of the last frame of the body.
    rest: Bytes,
    exchange: Arc<Exchange>,
    /// Whether there may be more that the connection has not polled for yet.
    is_due: bool,
}

impl<B: Body> ResponseBody<B> {
    /// The body of the response of that exchange.
    pub(in crate::api) fn new(body: B, exchange: Arc<Exchange>) -> ResponseBody<B> {
        let is_due = !body.is_end_stream();
        if is_due {
            exchange.waits();
        }
        ResponseBody { body, rest: Bytes::new(), exchange, is_due }
    }
}

impl<B> ResponseBody<B> {
    /// The next part of the frame.
    fn part(&mut self) -> Frame<Bytes> {
        let part = self.rest.split_to(self.rest.len().min(PART));
        self.exchange.waits();
        Frame::data(Bytes::from_owner(Part { bytes: part, exchange: Arc::clone(&self.exchange) }))
    }

    fn set_due(&mut self, is_due: bool) {
        match (std::mem::replace(&mut self.is_due, is_due), is_due) {
            (false, true) => self.exchange.waits(),
            (true, false) => self.exchange.took(),
            _ => {}
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        // The connection polls for more, so the peer does not cause a pause from here on.
        self.set_due(false);
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
            }
        }
        let part = self.part();
        let is_due = !self.is_end_stream();
        self.set_due(is_due);
        Poll::Ready(Some(Ok(part)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        // The upper bound is set first: it must not be below the lower one.
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole.set_lower(hint.lower() + rest);
        whole
    }
}

impl<B> Drop for ResponseBody<B> {
    fn drop(&mut self) {
        self.set_due(false);
    }
}

/// A part of a response that is not written to the socket yet.
struct Part {
    bytes: Bytes,
    exchange: Arc<Exchange>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.exchange.took();
    }
}
