//! The errors of the store: why a call fails as a whole, and rows that cannot be read. Each error says whether
//! something of the batch may have happened, so that the caller knows whether a retry is safe. A store must never
//! report that nothing happened unless that is certain.

use crate::order::OrderId;

/// Why a call failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store cannot be reached or cannot write. Nothing of the batch happened.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The commit itself failed: either all of the batch happened or nothing, and it is not known which.
    #[error("the outcome of the commit is not known: {0}")]
    OutcomeUnknown(String),
    /// Nothing of the batch happened, and one of its rows may be the reason: the caller halves the batch and tries
    /// again.
    #[error("a row of the batch cannot be stored: {0}")]
    BadBatch(String),
    /// The requested row cannot be read. A retry does not help.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// A row that cannot be read: another program wrote a value that this one does not know, or the payload is too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("order {order_id} is damaged: {what}")]
pub struct Damaged {
    /// The row's order.
    pub order_id: OrderId,
    /// The value at fault.
    pub what: String,
}
