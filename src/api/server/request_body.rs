//! The body of an HTTP request. A body that is dropped before its end is recorded at its connection: the peer is still
//! sending then, and the next request cannot be separated from the rest of this one, so the connection closes after the
//! response. Of a rejected request, a body with an announced length of at most 64 KiB is read and dropped first, for
//! one second at most. The bytes are passed on as they arrive; nothing is collected here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

use super::connection::Connection;

/// The largest body, in bytes, of a rejected request that is read and dropped.
const SMALL_BODY: u64 = 64 << 10;

/// The timeout for such a body.
const SKIP_TIMEOUT: Duration = Duration::from_secs(1);

/// The body.
#[derive(Debug)]
pub(in crate::api) struct RequestBody {
    body: Incoming,
    connection: Arc<Connection>,
    has_ended: bool,
}

impl RequestBody {
    /// The body of a request on that connection.
    pub(in crate::api) fn new(body: Incoming, connection: &Arc<Connection>) -> RequestBody {
        let has_ended = body.is_end_stream();
        RequestBody { body, connection: Arc::clone(connection), has_ended }
    }

    /// Reads and drops a small body, so that the connection can be used again: under load, a new one would cost more.
    pub(in crate::api) async fn skip_small(mut self) {
        if self.body.size_hint().exact().is_some_and(|size| size <= SMALL_BODY) {
            let skip = async { while let Some(Ok(_)) = self.frame().await {} };
            // Where it does not arrive in time, the connection is closed.
            let _ = timeout(SKIP_TIMEOUT, skip).await;
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.has_ended = self.body.is_end_stream() || !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.has_ended {
            self.connection.leave_body_unread();
        }
    }
}
