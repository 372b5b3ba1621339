//! The order as callers see it, and what they are told of a change. The schemas of both stand at the types that are
//! written.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use crate::api::problem::to_json;
use crate::order::{Amount, Order, Status};

/// An order.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct OrderBody<'a> {
    order: OrderView<'a>,
}

/// An order's members. Amount and payload are copied digit for digit.
#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
pub(in crate::api) struct OrderView<'a> {
    #[schema(format = "uuid")]
    order_id: String,
    /// The owner.
    #[schema(format = "uuid")]
    user_id: String,
    /// What it costs, exactly: it may have more digits than a double holds.
    #[schema(schema_with = any_number)]
    amount: Box<RawValue>,
    /// Where it stands.
    #[schema(schema_with = statuses)]
    status: &'a str,
    /// Why it could not be processed. Absent unless it `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'a str>,
    /// The content as it was sent, digit for digit.
    #[schema(value_type = serde_json::Value)]
    payload: &'a RawValue,
    /// When it was accepted; UTC, at most microseconds.
    #[schema(value_type = String, format = DateTime)]
    created_at: jiff::Timestamp,
    /// When it was last changed, be it by the worker.
    #[schema(value_type = String, format = DateTime)]
    updated_at: jiff::Timestamp,
    /// A number of its id, 0 to 3; another one where another service stored it.
    bucket: i32,
    /// How many changes were accepted: 1 of a new order.
    #[schema(minimum = 1)]
    version: i64,
}

/// What became of a command.
#[derive(Serialize, ToSchema)]
#[schema(as = Outcome)]
pub(in crate::api) struct SubmittedBody<'a> {
    #[schema(format = "uuid")]
    pub(in crate::api) order_id: String,
    /// `created`, `updated` or `deleted`; `accepted` where the worker was not done in time.
    #[schema(schema_with = words)]
    pub(in crate::api) status: &'static str,
    /// `failed` where the order was accepted, and could not be processed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = failed)]
    pub(in crate::api) processing: Option<&'static str>,
    /// The order, where the caller prefers `return=representation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(in crate::api) order: Option<OrderView<'a>>,
}

/// A number without bounds.
pub(in crate::api) fn any_number() -> Object {
    ObjectBuilder::new().schema_type(Type::Number).build()
}

/// Where an order may stand.
pub(in crate::api) fn statuses() -> Object {
    one_of(Status::ALL.map(Status::as_str))
}

fn words() -> Object {
    one_of(["created", "updated", "deleted", "accepted"])
}

fn failed() -> Object {
    one_of(["failed"])
}

/// One of some words.
pub(in crate::api) fn one_of<const N: usize>(words: [&str; N]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

impl OrderView<'_> {
    pub(in crate::api) fn of(order: &Order) -> OrderView<'_> {
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
            bucket: order.bucket,
            version: order.version,
        }
    }
}

/// `{"order":{...}}`.
pub(in crate::api) fn order(order: &Order) -> Vec<u8> {
    to_json(&OrderBody { order: OrderView::of(order) })
}

/// An amount as a JSON number, digit for digit, which it is by its type's promise.
pub(in crate::api) fn number(amount: &Amount) -> Box<RawValue> {
    RawValue::from_string(amount.to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
