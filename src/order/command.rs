//! Commands: create, update or delete an order. Every field of a [`Command`] has been parsed; a field that breaks its
//! rule is an [`Invalid`] before there is a command, and its text, which callers read, names the fix. A command changes
//! nothing by itself: a store applies it only where its precondition holds. A [`Put`] is not a command: intake makes an
//! update or a creation of it, because only the store can say whether the order exists.

use thiserror::Error;

use super::id::{OrderId, UserId, Version};
use super::payload::Payload;

/// A change of an order that a caller asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Make a new order.
    Create {
        /// The new order's id, made by the service.
        order_id: OrderId,
        /// Its owner.
        user_id: UserId,
        /// Its content.
        payload: Payload,
    },
    /// Replace an order's content and have it processed again.
    Update {
        /// The order.
        order_id: OrderId,
        /// The calling user; where given, the order must be theirs.
        user_id: Option<UserId>,
        /// The new content.
        payload: Payload,
        /// The precondition: the version that the order must have, if any. Versions begin at 1.
        if_version: Option<Version>,
    },
    /// Delete an order for ever. Its content stays readable.
    Delete {
        /// The order.
        order_id: OrderId,
        /// The calling user; where given, the order must be theirs.
        user_id: Option<UserId>,
        /// The precondition: the version that the order must have, if any. Versions begin at 1.
        if_version: Option<Version>,
    },
}

impl Command {
    /// The order it is about.
    #[must_use]
    pub fn order_id(&self) -> OrderId {
        match self {
            Command::Create { order_id, .. }
            | Command::Update { order_id, .. }
            | Command::Delete { order_id, .. } => *order_id,
        }
    }
}

/// The content that an order is to have, under an id that its caller chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Put {
    /// The order.
    pub order_id: OrderId,
    /// Its owner; needed where it does not exist yet.
    pub user_id: Option<UserId>,
    /// Its content.
    pub payload: Payload,
    /// The precondition: the version that the order must have, if any; it must exist then.
    pub if_version: Option<Version>,
}

/// A field that breaks its rule: which one, what is wrong with it and what to send instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {detail}")]
pub struct Invalid {
    /// The field's name as callers write it, or `body`.
    pub field: &'static str,
    /// What is wrong, and the fix.
    pub detail: String,
}

impl Invalid {
    /// An error of one field.
    pub fn new(field: &'static str, detail: impl Into<String>) -> Invalid {
        Invalid { field, detail: detail.into() }
    }
}

/// The error of a request that needs a user and does not name one.
pub(crate) fn needs_user() -> Invalid {
    Invalid::new("user_id", "a new order needs its user's UUID")
}
