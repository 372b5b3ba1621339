//! What a connection to Postgres has to do, and how it gets on with it: by that, work is given to one or another, and a
//! connection is noticed that answers no more.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// After how long without an answer a connection is not used again, where a caller has stopped waiting for one.
const SUSPECT: Duration = Duration::from_secs(5);

/// For how long a connection is passed over that a caller waited for in vain, as long as others answer.
const AVOIDED: Duration = Duration::from_secs(10);

/// After how long without an answer other connections are preferred.
const SLOW: Duration = Duration::from_millis(100);

/// What is to be said against giving work to a connection, the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Burden {
    /// It is down, or being opened.
    pub(super) is_down: bool,
    /// It has owed an answer for a while.
    pub(super) is_slow: bool,
    /// How many answers it owes.
    pub(super) under_way: usize,
}

/// What a connection has to do.
pub(super) struct Load {
    /// How many pieces of work wait for an answer.
    under_way: AtomicUsize,
    /// When the last answer came, or the wait for one began, in milliseconds from `start`.
    answered: AtomicU64,
    /// When a caller stopped waiting for an answer that has not come since and may never come; 0: none did.
    abandoned: AtomicU64,
    /// Until when the connection is known to be down: what is given to it before is refused at once.
    down_until: AtomicU64,
    start: Instant,
}

impl Load {
    pub(in crate::store::postgres) fn new() -> Load {
        Load {
            under_way: AtomicUsize::new(0),
            answered: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            down_until: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// For how long no answer has come.
    fn silence(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.answered.load(Ordering::Relaxed)))
    }

    /// What is to be said against giving work to the connection now.
    pub(in crate::store::postgres) fn look(&self) -> Burden {
        let (now, under_way) = (self.now(), self.under_way.load(Ordering::Relaxed));
        let abandoned = self.abandoned.load(Ordering::Relaxed);
        let is_avoided = abandoned > 0 && Duration::from_millis(now.saturating_sub(abandoned)) < AVOIDED;
        let is_slow = is_avoided || (under_way > 0 && self.silence() > SLOW);
        Burden { is_down: self.down_until.load(Ordering::Relaxed) > now, is_slow, under_way }
    }

    /// Whether the connection may be dead, and no one would learn it from an answer.
    pub(super) fn is_suspect(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) > 0 && self.silence() >= SUSPECT
    }

    /// Whether it was down at that time or later.
    pub(super) fn was_down_after(&self, time: Instant) -> bool {
        let time = time.saturating_duration_since(self.start);
        u128::from(self.down_until.load(Ordering::Relaxed)) > time.as_millis()
    }

    /// Says that it is down for so long from now on; for no time: that it is up.
    pub(super) fn set_down_for(&self, time: Duration) {
        let until = if time.is_zero() { 0 } else { self.after(time) };
        self.down_until.store(until, Ordering::Relaxed);
    }

    /// Says that it is down for so long, or for longer where that was said before.
    pub(super) fn set_down_at_least_for(&self, time: Duration) {
        self.down_until.fetch_max(self.after(time), Ordering::Relaxed);
    }

    /// When so much time will have passed. Rounded up: a connection is not down before it may be tried again.
    fn after(&self, time: Duration) -> u64 {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.now().saturating_add(time).saturating_add(1)
    }

    /// Counts a piece of work until what is answered is dropped.
    pub(in crate::store::postgres) fn begin(&self) -> UnderWay<'_> {
        let is_first = self.under_way.fetch_add(1, Ordering::Relaxed) == 0;
        if is_first && self.abandoned.load(Ordering::Relaxed) == 0 {
            self.answered.store(self.now(), Ordering::Relaxed);
        }
        UnderWay { load: self, since: Instant::now() }
    }

    /// Notes an answer, also where it is an error.
    pub(in crate::store::postgres) fn answered(&self) {
        self.answered.store(self.now(), Ordering::Relaxed);
        self.abandoned.store(0, Ordering::Relaxed);
    }
}

/// A piece of work that waits for its answer.
pub(super) struct UnderWay<'a> {
    load: &'a Load,
    since: Instant,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.load.under_way.fetch_sub(1, Ordering::Relaxed);
        // Where no answer has come since it began, its caller has gone without one. Both count in milliseconds.
        let waited = self.since.elapsed();
        if waited > SLOW && self.load.silence() + Duration::from_millis(2) > waited {
            self.load.abandoned.store(self.load.now().max(1), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const WHILE: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_waited_for_in_vain_is_avoided_and_then_suspect_until_it_answers() {
        let load = Load::new();
        for _ in 0..2 {
            let work = load.begin();
            advance(WHILE).await;
            assert!(load.look().is_slow && load.look().under_way == 1);
            drop(work);
            assert!(load.look().is_slow && load.look().under_way == 0);
            assert!(!load.is_suspect());
        }
        advance(WHILE).await;
        assert!(load.is_suspect());
        advance(AVOIDED).await;
        assert!(!load.look().is_slow && load.is_suspect(), "it is tried again, and opened anew");
        load.answered();
        assert!(!load.is_suspect());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_answers_others_or_was_not_waited_for_is_as_good_as_any() {
        let load = Load::new();
        let slow = load.begin();
        advance(WHILE).await;
        load.answered();
        drop(slow);
        assert!(!load.look().is_slow, "another one was answered meanwhile");
        drop(load.begin());
        advance(SUSPECT).await;
        assert!(!load.look().is_slow && !load.is_suspect());
    }
}
