//! How many commands may be queued, and how many are. The committer's queue and those of orders and keys in flight
//! share one count, so that there is one bound at which further commands are turned away. The committer's channel has
//! no bound of its own and relies on this one: each command that has entered must leave exactly once. The count is an
//! atomic number, because every command changes it twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many commands may be queued, those that wait for an order or a key included. The next one is turned away.
pub const MOST_QUEUED: usize = 16_384;

/// The `Retry-After` of a caller who is turned away.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many commands are queued, those that wait for an order or a key included.
#[derive(Default)]
pub(super) struct Load(AtomicUsize);

impl Load {
    /// Counts one more. Answers `false`, and counts nothing, where the limit is reached.
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
