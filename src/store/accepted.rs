//! What becomes of the requests of a batch: carried out, carried out before, or refused.

use crate::order::{Event, OrderId, Status, UserId, Version};

/// How many bytes of payload the deletions of a batch bring back. What is deleted may be a thousand orders of a MB.
pub const BROUGHT_BACK: usize = 4 << 20;

/// What became of a request that was not refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Accepted {
    /// It was carried out. The event tells of it.
    Applied(Event),
    /// It was carried out, and its event is still in the store, because those of the batch are enough: a deletion
    /// beyond [`BROUGHT_BACK`].
    AppliedWithoutEvent(ReplayedOutcome),
    /// A request of that key and content had been carried out before.
    Replayed(ReplayedOutcome),
}

/// What a request did, now or when it came the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayedOutcome {
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
