//! Maintenance: the store's clock, the cleaning of old keys and history events, the check whether the store works, and
//! the close. All times in a store are from its own clock, and the retention job counts from it, too. Cleaning drops
//! the oldest rows first, a bounded number in each call. A close must not lose work that was handed over before.

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::Error;

/// Maintains a store. For the retention job, readiness, and the process that opened the store.
#[async_trait]
pub trait Maintenance: Send + Sync + 'static {
    /// The store's time now: all times in the store are from this clock.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn now(&self) -> Result<Timestamp, Error>;

    /// Whether other processes may work with the same orders.
    fn is_shared(&self) -> bool {
        false
    }

    /// Drops keys and history events that were written before these times, the oldest first, at most `limit` of each.
    /// Returns how many were dropped.
    ///
    /// # Errors
    /// [`Error`]; the next call drops the rest.
    async fn clean(
        &self,
        keys_before: Timestamp,
        events_before: Option<Timestamp>,
        limit: usize,
    ) -> Result<usize, Error>;

    /// Whether the store can take writes now.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it cannot.
    async fn check(&self) -> Result<(), Error>;

    /// Waits until a part that the store cannot work without has ended unexpectedly, and returns its name.
    async fn failed(&self) -> &'static str {
        std::future::pending().await
    }

    /// Finishes the work that was handed over and closes all files and connections. Later calls fail.
    async fn close(&self);
}
