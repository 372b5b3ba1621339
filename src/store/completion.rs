//! What the worker did about an event, and what became of it in the store.

use jiff::Timestamp;

use crate::order::{Amount, OrderId, Payload, Status, UserId, Version};

/// What the worker did about an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The order.
    pub order_id: OrderId,
    /// What the completion builds on.
    pub precondition: Precondition,
    /// The status the order takes.
    pub status: Status,
    /// The amount it takes; `None` leaves it.
    pub amount: Option<Amount>,
    /// Why, where the status is [`Status::Failed`].
    pub reason: Option<String>,
}

/// Which state of an order a completion builds on.
#[derive(Debug, Clone, PartialEq)]
pub enum Precondition {
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
    pub payload: Payload,
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
