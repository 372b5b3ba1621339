//! The outcomes of the requests of a batch: applied, replayed because the idempotency key was used before, or refused
//! with the reason. A store never reports an outcome before it is durable. The committer maps these outcomes to
//! answers; this file must not know HTTP or gRPC.

use crate::order::{Event, OrderId, Status, UserId, Version};

/// The most bytes of payload that the deletions of a batch return for their events: a batch may delete a thousand
/// orders of a MB.
pub const MAX_RETURNED_BYTES: usize = 4 << 20;

/// The outcome of a request that was not refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Accepted {
    /// It was applied, with this event.
    Applied(Event),
    /// It was applied, and the sweep makes its event from the store: a deletion beyond [`MAX_RETURNED_BYTES`].
    AppliedWithoutEvent(ReplayedOutcome),
    /// A request with the same key and content was applied before.
    Replayed(ReplayedOutcome),
}

/// What a request did, now or when its key was used first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayedOutcome {
    /// The order.
    pub order_id: OrderId,
    /// Its version after the request.
    pub version: Version,
    /// Its status after the request: `new`, `processing` (updated) or `deleted`.
    pub status: Status,
}

/// Why one request of a batch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The order does not exist, or belongs to another user.
    #[error("the order does not exist, or belongs to another user")]
    NotFound,
    /// The order is deleted.
    #[error("the order is deleted")]
    Deleted,
    /// The order has a version other than the command's precondition.
    #[error("the order has version {current}")]
    Changed {
        /// The order's version.
        current: Version,
    },
    /// A creation has a duplicate key: an order with its id exists.
    #[error("an order with this id exists")]
    Exists {
        /// The owner of that order.
        user_id: UserId,
        /// Its version.
        version: Version,
        /// Whether it is deleted.
        deleted: bool,
    },
    /// The key was used for a request with another content.
    #[error("the key was used for another request")]
    KeyReused,
    /// This row cannot be stored; the others of the batch can.
    #[error("the row cannot be stored: {0}")]
    BadRow(String),
    /// The order's row, as another program left it, cannot take a command.
    #[error("the order's row is damaged: {0}")]
    Damaged(String),
    /// Other processes changed the order during every attempt.
    #[error("other processes changed the order during every attempt")]
    Unsteady,
}
