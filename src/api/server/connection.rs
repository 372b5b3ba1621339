//! The state of one connection: its peer, the requests under way on it, and whether its peer still reads what it is
//! sent. The accept loop, the socket and the requests share it. Nothing here waits or blocks.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::clock::{Clock, TICK, WriteProgress};
use super::known_host::KnownHost;
use crate::service::quota::{Peer, Permit};

/// How many parts of answers may wait for the peer before nothing more is read from it: one that sends request after
/// request and reads nothing would have the answers pile up.
const MOST_UNSENT: usize = 8;

/// The state of a connection.
#[derive(Debug)]
pub(in crate::api) struct Connection {
    /// The peer that opened it.
    peer: Arc<Peer>,
    clock: Arc<Clock>,
    /// A host that a request on it has named and that the service answers to.
    host: KnownHost,
    /// Its place among the connections; empty when another one has it.
    // std Mutex: held to take it, never across .await
    slot: Mutex<Option<Permit>>,
    /// How many connections of the port have lost their place and are still open.
    leaving: Arc<AtomicUsize>,
    /// How many requests have come so far.
    requests: AtomicU64,
    /// How many of them are under way: not answered, or the answer not written to its end.
    under_way: AtomicUsize,
    /// Since when none is under way, by the clock.
    idle_since: AtomicU64,
    /// What the peer reads of all responses together.
    progress: WriteProgress,
    /// The answers of a connection that carries several at a time: each makes its own progress.
    // std Mutex: held to add one or look at all, never across .await
    answers: Mutex<Vec<Weak<dyn Stallable>>>,
    /// Whether a request was answered whose body had not come to its end.
    has_unread_body: AtomicBool,
    /// How the connection is told to end, as a number of [`CloseRequest`], and since when, by the clock.
    close_request: AtomicU8,
    close_requested_at: AtomicU64,
    /// Wakes what serves the connection.
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

/// A response on its way, which a peer may stop reading.
pub(in crate::api) trait Stallable: std::fmt::Debug + Send + Sync {
    /// Whether it waits, and the peer has read nothing of it for that long.
    fn is_stalled(&self, limit: Duration) -> bool;
}

/// How a connection is told to end; a later variant outweighs an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::api) enum CloseRequest {
    /// It goes on.
    None,
    /// It ends when its requests are answered.
    Graceful,
    /// It ends at once.
    Immediate,
}

impl Connection {
    /// A connection that was opened just now.
    pub(in crate::api) fn new(slot: Permit, clock: &Arc<Clock>, leaving: &Arc<AtomicUsize>) -> Connection {
        let now = clock.now();
        Connection {
            peer: Arc::clone(slot.peer()),
            clock: Arc::clone(clock),
            host: KnownHost::default(),
            slot: Mutex::new(Some(slot)),
            leaving: Arc::clone(leaving),
            requests: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
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

    /// A host that a request on it has named and that was accepted.
    pub(in crate::api) fn host(&self) -> &KnownHost {
        &self.host
    }

    /// Notes that a request has come.
    pub(in crate::api) fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that a request is answered, and its answer written.
    pub(in crate::api) fn end(&self) {
        self.idle_since.store(self.clock.now(), Ordering::Relaxed);
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many requests have come so far.
    pub(in crate::api) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Since when no request is under way; `None` while one is.
    pub(in crate::api) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.under_way.load(Ordering::Acquire) == 0;
        // The clock may be a tick late, and no connection is closed before its time.
        let since = || Duration::from_millis(self.idle_since.load(Ordering::Relaxed)) + TICK;
        is_idle.then(|| self.clock.start + since())
    }

    /// Notes that a part of a response waits for the peer.
    pub(in crate::api) fn waits(&self) {
        self.progress.waits(self.clock.now());
    }

    /// Notes that the peer read a part of a response, or that the part is dropped.
    pub(in crate::api) fn took(&self) {
        if self.progress.took(self.clock.now()) == MOST_UNSENT {
            self.reader.wake();
        }
    }

    /// Watches an answer that is one of several at a time.
    pub(in crate::api) fn watch(&self, answer: Weak<dyn Stallable>) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // Grows to twice what is open, and no further.
        if answers.len() == answers.capacity() {
            answers.retain(|answer| answer.strong_count() > 0);
        }
        answers.push(answer);
    }

    /// The time, by the clock.
    pub(in crate::api) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// The same as an instant: not before the real one unless the clock is starved, and a tick behind it at most.
    pub(in crate::api) fn time(&self) -> Instant {
        self.clock.start + Duration::from_millis(self.clock.now()) + TICK
    }

    /// Completes when the peer may be read from: it has taken most of what it was sent.
    pub(in crate::api) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.progress.unsent() < MOST_UNSENT {
            return Poll::Ready(());
        }
        self.reader.register(cx.waker());
        // It may have been taken just before.
        match self.progress.unsent() < MOST_UNSENT {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Whether a response waits, and the peer has read nothing of it for that long.
    pub(in crate::api) fn is_stalled(&self, limit: Duration) -> bool {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<_> = answers.iter().filter_map(Weak::upgrade).collect();
        drop(answers);
        self.progress.is_stalled(self.clock.now(), limit)
            || open.iter().any(|answer| answer.is_stalled(limit))
    }

    /// Whether the connection was told to end that long ago, and no request is under way on it.
    pub(in crate::api) fn is_overdue(&self, limit: Duration) -> bool {
        let since = self.clock.now().saturating_sub(self.close_requested_at.load(Ordering::Relaxed));
        self.close_request() == CloseRequest::Graceful
            && Duration::from_millis(since) >= limit
            && self.idle_since().is_some()
    }

    /// Notes that a request was answered before its body had come to its end.
    pub(in crate::api) fn leave_body_unread(&self) {
        self.has_unread_body.store(true, Ordering::Relaxed);
    }

    /// Whether the peer may still be sending a body that nothing reads.
    pub(in crate::api) fn has_unread_body(&self) -> bool {
        self.has_unread_body.load(Ordering::Relaxed)
    }

    /// Since when the connection is idle and could give its place away.
    pub(in crate::api) fn spare_since(&self) -> Option<Instant> {
        let has_slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.idle_since().filter(|_| has_slot)
    }

    /// Takes the connection's place away and ends it. A request that came at this very moment is lost with it, as where
    /// an idle connection is closed.
    pub(in crate::api) fn make_room(&self) {
        if self.slot.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            self.leaving.fetch_add(1, Ordering::AcqRel);
            self.close(CloseRequest::Immediate);
        }
    }

    /// Tells the connection to end.
    pub(in crate::api) fn close(&self, how: CloseRequest) {
        self.close_requested_at.store(self.clock.now(), Ordering::Relaxed);
        self.close_request.fetch_max(how as u8, Ordering::AcqRel);
        self.server.wake();
    }

    /// How the connection has been told to end.
    fn close_request(&self) -> CloseRequest {
        match self.close_request.load(Ordering::Acquire) {
            0 => CloseRequest::None,
            1 => CloseRequest::Graceful,
            _ => CloseRequest::Immediate,
        }
    }

    /// Completes when the connection is told to end sooner than `before` says.
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
