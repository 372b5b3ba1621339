//! What can go wrong with a request, said without a protocol: what happened, and whether doing it again is
//! safe. The `api` room holds the one table that turns these into HTTP and gRPC.

use std::time::Duration;

use thiserror::Error;

use crate::order::{Invalid, OrderId, Version};

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// A field breaks its rule. Doing it again does not help.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no such order, or it belongs to another user.
    #[error("there is no such order, or it belongs to another user")]
    NotFound {
        /// The id that was asked for, where the request named one.
        order_id: Option<OrderId>,
    },
    /// The order has been deleted; nothing changes it any more.
    #[error("the order has been deleted and cannot be changed any more; create a new one")]
    Deleted {
        /// The order.
        order_id: OrderId,
    },
    /// The order is not in the state that the request asks for. Look at it, and decide anew.
    #[error("{}", not_as_asked(*current))]
    PreconditionFailed {
        /// The order.
        order_id: OrderId,
        /// The version that it has; `None` where the caller may not know it.
        current: Option<Version>,
    },
    /// The order that was to be made is there already.
    #[error(
        "the order is there already, in version {version}; leave If-None-Match out to replace its content, or choose \
         another id"
    )]
    Exists {
        /// The order.
        order_id: OrderId,
        /// The version that it has.
        version: Version,
    },
    /// The key belongs to another request.
    #[error(
        "the idempotency key was used before for a request with another content; make a new key for each request"
    )]
    KeyReused,
    /// No history is kept.
    #[error("this service keeps no history of orders; set HISTORY=on to have one from then on")]
    HistoryOff,
    /// Too much is under way. Nothing was stored; try again after the pause.
    #[error(
        "the service is at its limit and stored nothing; try again after the pause that Retry-After names"
    )]
    Overloaded {
        /// How long to wait before the next try.
        retry_after: Duration,
    },
    /// The store cannot be reached. Nothing was stored; try again.
    #[error("the order store is not available and nothing was stored; try again")]
    Unavailable,
    /// The store failed while it was committing: the command may have been carried out or not.
    #[error("the order store failed while committing; look whether the order is there before trying again")]
    OutcomeUnknown {
        /// The order it was about.
        order_id: OrderId,
    },
    /// The order's row in the store cannot be read, or cannot take the command. Asking again does not help.
    #[error(
        "the order is stored, and its row cannot be read or changed; delete it or send it a new payload, and where that \
         fails, too, have an operator repair the row"
    )]
    Unreadable {
        /// The order.
        order_id: OrderId,
    },
    /// A defect of the service.
    #[error("internal error; the log has the reason under this request's id")]
    Internal,
}

/// What a caller is told whose precondition does not hold.
fn not_as_asked(current: Option<Version>) -> String {
    match current {
        Some(version) => {
            format!(
                "the order has version {version}; read it, and send the request again for that version if it still applies"
            )
        }
        None => "an order of this id exists already; choose another id".to_owned(),
    }
}
