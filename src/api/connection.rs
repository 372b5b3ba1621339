//! What the service knows of one connection: whose it is, what is under way on it, and whether its peer still takes
//! what it is sent. The accept loop, the socket and the requests share it. Nothing here waits or blocks.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::service::quota::{Peer, Permit};

/// The state of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Who opened it.
    peer: Arc<Peer>,
    opened: Instant,
    /// Its place among the connections; empty when another one has it.
    // std Mutex: held to take it, never across .await
    slot: Mutex<Option<Permit>>,
    /// How many requests have come so far.
    requests: AtomicU64,
    /// How many of them are under way: not answered, or the answer not written to its end.
    under_way: AtomicUsize,
    /// Since when none is under way, in milliseconds since the connection was opened.
    idle_since: AtomicU64,
    /// How many parts of answers wait for the peer to take them.
    unsent: AtomicUsize,
    /// When the peer took something last, in milliseconds since the connection was opened.
    progress_at: AtomicU64,
    /// Whether a request was answered whose body had not come to its end.
    has_unread_body: AtomicBool,
    /// What the connection is asked for, as a number of [`Asked`].
    asked: AtomicU8,
    signal: Notify,
}

/// What may be asked of a connection, the later outweighs the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Asked {
    Nothing,
    /// To end when what is under way is done.
    Finish,
    /// The same, soon: another connection needs the place.
    MakeRoom,
    /// To end at once.
    Cut,
}

impl Connection {
    /// A connection that was opened just now.
    pub(super) fn new(slot: Permit) -> Connection {
        Connection {
            peer: Arc::clone(slot.peer()),
            opened: Instant::now(),
            slot: Mutex::new(Some(slot)),
            requests: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            unsent: AtomicUsize::new(0),
            progress_at: AtomicU64::new(0),
            has_unread_body: AtomicBool::new(false),
            asked: AtomicU8::new(Asked::Nothing as u8),
            signal: Notify::new(),
        }
    }

    /// Who opened it: behind a proxy, the proxy.
    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Notes that a request has come.
    pub(super) fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that a request is answered, and its answer written.
    pub(super) fn end(&self) {
        self.idle_since.store(self.now(), Ordering::Relaxed);
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many requests have come so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Since when no request is under way; `None` while one is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.under_way.load(Ordering::Acquire) == 0;
        is_idle.then(|| self.opened + Duration::from_millis(self.idle_since.load(Ordering::Relaxed)))
    }

    /// Notes that a part of an answer waits for the peer.
    pub(super) fn waits(&self) {
        if self.unsent.fetch_add(1, Ordering::AcqRel) == 0 {
            self.progress_at.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Notes that the peer took a part of an answer, or that the part is given up.
    pub(super) fn took(&self) {
        self.progress_at.store(self.now(), Ordering::Relaxed);
        self.unsent.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether an answer waits, and the peer has taken nothing for so long.
    pub(super) fn is_stalled(&self, limit: Duration) -> bool {
        let last = Duration::from_millis(self.progress_at.load(Ordering::Relaxed));
        self.unsent.load(Ordering::Acquire) > 0 && self.opened.elapsed().saturating_sub(last) >= limit
    }

    /// Notes that a request was answered before its body had come to its end.
    pub(super) fn leave_body_unread(&self) {
        self.has_unread_body.store(true, Ordering::Relaxed);
    }

    /// Whether the peer may still be sending a body that no one reads.
    pub(super) fn has_unread_body(&self) -> bool {
        self.has_unread_body.load(Ordering::Relaxed)
    }

    /// Since when the connection is idle and could give its place away.
    pub(super) fn spare_since(&self) -> Option<Instant> {
        let has_slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.idle_since().filter(|_| has_slot)
    }

    /// Takes the connection's place away and asks it to end.
    pub(super) fn make_room(&self) {
        drop(self.slot.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.ask(Asked::MakeRoom);
    }

    /// Asks something of the connection.
    pub(super) fn ask(&self, what: Asked) {
        self.asked.fetch_max(what as u8, Ordering::AcqRel);
        self.signal.notify_one();
    }

    /// What has been asked of it.
    pub(super) fn asked(&self) -> Asked {
        match self.asked.load(Ordering::Acquire) {
            0 => Asked::Nothing,
            1 => Asked::Finish,
            2 => Asked::MakeRoom,
            _ => Asked::Cut,
        }
    }

    /// Completes when something has been asked since the last time.
    pub(super) async fn is_asked(&self) {
        self.signal.notified().await;
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
