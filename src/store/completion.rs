//! Completions: the worker's results for events, the precondition on which each applies, and its outcome in the store.
//! The worker makes completions, and each backend applies them with one conditional statement. A completion whose
//! precondition does not hold must change nothing.

use jiff::Timestamp;

use crate::order::{Amount, OrderId, Payload, Status, UserId, Version};

/// The worker's result for an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The order.
    pub order_id: OrderId,
    /// The state of the order on which the completion applies.
    pub precondition: Precondition,
    /// The status the order takes.
    pub status: Status,
    /// The amount the order takes; `None` leaves it unchanged.
    pub amount: Option<Amount>,
    /// The reason, where the status is [`Status::Failed`].
    pub reason: Option<String>,
}

/// The state of an order on which a completion applies.
#[derive(Debug, Clone, PartialEq)]
pub enum Precondition {
    /// This version. Applies while it is the newest and unprocessed, and marks it processed.
    Version(Version),
    /// An event without a version, from another service, sent at that time. Applies unless such an event of the same or
    /// a later time was applied, or a version of the same or a later time was completed: a service may send our own
    /// events back without their headers. Leaves the versions unchanged.
    Unversioned(Timestamp),
    /// An event that requests a new order. Creates the order, as processed, unless its id exists already.
    Creation(Box<Creation>),
}

/// The order that an event of another service requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Creation {
    /// Its owner.
    pub user_id: UserId,
    /// Its content.
    pub payload: Payload,
}

/// The outcome of a completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completed {
    /// It was applied.
    Applied,
    /// The order has a newer version or is processed already; nothing changed.
    Stale,
    /// The order does not exist.
    Unknown,
}

/// An order's processed version and its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processed {
    /// The newest version that the worker has applied.
    pub version: Version,
    /// The order's status now.
    pub status: Status,
}
