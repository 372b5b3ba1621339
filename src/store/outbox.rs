//! The outbox: which orders are pending, and which of their events are still to be published. A store may find them in
//! a table of its own, whose rows are committed with their orders, or by the versions of the orders alone; then most of
//! these verbs have nothing to do.

use async_trait::async_trait;
use jiff::Timestamp;

use super::error::Error;
use super::pending::{MissingPage, PendingCursor, PendingPage, Postponed};
use crate::order::{OrderId, Version};

/// Finds pending orders and keeps track of what is published. For the relay, the worker and the checker.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Whether the store finds pending orders through an outbox of its own: an event is pending until it is marked
    /// published, not until it is processed.
    fn has_outbox(&self) -> bool {
        false
    }

    /// Events of orders that are pending and have not changed since `before`, from behind the cursor on, in an
    /// order of the store's own. One that changes while the pages are read may be missing or come again. A row that
    /// cannot be read is in no other's way.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn pending(
        &self,
        before: Timestamp,
        after: Option<PendingCursor>,
        limit: usize,
    ) -> Result<PendingPage, Error>;

    /// Takes up pending events to publish them, for some seconds, so that of several processes only one does.
    /// Answers whether each is the caller's now.
    ///
    /// # Errors
    /// [`Error`]; no process has taken them up then, or this process has for nothing.
    async fn claim(&self, events: &[(OrderId, Version)]) -> Result<Vec<bool>, Error> {
        Ok(vec![true; events.len()])
    }

    /// Takes note that the bus has taken responsibility for these versions of orders. A store that finds
    /// pending orders through an outbox of its own drops their rows; one that finds them by their versions
    /// has nothing to do.
    ///
    /// # Errors
    /// [`Error`]; the events are then published again, which changes nothing.
    async fn published(&self, events: &[(OrderId, Version)]) -> Result<(), Error> {
        let _ = events;
        Ok(())
    }

    /// Has an outbox of the store's own keep pending versions, each once, for so long: no sweep finds them before.
    /// Nothing happens to what is not pending any more, or where the store has no outbox.
    ///
    /// # Errors
    /// [`Error`]; trying again is safe.
    async fn postpone(&self, orders: &[Postponed]) -> Result<(), Error> {
        let _ = orders;
        Ok(())
    }

    /// Pending orders that have not changed since `before` and that an outbox of the store's own does not name: the
    /// bus has confirmed their events. Looks at so many orders from behind the cursor on, so a page may be empty and
    /// have a next one. Empty where the store has no outbox.
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

    /// Puts entries back into an outbox of the store's own, where those versions are still pending: a sweep publishes
    /// them. Answers how many.
    ///
    /// # Errors
    /// [`Error`]; trying again is safe.
    async fn add_outbox_entries(&self, events: &[(OrderId, Version)]) -> Result<usize, Error> {
        let _ = events;
        Ok(0)
    }

    /// Orders that an outbox of the store's own names and that are not there: none may be.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn outbox_orphans(&self) -> Result<Vec<OrderId>, Error> {
        Ok(Vec::new())
    }
}
