//! The store: where orders are kept. The trait [`Store`] is what the service relies on; each implementation
//! keeps the promises written at its verbs, and one conformance suite holds all of them to it.
//!
//! Every write is one conditional statement per order, never read-modify-write, and each verb carries a
//! batch. Redelivery, reordering and races are therefore harmless: a stale write changes nothing.

mod damage;
pub mod jumps;
mod part;
mod pending;
pub mod postgres;
pub mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::order::{
    Amount, Event, Filter, HistoryCursor, Order, OrderId, Page, Position, Request, Sequence, Status, Step,
    Stretch, UserId, Version, Whose,
};

pub use part::{MAX_PART, Part};
use pending::Place;
pub use pending::{Cursor, MissingEntry, MissingPage, PendingPage, Postponed, Unpublishable};

/// Keeps orders. All times come from the store's own clock, in microseconds.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Carries out requests. Answers one result per request, in their order, once everything that was
    /// accepted is durable.
    ///
    /// Atomic: each request on its own; its row, what makes it pending, its key and its step of the history become
    /// durable together. Conditional: a creation needs the id to be free, an update or deletion needs the order to
    /// exist, to belong to the user where the command names one, not to be deleted, and to have the version that the
    /// command names; of several reasons to refuse, the first of these counts. A request whose key was used before is
    /// not carried out: it is answered with what happened then. A refusal leaves no key behind. A row that cannot be
    /// written fails alone. The caller names each order, and each key, at most once in a batch.
    ///
    /// # Errors
    /// [`Error`] where the whole batch failed.
    async fn apply(&self, batch: Arc<[Request]>) -> Result<Vec<Result<Accepted, Refusal>>, Error>;

    /// Records what the worker did. Answers one result per completion, in their order, once durable.
    ///
    /// Conditional: a completion of a version applies only while that version is the order's newest and has
    /// not been processed; the status changes only where [`Status::LEGAL`] allows it, so a deleted order
    /// stays deleted. Amount and reason are taken over with the status, also where that stays the same. The caller names each order at most once in a batch.
    ///
    /// # Errors
    /// [`Error`] where the whole batch failed; doing it again is safe.
    async fn complete(&self, batch: Arc<[Completion]>) -> Result<Vec<Completed>, Error>;

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

    /// Orders that an outbox of the store's own names and that are not there: none may be.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn outbox_orphans(&self) -> Result<Vec<OrderId>, Error> {
        Ok(Vec::new())
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
        after: Option<Cursor>,
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

    /// Has an outbox of the store's own keep pending versions, each once, for so long: no sweep finds them before.
    /// Nothing happens to what is not pending any more, or where the store has no outbox.
    ///
    /// # Errors
    /// [`Error`]; trying again is safe.
    async fn postpone(&self, orders: &[Postponed]) -> Result<(), Error> {
        let _ = orders;
        Ok(())
    }

    /// The store's time now: the clock of every time that it keeps.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn now(&self) -> Result<Timestamp, Error>;

    /// Whether other processes may be working with the same orders.
    fn is_shared(&self) -> bool {
        false
    }

    /// Whether the store finds pending orders through an outbox of its own: an event is pending until it is marked
    /// published, not until it is processed.
    fn has_outbox(&self) -> bool {
        false
    }

    /// Takes up pending events to publish them, for some seconds, so that of several processes only one does.
    /// Answers whether each is the caller's now.
    ///
    /// # Errors
    /// [`Error`]; nobody has taken them up then, or this process has for nothing.
    async fn claim(&self, events: &[(OrderId, Version)]) -> Result<Vec<bool>, Error> {
        Ok(vec![true; events.len()])
    }

    /// The order of that id, deleted or not.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; [`Error::Damaged`] where its row cannot be read.
    async fn get(&self, order_id: OrderId) -> Result<Option<Order>, Error>;

    /// The newest order of a user whose payload carries that external id, deleted or not.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; [`Error::Damaged`] where its row cannot be read.
    async fn find_by_external(&self, external_id: &str, user_id: UserId) -> Result<Option<Order>, Error>;

    /// The processed versions of these orders, in the same order; `None` for an order that does not exist, or whose
    /// row is [`Damaged`].
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn processed_versions(&self, orders: &[OrderId]) -> Result<Vec<Option<Processed>>, Error>;

    /// Events of orders that are pending and have not changed since `before`, from behind the cursor on, in an
    /// order of the store's own. One that changes while the pages are read may be missing or come again. A row that
    /// cannot be read is in no other's way.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn pending(
        &self,
        before: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<PendingPage, Error>;

    /// Orders by ascending id, from behind `after` on, at most `limit`: a whole-table scan for the checker. A row that
    /// cannot be read stands in its place.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn scan(&self, after: Option<OrderId>, limit: usize) -> Result<Vec<Result<Order, Damaged>>, Error>;

    /// A page of the orders that fit a filter, from behind `after` on, the newest first. Looks at a bounded number of
    /// orders and bytes, whatever the size of the table: a page may be short, or empty, and still have a next one.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn list(&self, filter: &Filter, after: Option<Position>, limit: usize) -> Result<Page, Error>;

    /// The steps of an order's history behind a cursor that belong to the next so many versions, or the first
    /// [`MAX_PART`] of them. Empty where the store keeps no history.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history(&self, order_id: OrderId, after: HistoryCursor, versions: u32) -> Result<Part, Error>;

    /// The newest step of an order, if it belongs to that version or a later one. `None` where the store keeps no
    /// history.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn newest_step(&self, order_id: OrderId, version: Version) -> Result<Option<Step>, Error>;

    /// Steps behind a place in the history, by ascending sequence, at most `limit`; looks at a bounded number of
    /// others. No step will ever become visible before the place that this answers as `upto`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn steps(&self, of: Whose, after: Sequence, limit: usize) -> Result<Stretch, Error>;

    /// Where the history ends now: all steps to come are behind this place.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_end(&self) -> Result<Sequence, Error>;

    /// A place that no step has come behind so far. It is behind [`Store::history_end`] where steps can be seen while
    /// others are still being written before them.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_newest(&self) -> Result<Sequence, Error> {
        self.history_end().await
    }

    /// The place of the newest step that was dropped: a reader that has come less far may have missed some. The first
    /// place there is, where none was.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn history_dropped(&self) -> Result<Sequence, Error>;

    /// Drops keys and steps that were written before these times, the oldest first, at most `limit` of each. Answers
    /// how many were dropped.
    ///
    /// # Errors
    /// [`Error`]; whatever was not dropped is dropped later.
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

/// How many bytes of payload the deletions of a batch bring back. What is deleted may be a thousand orders of a MB.
pub const BROUGHT_BACK: usize = 4 << 20;

/// What became of a request that was not refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Accepted {
    /// It was carried out. The event tells of it.
    Now(Event),
    /// It was carried out, and its event is still in the store, because those of the batch are enough: a deletion
    /// beyond [`BROUGHT_BACK`].
    Later(Earlier),
    /// A request of that key and content had been carried out before.
    Before(Earlier),
}

/// What a request did, now or when it came the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// The order.
    pub order_id: OrderId,
    /// Its version after the request.
    pub version: Version,
    /// Its status after the request: `new`, `processing` (updated) or `deleted`.
    pub status: Status,
}

/// Why one request of a batch was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such order, or another user's.
    #[error("no such order, or another user's")]
    NotFound,
    /// The order is deleted.
    #[error("the order is deleted")]
    Deleted,
    /// The order has another version than the command names.
    #[error("the order has version {current}")]
    Changed {
        /// The version that it has.
        current: Version,
    },
    /// A creation's id is taken.
    #[error("an order of this id exists")]
    Exists {
        /// Whose that order is.
        user_id: UserId,
        /// Its version.
        version: Version,
        /// Whether it is deleted.
        deleted: bool,
    },
    /// The key was used for a request with another content.
    #[error("the key was used for another request")]
    KeyReused,
    /// This row, and no other, cannot be stored.
    #[error("the row cannot be stored: {0}")]
    BadRow(String),
    /// The order's row, as another program left it, cannot take any command.
    #[error("the order's row is damaged: {0}")]
    Damaged(String),
    /// The order was changed again and again meanwhile.
    #[error("the order does not stand still")]
    Unsteady,
}

/// Why a call failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store cannot be reached or cannot write; nothing of the batch happened.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The commit itself failed: all of the batch happened or nothing did, and which of them is not known.
    #[error("the outcome of the commit is not known: {0}")]
    OutcomeUnknown(String),
    /// Nothing of the batch happened, for a reason that may lie in one of its rows: halve it and try again.
    #[error("a row of the batch cannot be stored: {0}")]
    BadBatch(String),
    /// The one row that was asked for cannot be read. Asking again does not help.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// A row that cannot be read: it has a value that no version of this program wrote, or a payload that is too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("order {order_id} is damaged: {what}")]
pub struct Damaged {
    /// The row's order.
    pub order_id: OrderId,
    /// Which value it is.
    pub what: String,
}

/// What the worker did about an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The order.
    pub order_id: OrderId,
    /// What the completion builds on.
    pub basis: Basis,
    /// The status the order takes.
    pub status: Status,
    /// The amount it takes; `None` leaves it.
    pub amount: Option<Amount>,
    /// Why, where the status is [`Status::Failed`].
    pub reason: Option<String>,
}

/// Which state of an order a completion builds on.
#[derive(Debug, Clone, PartialEq)]
pub enum Basis {
    /// That version. Applies while it is the newest and unprocessed; makes it processed.
    Version(Version),
    /// An event from a service that knows no versions, sent at that time. Applies unless such an event of the
    /// same or a later time was applied, or a version of the same or a later time was completed before: our own
    /// events may come back without their headers. Leaves the versions alone.
    Unversioned(Timestamp),
    /// An event that asks for a new order. Creates it, as processed, unless that id exists already.
    Creation(Box<Creation>),
}

/// The order that an event from outside asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Creation {
    /// Its owner.
    pub user_id: UserId,
    /// Its content.
    pub payload: crate::order::Payload,
}

/// What became of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completed {
    /// It was applied.
    Applied,
    /// The order is past it; nothing changed.
    Stale,
    /// There is no such order.
    Unknown,
}

/// How far an order has been processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processed {
    /// The newest version that was applied.
    pub version: Version,
    /// The order's status now.
    pub status: Status,
}
