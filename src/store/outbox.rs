//! The outbox: which orders are pending, and which of their events are not published yet. A store either has an outbox
//! table, whose rows are committed with their orders, or finds pending orders by their versions alone; then most of
//! these methods have nothing to do.

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::Error;
use super::pending::{MissingPage, PendingCursor, PendingPage, Postponed};
use crate::order::{OrderId, Version};

/// Finds pending orders and tracks published events. For the relay, the worker and the checker.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Whether the store finds pending orders through an outbox table: an event is pending until it is marked
    /// published, not until it is processed.
    fn has_outbox(&self) -> bool {
        false
    }

    /// Events of orders that are pending and have not changed since `before`, behind the cursor, in an order of the
    /// store's own. An order that changes while the pages are read may be missing or appear twice. A row that cannot be
    /// read does not hide others.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn pending(
        &self,
        before: Timestamp,
        after: Option<PendingCursor>,
        limit: usize,
    ) -> Result<PendingPage, Error>;

    /// Claims pending events for some seconds, so that only one of several processes publishes them. Returns for each
    /// event whether the caller has it.
    ///
    /// # Errors
    /// [`Error`]; the events are not claimed then, or the claim expires unused.
    async fn claim(&self, events: &[(OrderId, Version)]) -> Result<Vec<bool>, Error> {
        Ok(vec![true; events.len()])
    }

    /// Marks these versions of orders published, for which the bus has taken responsibility. A store with an outbox
    /// table drops their rows; one that finds pending orders by their versions has nothing to do.
    ///
    /// # Errors
    /// [`Error`]; the relay then republishes the events, which changes nothing.
    async fn published(&self, events: &[(OrderId, Version)]) -> Result<(), Error> {
        let _ = events;
        Ok(())
    }

    /// Puts pending versions into the outbox table, each due after its own time: no sweep finds them earlier. Versions
    /// that are not pending any more are skipped. Does nothing where the store has no outbox table.
    ///
    /// # Errors
    /// [`Error`]; a retry is safe.
    async fn postpone(&self, orders: &[Postponed]) -> Result<(), Error> {
        let _ = orders;
        Ok(())
    }

    /// Pending orders that have not changed since `before` and have no row in the outbox table: the bus has confirmed
    /// their events. Scans so many orders behind the cursor, so a page may be empty and have a next one. Empty where
    /// the store has no outbox table.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn missing_outbox_entries(
        &self,
        before: Timestamp,
        after: Option<PendingCursor>,
        orders: usize,
    ) -> Result<MissingPage, Error> {
        let _ = (before, after, orders);
        Ok(MissingPage::default())
    }

    /// Puts entries back into the outbox table, where those versions are still pending: a sweep republishes them.
    /// Returns how many were added.
    ///
    /// # Errors
    /// [`Error`]; a retry is safe.
    async fn add_outbox_entries(&self, events: &[(OrderId, Version)]) -> Result<usize, Error> {
        let _ = events;
        Ok(0)
    }

    /// Ids in the outbox table whose orders do not exist. There must not be any.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn outbox_orphans(&self) -> Result<Vec<OrderId>, Error> {
        Ok(Vec::new())
    }
}
