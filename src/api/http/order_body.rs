//! The order as HTTP returns it: the members, and the JSON text. The schema is derived from the type that is written,
//! so that the two cannot differ. Amount and payload are copied digit for digit, and must never pass through a float.
//! The view borrows from the order, so the payload is copied only into the text. A payload that is not JSON, as in a
//! row that was damaged on disk, shows as `null`.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::api::openapi::schema::{ORDER, USER, any_number, statuses};
use crate::api::problem_body::to_json;
use crate::order::{Amount, Order};

/// An order.
#[derive(Serialize, ToSchema)]
pub(super) struct OrderBody<'a> {
    order: OrderView<'a>,
}

/// An order's members. Amount and payload are copied digit for digit.
#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
pub(super) struct OrderView<'a> {
    #[schema(format = "uuid")]
    order_id: String,
    /// The owner.
    #[schema(format = "uuid")]
    user_id: String,
    /// The amount, exactly: it may have more digits than a double holds.
    #[schema(schema_with = any_number)]
    amount: Box<RawValue>,
    /// The status.
    #[schema(schema_with = statuses)]
    status: &'a str,
    /// The reason of the failure. Absent unless the status is `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'a str>,
    /// The content, unchanged digit for digit.
    #[schema(value_type = serde_json::Value)]
    payload: &'a RawValue,
    /// When the order was accepted; UTC, at most microseconds.
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
    /// When the order was last changed, by a caller or by the worker.
    #[schema(value_type = String, format = DateTime)]
    updated_at: jiff::Timestamp,
    /// A number derived from the order's id, 0 to 3; any number where another service stored the order.
    bucket: i32,
    /// The number of accepted changes: 1 for a new order.
    #[schema(minimum = 1)]
    version: i64,
}

impl OrderView<'_> {
    /// The view of an order.
    pub(super) fn of(order: &Order) -> OrderView<'_> {
        OrderView {
            order_id: order.id.to_string(),
            user_id: order.user_id.to_string(),
            amount: number(&order.amount),
            status: order.status.as_str(),
            reason: order.reason.as_deref(),
            // A payload is always JSON; a row that was damaged on disk shows as null.
            payload: serde_json::from_str(order.payload.as_str()).unwrap_or(RawValue::NULL),
            created_at: order.created_at,
            updated_at: order.updated_at,
            bucket: order.bucket,
            version: order.version,
        }
    }
}

/// `{"order":{...}}`.
pub(super) fn order(order: &Order) -> Vec<u8> {
    to_json(&OrderBody { order: OrderView::of(order) })
}

/// An amount as a JSON number, digit for digit. Every amount is one.
pub(super) fn number(amount: &Amount) -> Box<RawValue> {
    RawValue::from_string(amount.to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// An example for the document.
pub(super) fn example() -> Value {
    json!({
        "order_id": ORDER,
        "user_id": USER,
        "amount": 19.80,
        "status": "done",
        "payload": {"id": "A-1", "items": [{"price": 9.90, "qty": 2}]},
        "created_at": "2025-10-09T08:53:20.123456Z",
        "updated_at": "2025-10-09T08:53:20.131072Z",
        "bucket": 2,
        "version": 1,
    })
}
