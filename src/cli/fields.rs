//! Values on the command line that more than one command takes: ids and statuses. A value that does not fit is answered
//! with what would. The domain parses them, so a command accepts the same spellings as the service. Nothing here reads
//! a file or asks a server.

use crate::order::{OrderId, Status, UserId};

/// An order's id.
pub(super) fn order_id(text: &str) -> Result<OrderId, String> {
    OrderId::parse(text).ok_or_else(|| "not a UUID".to_owned())
}

/// A user's id.
pub(super) fn user_id(text: &str) -> Result<UserId, String> {
    UserId::parse(text).ok_or_else(|| "not a UUID".to_owned())
}

/// The status of an order.
pub(super) fn status(text: &str) -> Result<Status, String> {
    let known = Status::ALL.map(|status| status.to_string()).join(", ");
    Status::parse(text).ok_or_else(|| format!("write one of {known}"))
}
