//! Orders: commands and completions in batches, and reads of single orders. Every write is one conditional statement
//! per order, never read-modify-write. Redelivery, reordering and races are therefore harmless, because a stale write
//! changes nothing.

use std::sync::Arc;

use async_trait::async_trait;

use super::accepted::{Accepted, Refusal};
use super::completion::{Completed, Completion, Processed};
use super::error::Error;
use crate::order::{CommandRequest, Order, OrderId, UserId};

/// Writes orders and reads single ones. For the committer, the worker and requests for one order.
#[async_trait]
pub trait Orders: Send + Sync + 'static {
    /// Applies requests. Returns one result per request, in their order, once everything that was accepted is durable.
    ///
    /// Atomic: each request on its own; its row, its pending mark, its key and its history event become durable
    /// together. Conditional: a creation requires that the id is free; an update or deletion requires that the order
    /// exists, belongs to the user where the command names one, is not deleted, and has the version of the command's
    /// precondition. Of several reasons to refuse, the first of these counts. A request whose key was used before is
    /// not applied: its result is the replayed outcome. A refused request does not consume its key. A row that cannot
    /// be written fails alone. The caller names each order, and each key, at most once in a batch.
    ///
    /// # Errors
    /// [`Error`] where the whole batch failed.
    async fn apply(&self, batch: Arc<[CommandRequest]>) -> Result<Vec<Result<Accepted, Refusal>>, Error>;

    /// Records completions. Returns one result per completion, in their order, once durable.
    ///
    /// Conditional: a completion of a version applies only while that version is the order's newest and has not been
    /// processed; the status changes only where [`Status::LEGAL`](crate::order::Status::LEGAL) allows it, so a deleted
    /// order stays deleted. The order takes amount and reason together with the status, even if that stays the same.
    /// The caller names each order at most once in a batch.
    ///
    /// # Errors
    /// [`Error`] where the whole batch failed; a retry is safe.
    async fn complete(&self, batch: Arc<[Completion]>) -> Result<Vec<Completed>, Error>;

    /// The order with that id, deleted or not.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; [`Error::Damaged`] where its row cannot be read.
    async fn get(&self, order_id: OrderId) -> Result<Option<Order>, Error>;

    /// The user's newest order whose payload has that external id, deleted or not.
    ///
    /// # Errors
    /// [`Error::Unavailable`]; [`Error::Damaged`] where its row cannot be read.
    async fn find_by_external(&self, external_id: &str, user_id: UserId) -> Result<Option<Order>, Error>;

    /// The processed versions of these orders, in the same order; `None` for an order that does not exist, or whose
    /// row is [`Damaged`](super::Damaged).
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn processed_versions(&self, orders: &[OrderId]) -> Result<Vec<Option<Processed>>, Error>;
}
