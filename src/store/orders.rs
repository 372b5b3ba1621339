//! Orders: commands and completions, and reads of single orders. Every write is one conditional statement per order,
//! never read-modify-write, and each verb carries a batch: redelivery, reordering and races are therefore harmless,
//! because a stale write changes nothing.

use std::sync::Arc;

use async_trait::async_trait;

use super::accepted::{Accepted, Refusal};
use super::completion::{Completed, Completion, Processed};
use super::error::Error;
use crate::order::{Order, OrderId, Request, UserId};

/// Writes orders and reads single ones. For the committer, the worker and callers who ask for one order.
#[async_trait]
pub trait Orders: Send + Sync + 'static {
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
    /// Conditional: a completion of a version applies only while that version is the order's newest and has not been
    /// processed; the status changes only where [`Status::LEGAL`](crate::order::Status::LEGAL) allows it, so a deleted
    /// order stays deleted. Amount and reason are taken over with the status, also where that stays the same. The
    /// caller names each order at most once in a batch.
    ///
    /// # Errors
    /// [`Error`] where the whole batch failed; doing it again is safe.
    async fn complete(&self, batch: Arc<[Completion]>) -> Result<Vec<Completed>, Error>;

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
    /// row is [`Damaged`](super::Damaged).
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    async fn processed_versions(&self, orders: &[OrderId]) -> Result<Vec<Option<Processed>>, Error>;
}
