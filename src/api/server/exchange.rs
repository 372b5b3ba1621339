//! A request and its answer, for as long as either takes up memory. The permit of the memory lives here, and every part
//! of the answer that waits for its peer keeps the exchange alive: memory is given back when the bytes have been
//! written to the socket, or the connection is gone, and not when a handler returns.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::HeaderValue;
use tokio::time::timeout;

use crate::api::server::connection::{Answering, Connection, Progress};
use crate::error::Error;
use crate::service::quota::{Peer, Permit, Resource};

/// The largest part of an answer that is handed on at once. The peer makes progress by the part, so that a slow peer
/// is told from one that takes nothing.
const PART: usize = 16 << 10;

/// The largest body of a refused request that is read past.
const SMALL_BODY: u64 = 64 << 10;

/// How long that may take.
const SKIP_TIMEOUT: Duration = Duration::from_secs(1);

/// What a request and its answer hold.
#[derive(Debug)]
pub(in crate::api) struct Exchange {
    connection: Arc<Connection>,
    memory: Option<Permit>,
    /// Of gRPC, its place among the calls that are there, and among those of its kind.
    _open: Option<Permit>,
    _call: Option<Permit>,
    progress: Progress,
}

impl Exchange {
    /// Begins an exchange on a connection.
    pub(in crate::api) fn begin(connection: &Arc<Connection>) -> Exchange {
        connection.begin();
        let (connection, progress) = (Arc::clone(connection), Progress::default());
        Exchange { connection, memory: None, _open: None, _call: None, progress }
    }

    /// The connection that it takes place on.
    pub(in crate::api) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Notes that a part of the answer waits for the peer.
    fn waits(&self) {
        self.progress.waits(self.connection.now());
        self.connection.waits();
    }

    /// Notes that the peer took a part of the answer, or that the part is given up.
    fn took(&self) {
        self.progress.took(self.connection.now());
        self.connection.took();
    }

    /// Holds memory to the end; `None` where it is not counted.
    pub(in crate::api) fn hold(&mut self, memory: Option<Permit>) {
        self.memory = memory;
    }

    /// Holds a place among the calls that are there to the end.
    pub(in crate::api) fn hold_open(&mut self, open: Permit) {
        self._open = Some(open);
    }

    /// Holds a place among the calls to the end.
    pub(in crate::api) fn hold_call(&mut self, call: Permit) {
        self._call = Some(call);
    }

    /// Holds memory that was taken for the answer before, where memory is counted.
    pub(in crate::api) fn hold_answer(&mut self, Counted(answer): Counted) {
        if let (Some(memory), Some(answer)) = (&mut self.memory, Arc::into_inner(answer)) {
            memory.merge(answer);
        }
    }

    /// Holds so much more, where memory is counted.
    ///
    /// # Errors
    /// `overloaded` where there is not enough.
    pub(in crate::api) fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        match &mut self.memory {
            Some(memory) if bytes > 0 => memory.grow(bytes),
            _ => Ok(()),
        }
    }
}

impl Answering for Exchange {
    fn is_stalled(&self, limit: Duration) -> bool {
        self.progress.is_stalled(self.connection.now(), limit)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.connection.end();
    }
}

/// The one that a request comes from, among its extensions: what it makes the process hold is taken from its share.
#[derive(Debug, Clone)]
pub(in crate::api) struct Caller {
    pub(in crate::api) peer: Arc<Peer>,
    /// The id of the request.
    pub(in crate::api) request_id: HeaderValue,
}

impl Caller {
    /// Takes memory from the caller's share.
    ///
    /// # Errors
    /// `overloaded` where there is not enough.
    pub(in crate::api) fn take(&self, bytes: usize) -> Result<Permit, Error> {
        self.peer.take(Resource::Memory, bytes)
    }
}

/// Among the extensions of an answer: its memory, taken before it was made. The answer to a write that was carried out
/// must not turn into a refusal because there is no memory for it.
#[derive(Debug, Clone)]
pub(in crate::api) struct Counted(Arc<Permit>);

impl Counted {
    pub(in crate::api) fn new(memory: Permit) -> Counted {
        Counted(Arc::new(memory))
    }
}

/// Among the extensions of an answer: what it holds is bounded in another way.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Uncounted;

/// The body of a request. One that is let go before its end is noted, because then the peer is still sending.
#[derive(Debug)]
pub(in crate::api) struct Upload {
    body: Incoming,
    connection: Arc<Connection>,
    has_ended: bool,
}

impl Upload {
    pub(in crate::api) fn new(body: Incoming, connection: &Arc<Connection>) -> Upload {
        let has_ended = body.is_end_stream();
        Upload { body, connection: Arc::clone(connection), has_ended }
    }

    /// Reads past a small body, so that the connection can be used again: under load, a new one would cost more.
    pub(in crate::api) async fn skip_small(mut self) {
        if self.body.size_hint().exact().is_some_and(|size| size <= SMALL_BODY) {
            let skip = async { while let Some(Ok(_)) = self.frame().await {} };
            // Where it does not come in time, the connection is closed.
            let _ = timeout(SKIP_TIMEOUT, skip).await;
        }
    }
}

impl Body for Upload {
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

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.has_ended {
            self.connection.leave_body_unread();
        }
    }
}

/// The body of an answer, handed on in parts that are accounted for until they are written.
#[derive(Debug)]
pub(in crate::api) struct Answer<B> {
    body: B,
    /// What is left of the part that the body gave last.
    rest: Bytes,
    exchange: Arc<Exchange>,
    /// Whether there may be more, and the connection has not asked for it yet.
    is_due: bool,
}

impl<B: Body> Answer<B> {
    pub(in crate::api) fn new(body: B, exchange: Arc<Exchange>) -> Answer<B> {
        let is_due = !body.is_end_stream();
        if is_due {
            exchange.waits();
        }
        Answer { body, rest: Bytes::new(), exchange, is_due }
    }
}

impl<B> Answer<B> {
    /// The next part of what the body gave.
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

impl<B: Body<Data = Bytes> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        // Asked for: if nothing comes now, that is not the peer's doing.
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
        // The upper bound first: it may not lie below the lower one.
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole.set_lower(hint.lower() + rest);
        whole
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.set_due(false);
    }
}

/// A part of an answer on its way to the socket.
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
