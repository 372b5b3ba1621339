//! The clock of the connections, and the progress of a peer's reads by it. A connection records the time several times
//! a request, so the clock is a number that a task advances, and not a system call. It may be a tick (50 ms) late,
//! never early; a limit that must not end too early adds a tick. It relies on `serve`, which runs the task until the
//! last connection has ended. To read or record a time neither locks nor waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// The precision of the connections' times.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// The clock.
#[derive(Debug)]
pub(in crate::api) struct Clock {
    pub(super) start: Instant,
    /// Milliseconds since the start, at the last tick.
    now: AtomicU64,
}

impl Clock {
    /// A clock that does not advance until [`Clock::run`] runs.
    pub(in crate::api) fn new() -> Arc<Clock> {
        Arc::new(Clock { start: Instant::now(), now: AtomicU64::new(0) })
    }

    /// Advances the clock. Does not end.
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
    pub(super) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
}

/// The progress of a peer's reads of a response.
#[derive(Debug, Default)]
pub(in crate::api) struct WriteProgress {
    /// The parts that wait for the peer to read them.
    unsent: AtomicUsize,
    /// When the peer last read something, by the clock.
    at: AtomicU64,
}

impl WriteProgress {
    /// Records that a part waits for the peer.
    pub(in crate::api) fn waits(&self, now: u64) {
        if self.unsent.fetch_add(1, Ordering::AcqRel) == 0 {
            self.at.store(now, Ordering::Relaxed);
        }
    }

    /// Records that the peer has read a part, or that the part is dropped. Returns how many waited.
    pub(in crate::api) fn took(&self, now: u64) -> usize {
        self.at.store(now, Ordering::Relaxed);
        self.unsent.fetch_sub(1, Ordering::AcqRel)
    }

    /// How many parts wait.
    pub(super) fn unsent(&self) -> usize {
        self.unsent.load(Ordering::Acquire)
    }

    /// Whether a part waits, and the peer has read nothing for `limit`.
    pub(in crate::api) fn is_stalled(&self, now: u64, limit: Duration) -> bool {
        let since = now.saturating_sub(self.at.load(Ordering::Relaxed));
        self.unsent() > 0 && Duration::from_millis(since) >= limit
    }
}
