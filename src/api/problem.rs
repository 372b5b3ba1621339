//! Problems: the one table that maps every failure to HTTP and gRPC. A code is stable, and a title never varies; a
//! detail names the field and the fix, and must never hold the text of a driver's error. Each protocol writes problems
//! in its own form.

use std::time::Duration;

use serde::{Serialize, Serializer};
use tonic::Code;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use crate::error::Error;
use crate::order::{Invalid, OrderId, Version};

/// A kind of problem: one row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ProblemKind)]
pub struct Kind {
    /// The stable name of the kind.
    #[schema(schema_with = codes)]
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The gRPC code.
    #[serde(serialize_with = "as_name")]
    #[schema(value_type = String)]
    pub grpc: Code,
    /// The problem in a few words.
    pub title: &'static str,
    /// Whether the same request can safely be sent again, and may then succeed.
    pub retryable: bool,
}

impl Kind {
    /// The gRPC code's name, as in gRPC's documentation.
    #[must_use]
    pub fn grpc_name(&self) -> &'static str {
        match self.grpc {
            Code::Ok => "OK",
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

fn as_name<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    let named = Kind { grpc: *code, ..INTERNAL };
    serializer.serialize_str(named.grpc_name())
}

const fn kind(status: u16, grpc: Code, code: &'static str, title: &'static str, retryable: bool) -> Kind {
    Kind { code, status, grpc, title, retryable }
}

/// A field breaks its rule.
pub const INVALID: Kind =
    kind(400, Code::InvalidArgument, "invalid_request", "The request is not valid", false);
/// A page of another site made a browser send the request.
pub const CROSS_SITE_REQUEST: Kind =
    kind(403, Code::PermissionDenied, "cross_site_request", "Another site's page sent the request", false);
/// No such order, or another user's.
pub const ORDER_NOT_FOUND: Kind =
    kind(404, Code::NotFound, "order_not_found", "There is no such order", false);
/// No such path, or no such method of gRPC.
pub const ROUTE_NOT_FOUND: Kind =
    kind(404, Code::Unimplemented, "route_not_found", "There is nothing at this path", false);
/// The path has other methods.
pub const METHOD_NOT_ALLOWED: Kind =
    kind(405, Code::Unimplemented, "method_not_allowed", "The path does not take this method", false);
/// The body arrived too slowly.
pub const BODY_TIMEOUT: Kind =
    kind(408, Code::Unavailable, "body_timeout", "The body did not arrive in time", true);
/// The service keeps no history.
pub const HISTORY_OFF: Kind = kind(404, Code::NotFound, "history_off", "No history is kept", false);
/// The order has been deleted for good.
pub const ORDER_DELETED: Kind =
    kind(409, Code::FailedPrecondition, "order_deleted", "The order has been deleted", false);
/// The precondition of the request does not hold. `ABORTED` asks a client to read the order and decide again (AIP-154).
pub const PRECONDITION_FAILED: Kind =
    kind(412, Code::Aborted, "precondition_failed", "The order does not fulfil the precondition", false);
/// The body is over the limit. The code is the one that gRPC's own libraries use for it.
pub const BODY_TOO_LARGE: Kind =
    kind(413, Code::ResourceExhausted, "body_too_large", "The body is too large", false);
/// The body, or the message of gRPC, is compressed.
pub const UNSUPPORTED_CONTENT_ENCODING: Kind = kind(
    415,
    Code::Unimplemented,
    "unsupported_content_encoding",
    "The body is encoded in a way that is not supported",
    false,
);
/// The service does not answer to that name.
pub const MISDIRECTED_REQUEST: Kind = kind(
    421,
    Code::PermissionDenied,
    "misdirected_request",
    "The service does not answer to this host",
    false,
);
/// The key belongs to another request.
pub const KEY_REUSED: Kind =
    kind(422, Code::InvalidArgument, "idempotency_key_reused", "The key was used for another request", false);
/// A defect of the service.
pub const INTERNAL: Kind = kind(500, Code::Internal, "internal", "The service failed", false);
/// The order's row in the store cannot be read, or cannot take a change.
pub const ORDER_UNREADABLE: Kind =
    kind(500, Code::DataLoss, "order_unreadable", "The order's row cannot be read or changed", false);
/// The request was rejected before anything was stored.
pub const OVERLOADED: Kind = kind(503, Code::Unavailable, "overloaded", "The service is at its limit", true);
/// The store is not available; nothing was stored.
pub const STORE_UNAVAILABLE: Kind =
    kind(503, Code::Unavailable, "store_unavailable", "The order store is not available", true);
/// The store failed during the commit. It is neither 503 nor `UNAVAILABLE`, after which clients and proxies retry by
/// themselves: both promise that nothing was stored.
pub const OUTCOME_UNKNOWN: Kind =
    kind(500, Code::Unknown, "outcome_unknown", "Whether the order was stored is not known", false);
/// The caller's deadline passed before the response; only in gRPC.
pub const DEADLINE_EXCEEDED: Kind =
    kind(504, Code::DeadlineExceeded, "deadline_exceeded", "The caller's deadline has passed", false);

/// Every kind of problem, by status.
pub const TABLE: [Kind; 19] = [
    INVALID,
    CROSS_SITE_REQUEST,
    ORDER_NOT_FOUND,
    ROUTE_NOT_FOUND,
    HISTORY_OFF,
    METHOD_NOT_ALLOWED,
    BODY_TIMEOUT,
    ORDER_DELETED,
    PRECONDITION_FAILED,
    BODY_TOO_LARGE,
    UNSUPPORTED_CONTENT_ENCODING,
    MISDIRECTED_REQUEST,
    KEY_REUSED,
    INTERNAL,
    ORDER_UNREADABLE,
    OUTCOME_UNKNOWN,
    OVERLOADED,
    STORE_UNAVAILABLE,
    DEADLINE_EXCEEDED,
];

/// A problem with one request.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) kind: Kind,
    pub(super) detail: String,
    pub(super) order_id: Option<OrderId>,
    pub(super) current_version: Option<Version>,
    pub(super) retry_after: Option<Duration>,
}

impl Problem {
    /// A problem of that kind, with the detail for the caller.
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        let retry_after = (kind.status == 503).then_some(Duration::from_secs(1));
        Problem { kind, detail: detail.into(), order_id: None, current_version: None, retry_after }
    }

    fn of_order(self, order_id: Option<OrderId>) -> Problem {
        Problem { order_id, ..self }
    }
}

/// A pause in whole seconds, for `Retry-After`.
pub(super) fn seconds(pause: Duration) -> u64 {
    pause.as_secs().max(1)
}

/// The schema of a code.
pub(super) fn codes() -> Object {
    let codes = TABLE.map(|kind| kind.code);
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes)).build()
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let detail = error.to_string();
        match error {
            Error::Invalid(_) => Problem::new(INVALID, detail),
            Error::NotFound { order_id } => Problem::new(ORDER_NOT_FOUND, detail).of_order(order_id),
            Error::Deleted { order_id } => Problem::new(ORDER_DELETED, detail).of_order(Some(order_id)),
            Error::PreconditionFailed { order_id, current } => {
                let problem = Problem::new(PRECONDITION_FAILED, detail).of_order(Some(order_id));
                Problem { current_version: current, ..problem }
            }
            Error::Exists { order_id, version } => {
                let problem = Problem::new(PRECONDITION_FAILED, detail).of_order(Some(order_id));
                Problem { current_version: Some(version), ..problem }
            }
            Error::KeyReused => Problem::new(KEY_REUSED, detail),
            Error::HistoryOff => Problem::new(HISTORY_OFF, detail),
            Error::Overloaded { retry_after } => {
                Problem { retry_after: Some(retry_after), ..Problem::new(OVERLOADED, detail) }
            }
            Error::Unavailable => Problem::new(STORE_UNAVAILABLE, detail),
            Error::OutcomeUnknown { order_id } => {
                Problem::new(OUTCOME_UNKNOWN, detail).of_order(Some(order_id))
            }
            Error::Unreadable { order_id } => Problem::new(ORDER_UNREADABLE, detail).of_order(Some(order_id)),
            Error::Internal => Problem::new(INTERNAL, detail),
        }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Problem {
        Problem::from(Error::from(invalid))
    }
}
