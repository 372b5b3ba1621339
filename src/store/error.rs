//! Why a call of the store fails as a whole, and what a row that cannot be read is.

use crate::order::OrderId;

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
