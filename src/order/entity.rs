//! The order itself, as a store holds it. Its fields change only by the commands and outcomes of this room; a store
//! must copy them and not compute them. All its times are from the store's clock, in microseconds. An order is pending
//! while `processed_version` is below `version`, and its event can be made of it at any time, so an event that was lost
//! can be published again.

use jiff::Timestamp;

use super::amount::Amount;
use super::event::Event;
use super::id::{OrderId, UserId, Version};
use super::payload::Payload;
use super::status::Status;

/// An order as the store holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its identity, made by the service.
    pub id: OrderId,
    /// Its owner.
    pub user_id: UserId,
    /// The total, set by the worker from the payload; zero until then.
    pub amount: Amount,
    /// Its status.
    pub status: Status,
    /// Why processing failed; set only where `status` is [`Status::Failed`].
    pub reason: Option<String>,
    /// What the caller sent, digit for digit.
    pub payload: Payload,
    /// When the order was accepted, by the store's clock, in microseconds.
    pub created_at: Timestamp,
    /// When anything about it last changed, by the store's clock, in microseconds.
    pub updated_at: Timestamp,
    /// When it was deleted. Set once and never cleared, so that the checker finds a deleted order whose status changed.
    pub deleted_at: Option<Timestamp>,
    /// The newest accepted version.
    pub version: Version,
    /// The newest version that the worker has applied, at most `version`.
    pub processed_version: Version,
    /// Whether its last change was neither a command nor the outcome of one: an event of a service that knows no
    /// versions, or such a service's own write.
    pub touched: bool,
    /// The stored bucket: that of its id, unless another service chose it.
    pub bucket: i32,
}

impl Order {
    /// Whether the worker still has to apply the newest version.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.processed_version < self.version
    }

    /// The event of a pending order's newest version.
    #[must_use]
    pub fn into_event(self) -> Event {
        Event {
            order_id: Some(self.id),
            version: Some(self.version),
            user_id: Some(self.user_id),
            payload: self.payload,
            status: self.status,
            timestamp: self.updated_at,
        }
    }
}
