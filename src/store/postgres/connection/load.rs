//! The load of a connection to Postgres: the work in flight and the age of the last answer. The pool uses it to choose
//! a connection, and to notice a connection that does not answer any more. All of it is atomic numbers: choosing a
//! connection must not take a lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// After how long without an answer a connection is replaced, if a caller has stopped waiting for one.
const SUSPECT_AFTER: Duration = Duration::from_secs(5);

/// How long other connections are preferred to one whose caller stopped waiting.
const AVOIDED_FOR: Duration = Duration::from_secs(10);

/// After how long without an answer other connections are preferred.
const SLOW_AFTER: Duration = Duration::from_millis(100);

/// The reasons against giving work to a connection, the most serious first; compared field by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Burden {
    /// The connection is down, or being opened.
    pub(super) is_down: bool,
    /// The connection has not answered for a while.
    pub(super) is_slow: bool,
    /// How many pieces of work wait for an answer.
    pub(super) in_flight: usize,
}

/// The load of a connection.
pub(super) struct Load {
    /// How many pieces of work wait for an answer.
    in_flight: AtomicUsize,
    /// When the last answer arrived, or the wait for one began, in milliseconds from `start`.
    answered: AtomicU64,
    /// When a caller stopped waiting for an answer that has not arrived since; 0: none did.
    abandoned: AtomicU64,
    /// Until when the connection is known to be down: it refuses work before that time.
    down_until: AtomicU64,
    start: Instant,
}

impl Load {
    pub(in crate::store::postgres) fn new() -> Load {
        Load {
            in_flight: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            down_until: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The time since the last answer.
    fn since_answer(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.answered.load(Ordering::Relaxed)))
    }

    /// The reasons against giving work to the connection now.
    pub(in crate::store::postgres) fn burden(&self) -> Burden {
        let (now, in_flight) = (self.now(), self.in_flight.load(Ordering::Relaxed));
        let abandoned = self.abandoned.load(Ordering::Relaxed);
        let is_avoided = abandoned > 0 && Duration::from_millis(now.saturating_sub(abandoned)) < AVOIDED_FOR;
        let is_slow = is_avoided || (in_flight > 0 && self.since_answer() > SLOW_AFTER);
        Burden { is_down: self.down_until.load(Ordering::Relaxed) > now, is_slow, in_flight }
    }

    /// Whether the connection may be dead without an error.
    pub(super) fn is_suspect(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) > 0 && self.since_answer() >= SUSPECT_AFTER
    }

    /// Whether it was down at that time or later.
    pub(super) fn was_down_after(&self, time: Instant) -> bool {
        let time = time.saturating_duration_since(self.start);
        u128::from(self.down_until.load(Ordering::Relaxed)) > time.as_millis()
    }

    /// Marks the connection down for so long from now on; for a time of zero: up.
    pub(super) fn set_down_for(&self, time: Duration) {
        let until = if time.is_zero() { 0 } else { self.after(time) };
        self.down_until.store(until, Ordering::Relaxed);
    }

    /// Marks the connection down for so long, or for longer where it was marked so before.
    pub(super) fn set_down_at_least_for(&self, time: Duration) {
        self.down_until.fetch_max(self.after(time), Ordering::Relaxed);
    }

    /// The time after so long, rounded up: the mark must not end before the connection may be tried again.
    fn after(&self, time: Duration) -> u64 {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.now().saturating_add(time).saturating_add(1)
    }

    /// Counts a piece of work until the returned guard is dropped.
    pub(in crate::store::postgres) fn begin(&self) -> InFlight<'_> {
        let is_first = self.in_flight.fetch_add(1, Ordering::Relaxed) == 0;
        if is_first && self.abandoned.load(Ordering::Relaxed) == 0 {
            self.answered.store(self.now(), Ordering::Relaxed);
        }
        InFlight { load: self, since: Instant::now() }
    }

    /// Takes note of an answer; an error is one, too.
    pub(in crate::store::postgres) fn answered(&self) {
        self.answered.store(self.now(), Ordering::Relaxed);
        self.abandoned.store(0, Ordering::Relaxed);
    }
}

/// A piece of work that waits for its answer.
pub(super) struct InFlight<'a> {
    load: &'a Load,
    since: Instant,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.load.in_flight.fetch_sub(1, Ordering::Relaxed);
        // Without any answer since this work began, its caller stopped waiting. Both times are in milliseconds.
        let waited = self.since.elapsed();
        if waited > SLOW_AFTER && self.load.since_answer() + Duration::from_millis(2) > waited {
            self.load.abandoned.store(self.load.now().max(1), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const WAIT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_caller_stopped_waiting_is_avoided_and_then_suspect_until_it_answers() {
        let load = Load::new();
        for _ in 0..2 {
            let work = load.begin();
            advance(WAIT).await;
            assert!(load.burden().is_slow && load.burden().in_flight == 1);
            drop(work);
            assert!(load.burden().is_slow && load.burden().in_flight == 0);
            assert!(!load.is_suspect());
        }
        advance(WAIT).await;
        assert!(load.is_suspect());
        advance(AVOIDED_FOR).await;
        assert!(!load.burden().is_slow && load.is_suspect(), "it gets work again, and is replaced");
        load.answered();
        assert!(!load.is_suspect());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_answers_other_work_or_had_no_waiting_caller_is_not_avoided() {
        let load = Load::new();
        let slow = load.begin();
        advance(WAIT).await;
        load.answered();
        drop(slow);
        assert!(!load.burden().is_slow, "another one was answered meanwhile");
        drop(load.begin());
        advance(SUSPECT_AFTER).await;
        assert!(!load.burden().is_slow && !load.is_suspect());
    }
}
