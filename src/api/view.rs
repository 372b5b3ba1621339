//! The order as callers see it.

use serde::Serialize;
use serde_json::value::RawValue;

use super::problem::to_json;
use crate::order::Order;

#[derive(Serialize)]
struct OrderBody<'a> {
    order: OrderView<'a>,
}

#[derive(Serialize)]
struct OrderView<'a> {
    order_id: String,
    user_id: String,
    amount: Box<RawValue>,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    payload: &'a RawValue,
    created_at: jiff::Timestamp,
    updated_at: jiff::Timestamp,
    bucket: u8,
    version: i64,
}

/// `{"order":{...}}`.
pub(super) fn order(order: &Order) -> Vec<u8> {
    to_json(&OrderBody { order: view(order) })
}

/// The object inside of it.
pub(super) fn order_object(order: &Order) -> String {
    String::from_utf8(to_json(&view(order))).unwrap_or_default()
}

/// Amount and payload are copied digit for digit.
fn view(order: &Order) -> OrderView<'_> {
    // Both are JSON by their types' promises; a row that was damaged on disk shows as null.
    let amount =
        RawValue::from_string(order.amount.to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned());
    let payload = serde_json::from_str(order.payload.as_str()).unwrap_or(RawValue::NULL);
    OrderView {
        order_id: order.id.to_string(),
        user_id: order.user_id.to_string(),
        amount,
        status: order.status.as_str(),
        reason: order.reason.as_deref(),
        payload,
        created_at: order.created_at,
        updated_at: order.updated_at,
        bucket: order.id.bucket(),
        version: order.version,
    }
}
