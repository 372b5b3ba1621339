//! Pending orders, page by page: their events, and the pending orders with a missing outbox entry, because the bus has
//! confirmed their events. A cursor belongs to the store that made it, which reads a cursor of another store as the
//! beginning. Callers must hand it back unchanged. The list ends with a page without a cursor: an empty page may have a
//! next one.

use std::time::Duration;

use jiff::Timestamp;

use crate::order::{Event, OrderId, Status, UserId, Version};

/// A cursor in the list of pending orders; only its store can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingCursor(pub(in crate::store) CursorKey);

/// The content of a cursor, for each kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum CursorKey {
    /// Behind that row among those that changed at that microsecond.
    Changed { at: i64, row: i64 },
    /// Behind that version of that order.
    Key { order_id: OrderId, version: Version },
}

/// A page of [`Outbox::pending`](super::Outbox::pending).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PendingPage {
    /// The events, made from the orders.
    pub events: Vec<Event>,
    /// Orders whose events can never be made, though the rest of their rows can be read.
    pub unpublishable: Vec<Unpublishable>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<PendingCursor>,
}

/// A pending version whose event cannot be made.
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

/// A pending version that is to be republished later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postponed {
    /// The order.
    pub order_id: OrderId,
    /// The version that is pending.
    pub version: Version,
    /// After how long.
    pub by: Duration,
}
