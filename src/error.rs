//! The errors of requests, independent of a protocol: each says what happened and whether a retry is safe. The `api`
//! room holds the one table that turns them into HTTP and gRPC. A message never holds a secret or an internal cause: it
//! is sent to the caller, and the reason is in the log. `Overloaded` and `Unavailable` promise that nothing was stored;
//! where that is not certain, the error must be `OutcomeUnknown`. This file imports only the domain.

use std::time::Duration;

use thiserror::Error;

use crate::order::{Invalid, OrderId, Version};

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// A field breaks its rule. A retry does not help.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// There is no such order, or it belongs to another user.
    #[error("there is no such order, or it belongs to another user")]
    NotFound {
        /// The id in the request, where it names one.
        order_id: Option<OrderId>,
    },
    /// The order has been deleted; nothing changes it any more.
    #[error("the order has been deleted and cannot be changed any more; create a new one")]
    Deleted {
        /// The order.
        order_id: OrderId,
    },
    /// The precondition of the request does not hold. The caller reads the order and decides again.
    #[error("{}", precondition_failed(*current))]
    PreconditionFailed {
        /// The order.
        order_id: OrderId,
        /// The version that it has; `None` where the caller may not know it.
        current: Option<Version>,
    },
    /// The order to create exists already.
    #[error(
        "the order exists already, in version {version}; leave If-None-Match out to replace its content, or choose \
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
        "the idempotency key was used before for a request with other content; use a new key for each request"
    )]
    KeyReused,
    /// The service keeps no history.
    #[error("this service keeps no history of orders; an operator turns it on with HISTORY=on")]
    HistoryOff,
    /// Too many requests are in flight. Nothing was stored; try again after the pause.
    #[error(
        "the service is at its limit and stored nothing; try again after the pause that Retry-After names"
    )]
    Overloaded {
        /// The pause before the next try.
        retry_after: Duration,
    },
    /// The store cannot be reached. Nothing was stored; try again.
    #[error("the order store is not available and nothing was stored; try again")]
    Unavailable,
    /// The store failed while it was committing: the command may have been carried out or not.
    #[error("the order store failed while committing; check whether the order is there before trying again")]
    OutcomeUnknown {
        /// The order.
        order_id: OrderId,
    },
    /// The order's row in the store cannot be read, or cannot take the command. A retry does not help.
    #[error(
        "the order is stored, but its row cannot be read or changed; delete the order or send it a new payload, and if \
         that fails, too, have an operator repair the row"
    )]
    Unreadable {
        /// The order.
        order_id: OrderId,
    },
    /// A defect of the service.
    #[error("internal error; the log has the reason under this request's id")]
    Internal,
}

/// The message for a caller whose precondition does not hold.
fn precondition_failed(current: Option<Version>) -> String {
    match current {
        Some(version) => {
            format!(
                "the order has version {version}; read it, and send the request again for that version if it still applies"
            )
        }
        None => "an order with this id exists already; choose another id".to_owned(),
    }
}
