//! The domain: what an order is and what may happen to it. Pure values, no IO, no async, no clock but the
//! one it is handed. Everything that crosses a wire or reaches a store has been parsed into these types
//! first, so the other rooms never check an id, a status or a payload twice.

mod amount;
mod canonical;
mod command;
mod decimal;
mod history;
mod id;
mod items;
mod json;
mod listing;
mod message;
mod numbers;
mod payload;
mod request;
mod status;
mod total;

pub use amount::{Amount, AmountError};
pub(crate) use command::needs_user;
pub use command::{Command, Invalid, Put, Submission};
pub use history::{BadHistoryCursor, BadSequence, Cause, HistoryCursor, Sequence, Step, Stretch, Whose};
pub use id::{OrderId, UserId};
pub use json::pick;
pub use listing::{BadPosition, Filter, Page, Position};
pub use message::{Ack, AckStatus, Event, Undecodable, header};
pub use numbers::WRITTEN_OUT;
pub use payload::{Payload, PayloadError};
pub use request::{BadKey, Key, KeyText, Request};
pub use status::{IllegalTransition, Status};

use jiff::Timestamp;

/// How many commands of an order have been accepted: 1 after its creation, one more with each update and
/// with the deletion. The processed version is the newest one that the worker has applied; an order is
/// pending while it is behind.
pub type Version = i64;

/// An order as the store holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its identity, made by the service.
    pub id: OrderId,
    /// Whose order it is.
    pub user_id: UserId,
    /// The total, set by the worker from the payload; zero until then.
    pub amount: Amount,
    /// Where the order stands.
    pub status: Status,
    /// Why processing failed; set only where `status` is [`Status::Failed`].
    pub reason: Option<String>,
    /// What the caller sent, digit for digit.
    pub payload: Payload,
    /// When the order was accepted, by the store's clock, in microseconds.
    pub created_at: Timestamp,
    /// When anything about it last changed, by the store's clock, in microseconds.
    pub updated_at: Timestamp,
    /// When it was deleted. Set once and never cleared, so that a deleted order that came back would show.
    pub deleted_at: Option<Timestamp>,
    /// The newest accepted version.
    pub version: Version,
    /// The newest version that the worker has applied, at most `version`.
    pub processed_version: Version,
    /// Whether something else than a command or its outcome changed it last: an event of a service that knows no
    /// versions, or such a service by itself.
    pub touched: bool,
    /// The bucket that is stored with it: that of its id, unless another service chose it.
    pub bucket: i32,
}

impl Order {
    /// Whether the worker still has to apply the newest version.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.processed_version < self.version
    }

    /// The event that a pending order's newest version stands for.
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
