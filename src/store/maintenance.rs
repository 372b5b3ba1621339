//! Maintenance: the store's clock, what is dropped after a time, whether the store works, and its end.

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::Error;

/// Looks after a store. For retention, readiness, and the process that opened it.
#[async_trait]
pub trait Maintenance: Send + Sync + 'static {
    /// The store's time now: the clock of every time that it keeps.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn now(&self) -> Result<Timestamp, Error>;

    /// Whether other processes may be working with the same orders.
    fn is_shared(&self) -> bool {
        false
    }

    /// Drops keys and steps that were written before these times, the oldest first, at most `limit` of each. Answers
    /// how many were dropped.
    ///
    /// # Errors
    /// [`Error`]; what was not dropped is dropped later.
    async fn clean(
        &self,
        keys_before: Timestamp,
        steps_before: Option<Timestamp>,
        limit: usize,
    ) -> Result<usize, Error>;

    /// Whether the store can take writes now.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it cannot.
    async fn check(&self) -> Result<(), Error>;

    /// Waits until a part that the store cannot work without has ended by itself, and answers its name.
    async fn failed(&self) -> &'static str {
        std::future::pending().await
    }

    /// Finishes what was handed over before and lets go of all files and connections. Later calls fail.
    async fn close(&self);
}
