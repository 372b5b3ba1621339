//! What the service knows of one connection: whose it is, what is under way on it, and whether its peer still takes
//! what it is sent. The accept loop, the socket and the requests share it. Nothing here waits or blocks.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::api::http::hosts::KnownHost;
use crate::service::quota::{Peer, Permit};

/// How exact the times of connections are.
const TICK: Duration = Duration::from_millis(50);

/// How many parts of answers may wait for the peer before nothing more is read from it: one that sends request after
/// request and reads nothing would have the answers pile up.
const MOST_UNSENT: usize = 8;

/// A clock that costs nothing to look at: the times of connections are noted several times a request.
#[derive(Debug)]
pub(in crate::api) struct Clock {
    start: Instant,
    /// Milliseconds since the start, at the last tick.
    now: AtomicU64,
}

impl Clock {
    pub(in crate::api) fn new() -> Arc<Clock> {
        Arc::new(Clock { start: Instant::now(), now: AtomicU64::new(0) })
    }

    /// Keeps the clock going, for ever.
    pub(in crate::api) async fn run(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.now.store(now, Ordering::Relaxed);
        }
    }

    /// Milliseconds since the start; a tick late at most.
    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
}

/// The state of a connection.
#[derive(Debug)]
pub(in crate::api) struct Connection {
    /// Who opened it.
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
    /// What the peer takes of all answers together.
    progress: Progress,
    /// The answers of a connection that carries several at a time: each makes its own progress.
    // std Mutex: held to add one or look at all, never across .await
    answers: Mutex<Vec<Weak<dyn Answering>>>,
    /// Whether a request was answered whose body had not come to its end.
    has_unread_body: AtomicBool,
    /// What the connection is asked for, as a number of [`Asked`], and since when, by the clock.
    asked: AtomicU8,
    asked_at: AtomicU64,
    /// Wakes what serves the connection.
    server: AtomicWaker,
    /// Wakes the one who reads from it.
    reader: AtomicWaker,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.slot.get_mut().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.leaving.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// What a peer takes of what it is sent.
#[derive(Debug, Default)]
pub(in crate::api) struct Progress {
    /// How many parts wait for the peer to take them.
    unsent: AtomicUsize,
    /// When the peer took something last, by the clock.
    at: AtomicU64,
}

impl Progress {
    /// Notes that a part waits for the peer.
    pub(in crate::api) fn waits(&self, now: u64) {
        if self.unsent.fetch_add(1, Ordering::AcqRel) == 0 {
            self.at.store(now, Ordering::Relaxed);
        }
    }

    /// Notes that the peer took a part, or that it is given up. Answers how many waited.
    pub(in crate::api) fn took(&self, now: u64) -> usize {
        self.at.store(now, Ordering::Relaxed);
        self.unsent.fetch_sub(1, Ordering::AcqRel)
    }

    /// How many parts wait.
    fn unsent(&self) -> usize {
        self.unsent.load(Ordering::Acquire)
    }

    /// Whether a part waits, and the peer has taken nothing for so long.
    pub(in crate::api) fn is_stalled(&self, now: u64, limit: Duration) -> bool {
        let since = now.saturating_sub(self.at.load(Ordering::Relaxed));
        self.unsent() > 0 && Duration::from_millis(since) >= limit
    }
}

/// An answer on its way.
pub(in crate::api) trait Answering: std::fmt::Debug + Send + Sync {
    /// Whether it waits, and the peer has taken nothing of it for so long.
    fn is_stalled(&self, limit: Duration) -> bool;
}

/// What may be asked of a connection; the later outweighs the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::api) enum Asked {
    Nothing,
    /// To end when what is under way is done.
    Finish,
    /// To end at once.
    Cut,
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
            progress: Progress::default(),
            answers: Mutex::default(),
            has_unread_body: AtomicBool::new(false),
            asked: AtomicU8::new(Asked::Nothing as u8),
            asked_at: AtomicU64::new(0),
            server: AtomicWaker::new(),
            reader: AtomicWaker::new(),
        }
    }

    /// Who opened it: behind a proxy, the proxy.
    pub(in crate::api) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// A host that a request on it has named before, for the one who checks that.
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

    /// Notes that a part of an answer waits for the peer.
    pub(in crate::api) fn waits(&self) {
        self.progress.waits(self.clock.now());
    }

    /// Notes that the peer took a part of an answer, or that the part is given up.
    pub(in crate::api) fn took(&self) {
        if self.progress.took(self.clock.now()) == MOST_UNSENT {
            self.reader.wake();
        }
    }

    /// Watches an answer that is one of several at a time.
    pub(in crate::api) fn watch(&self, answer: Weak<dyn Answering>) {
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

    /// Whether an answer waits, and the peer has taken nothing of it for so long.
    pub(in crate::api) fn is_stalled(&self, limit: Duration) -> bool {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let open: Vec<_> = answers.iter().filter_map(Weak::upgrade).collect();
        drop(answers);
        self.progress.is_stalled(self.clock.now(), limit)
            || open.iter().any(|answer| answer.is_stalled(limit))
    }

    /// Whether the connection has been asked to end for so long, and nothing is under way on it.
    pub(in crate::api) fn is_overdue(&self, limit: Duration) -> bool {
        let since = self.clock.now().saturating_sub(self.asked_at.load(Ordering::Relaxed));
        self.asked() == Asked::Finish && Duration::from_millis(since) >= limit && self.idle_since().is_some()
    }

    /// Notes that a request was answered before its body had come to its end.
    pub(in crate::api) fn leave_body_unread(&self) {
        self.has_unread_body.store(true, Ordering::Relaxed);
    }

    /// Whether the peer may still be sending a body that no one reads.
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
            self.ask(Asked::Cut);
        }
    }

    /// Asks something of the connection.
    pub(in crate::api) fn ask(&self, what: Asked) {
        self.asked_at.store(self.clock.now(), Ordering::Relaxed);
        self.asked.fetch_max(what as u8, Ordering::AcqRel);
        self.server.wake();
    }

    /// What has been asked of it.
    fn asked(&self) -> Asked {
        match self.asked.load(Ordering::Acquire) {
            0 => Asked::Nothing,
            1 => Asked::Finish,
            _ => Asked::Cut,
        }
    }

    /// Completes when more is asked of it than before.
    pub(in crate::api) fn poll_asked(&self, cx: &mut Context<'_>, before: Asked) -> Poll<Asked> {
        self.server.register(cx.waker());
        match self.asked() {
            asked if asked > before => Poll::Ready(asked),
            _ => Poll::Pending,
        }
    }
}
