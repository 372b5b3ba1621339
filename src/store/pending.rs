//! What a store says of orders that wait for the worker: their events, page by page, and those whose events are no
//! longer in the store because the bus has confirmed them.

use std::time::Duration;

use jiff::Timestamp;

use crate::order::{Event, OrderId, Status, UserId, Version};

/// A place in the list of pending orders; only its store can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingCursor(pub(in crate::store) Place);

/// What a cursor is to each store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Place {
    /// Behind that row of those that changed at that microsecond.
    Changed { at: i64, row: i64 },
    /// Behind that version of that order.
    Key { order_id: OrderId, version: Version },
}

/// A page of [`Outbox::pending`](super::Outbox::pending).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PendingPage {
    /// The events, rebuilt from the orders.
    pub events: Vec<Event>,
    /// Orders whose events can never be made, while all else of their rows can be read.
    pub unpublishable: Vec<Unpublishable>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<PendingCursor>,
}

/// A pending version of an order of which no event can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpublishable {
    /// The order.
    pub order_id: OrderId,
    /// Its version.
    pub version: Version,
    /// Why.
    pub reason: String,
}

/// A page of [`Outbox::missing_outbox_entries`](super::Outbox::missing_outbox_entries).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MissingPage {
    /// The pending orders of the page without an outbox entry.
    pub entries: Vec<MissingEntry>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<PendingCursor>,
}

/// A pending order without an outbox entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingEntry {
    /// The order.
    pub order_id: OrderId,
    /// The version that is pending.
    pub version: Version,
    /// Its owner.
    pub user_id: UserId,
    /// Its status.
    pub status: Status,
    /// When it last changed; `None` where that time is infinite.
    pub updated_at: Option<Timestamp>,
}

/// A pending version of an order that is to be published again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postponed {
    /// The order.
    pub order_id: OrderId,
    /// The version that is pending.
    pub version: Version,
    /// How much later.
    pub by: Duration,
}
