//! The order as callers see it.

use serde::Serialize;
use serde_json::value::RawValue;

use super::problem::to_json;
use crate::order::{Amount, Order};

#[derive(Serialize)]
struct OrderBody<'a> {
    order: OrderView<'a>,
}

/// An order's members. Amount and payload are copied digit for digit.
#[derive(Serialize)]
pub(super) struct OrderView<'a> {
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

impl OrderView<'_> {
    pub(super) fn of(order: &Order) -> OrderView<'_> {
        OrderView {
            order_id: order.id.to_string(),
            user_id: order.user_id.to_string(),
            amount: number(&order.amount),
            status: order.status.as_str(),
            reason: order.reason.as_deref(),
            // JSON by its type's promise; a row that was damaged on disk shows as null.
            payload: serde_json::from_str(order.payload.as_str()).unwrap_or(RawValue::NULL),
            created_at: order.created_at,
            updated_at: order.updated_at,
            bucket: order.id.bucket(),
            version: order.version,
        }
    }
}

/// `{"order":{...}}`.
pub(super) fn order(order: &Order) -> Vec<u8> {
    to_json(&OrderBody { order: OrderView::of(order) })
}

/// The object inside of it.
pub(super) fn order_object(order: &Order) -> String {
    String::from_utf8(to_json(&OrderView::of(order))).unwrap_or_default()
}

/// An amount as a JSON number, digit for digit, which it is by its type's promise.
pub(super) fn number(amount: &Amount) -> Box<RawValue> {
    RawValue::from_string(amount.to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
