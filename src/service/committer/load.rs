//! How many commands may be queued, and how many are. The committer and the queues of busy orders and keys share one
//! count, so that a flood is turned away at one bound.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many commands are queued before the next one is turned away: those that have just arrived, and those that wait
/// for an order or a key.
pub const MOST_QUEUED: usize = 16_384;

/// How long a caller is asked to stay away when the service is full.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many commands are queued: those that have just arrived, and those that wait for an order or a key.
#[derive(Default)]
pub(super) struct Load(AtomicUsize);

impl Load {
    /// Counts one more; `false`, and nothing is counted, where there are so many already.
    pub(super) fn enter(&self, limit: usize) -> bool {
        let is_free = self.0.fetch_add(1, Ordering::Relaxed) < limit;
        if !is_free {
            self.leave();
        }
        is_free
    }

    /// Counts one less.
    pub(super) fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many there are now.
    #[cfg(test)]
    pub(super) fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
