//! The state of one connection: its peer, its requests in flight, and whether its peer still reads the responses. The
//! accept loop, the socket and the requests share it. Nothing here waits or blocks: the counters are atomic, and the
//! two mutexes are held briefly, never across `.await`. A connection holds its slot until it is evicted or dropped; an
//! evicted one counts as leaving until it is dropped, because its descriptor is open until then. A request to close can
//! only become stricter. Times are those of the port's clock, a tick late at most.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::clock::{Clock, TICK, WriteProgress};
use super::known_host::KnownHost;
use crate::service::quota::{Peer, Permit};

/// How many parts of responses may wait for the peer before nothing more is read from it. Without the limit, responses
/// would pile up for a peer that sends requests and reads nothing.
const MOST_UNSENT: usize = 8;

/// The state of a connection.
#[derive(Debug)]
pub(in crate::api) struct Connection {
    /// The peer that opened it.
    peer: Arc<Peer>,
    clock: Arc<Clock>,
    /// The host that a request on it has named and that was accepted.
    host: KnownHost,
    /// Its slot among the connections; empty when it is evicted.
    // std Mutex: held to take it, never across .await
    slot: Mutex<Option<Permit>>,
    /// The evicted connections of the port that are still open.
    leaving: Arc<AtomicUsize>,
    /// The requests that have arrived so far.
    requests: AtomicU64,
    /// The requests in flight: not answered, or the response not completely written.
    in_flight: AtomicUsize,
    /// The time since when no request is in flight, by the clock.
    idle_since: AtomicU64,
    /// The progress of the peer's reads of all responses together.
    progress: WriteProgress,
    /// The responses of a connection that carries several at a time: each has its own progress.
    // std Mutex: held to add one or check all, never across .await
    answers: Mutex<Vec<Weak<dyn Stallable>>>,
    /// Whether a request was answered whose body was not read to its end.
    has_unread_body: AtomicBool,
    /// How the connection is asked to end, as a number of [`CloseRequest`], and since when, by the clock.
    close_request: AtomicU8,
    close_requested_at: AtomicU64,
    /// Wakes the task that serves the connection.
    server: AtomicWaker,
    /// Wakes the task that reads from it.
    reader: AtomicWaker,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.slot.get_mut().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.leaving.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// A response that a peer may stop reading.
pub(in crate::api) trait Stallable: std::fmt::Debug + Send + Sync {
    /// Whether it waits, and the peer has read nothing of it for `limit`.
    fn is_stalled(&self, limit: Duration) -> bool;
}

/// How a connection is asked to end; a later variant overrides an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::api) enum CloseRequest {
    /// It continues.
    None,
    /// It ends when its requests are answered.
    Graceful,
    /// It ends at once.
    Immediate,
}

impl Connection {
    /// A new connection.
    pub(in crate::api) fn new(slot: Permit, clock: &Arc<Clock>, leaving: &Arc<AtomicUsize>) -> Connection {
        let now = clock.now();
        Connection {
            peer: Arc::clone(slot.peer()),
            clock: Arc::clone(clock),
            host: KnownHost::default(),
            slot: Mutex::new(Some(slot)),
            leaving: Arc::clone(leaving),
            requests: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            idle_since: AtomicU64::new(now),
            progress: WriteProgress::default(),
            answers: Mutex::default(),
            has_unread_body: AtomicBool::new(false),
            close_request: AtomicU8::new(CloseRequest::None as u8),
            close_requested_at: AtomicU64::new(0),
            server: AtomicWaker::new(),
            reader: AtomicWaker::new(),
        }
    }

    /// The peer that opened it: behind a proxy, the proxy.
    pub(in crate::api) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// The host that a request on it has named and that was accepted.
    pub(in crate::api) fn host(&self) -> &KnownHost {
        &self.host
    }

    /// Records the arrival of a request.
    pub(in crate::api) fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    /// Records that a request is answered and its response written.
    pub(in crate::api) fn end(&self) {
        self.idle_since.store(self.clock.now(), Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    /// The number of requests that have arrived so far.
    pub(in crate::api) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The time since when no request is in flight; `None` while one is.
    pub(in crate::api) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.in_flight.load(Ordering::Acquire) == 0;
        // The clock may be a tick late, and no connection may be closed too early.
        let since = || Duration::from_millis(self.idle_since.load(Ordering::Relaxed)) + TICK;
        is_idle.then(|| self.clock.start + since())
    }

    /// Records that a part of a response waits for the peer.
    pub(in crate::api) fn waits(&self) {
        self.progress.waits(self.clock.now());
    }

    /// Records that the peer has read a part of a response, or that the part is dropped.
    pub(in crate::api) fn took(&self) {
        if self.progress.took(self.clock.now()) == MOST_UNSENT {
            self.reader.wake();
        }
    }

    /// Watches the progress of a response on a connection that carries several at a time.
    pub(in crate::api) fn watch(&self, answer: Weak<dyn Stallable>) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // The list grows to at most twice the number of open responses.
        if answers.len() == answers.capacity() {
            answers.retain(|answer| answer.strong_count() > 0);
        }
        answers.push(answer);
    }

    /// The time, by the clock.
    pub(in crate::api) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// The time as an instant: at most a tick after the real time, and not before it unless the clock's task is
    /// starved.
    pub(in crate::api) fn time(&self) -> Instant {
        self.clock.start + Duration::from_millis(self.clock.now()) + TICK
    }

    /// Completes when the peer has read most of its responses, so that more may be read from it.
    pub(in crate::api) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.progress.unsent() < MOST_UNSENT {
            return Poll::Ready(());
        }
        self.reader.register(cx.waker());
        // The peer may have read a part before the waker was registered.
        match self.progress.unsent() < MOST_UNSENT {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Whether a response waits, and the peer has read nothing of it for `limit`.
    pub(in crate::api) fn is_stalled(&self, limit: Duration) -> bool {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<_> = answers.iter().filter_map(Weak::upgrade).collect();
        drop(answers);
        self.progress.is_stalled(self.clock.now(), limit)
            || open.iter().any(|answer| answer.is_stalled(limit))
    }

    /// Whether the connection was asked to end at least `limit` ago, and no request is in flight on it.
    pub(in crate::api) fn is_overdue(&self, limit: Duration) -> bool {
        let since = self.clock.now().saturating_sub(self.close_requested_at.load(Ordering::Relaxed));
        self.close_request() == CloseRequest::Graceful
            && Duration::from_millis(since) >= limit
            && self.idle_since().is_some()
    }

    /// Records that a request was answered before its body was read to its end.
    pub(in crate::api) fn leave_body_unread(&self) {
        self.has_unread_body.store(true, Ordering::Relaxed);
    }

    /// Whether the peer may still be sending a body that nothing reads.
    pub(in crate::api) fn has_unread_body(&self) -> bool {
        self.has_unread_body.load(Ordering::Relaxed)
    }

    /// The time since when the connection is idle, unless it is evicted already.
    pub(in crate::api) fn spare_since(&self) -> Option<Instant> {
        let has_slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.idle_since().filter(|_| has_slot)
    }

    /// Evicts the connection: takes its slot and closes it. A request that arrives at this moment is lost, as on any
    /// idle connection that closes.
    pub(in crate::api) fn make_room(&self) {
        if self.slot.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            self.leaving.fetch_add(1, Ordering::AcqRel);
            self.close(CloseRequest::Immediate);
        }
    }

    /// Asks the connection to end.
    pub(in crate::api) fn close(&self, how: CloseRequest) {
        self.close_requested_at.store(self.clock.now(), Ordering::Relaxed);
        self.close_request.fetch_max(how as u8, Ordering::AcqRel);
        self.server.wake();
    }

    /// How the connection is asked to end.
    fn close_request(&self) -> CloseRequest {
        match self.close_request.load(Ordering::Acquire) {
            0 => CloseRequest::None,
            1 => CloseRequest::Graceful,
            _ => CloseRequest::Immediate,
        }
    }

    /// Completes when the connection is asked to end in a way that overrides `before`.
    pub(in crate::api) fn poll_close(
        &self,
        cx: &mut Context<'_>,
        before: CloseRequest,
    ) -> Poll<CloseRequest> {
        self.server.register(cx.waker());
        match self.close_request() {
            request if request > before => Poll::Ready(request),
            _ => Poll::Pending,
        }
    }
}
