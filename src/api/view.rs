//! The order as callers see it, and what they are told of a change. The schemas of both stand at the types that are
//! written.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

use super::problem::to_json;
use crate::order::{Order, Status};

/// An order.
#[derive(Serialize, ToSchema)]
pub(super) struct OrderBody<'a> {
    order: OrderView<'a>,
}

/// An order.
#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
struct OrderView<'a> {
    #[schema(format = "uuid")]
    order_id: String,
    /// The owner.
    #[schema(format = "uuid")]
    user_id: String,
    /// What it costs, exactly: more digits than a double has are no mistake.
    #[schema(schema_with = amount)]
    amount: Box<RawValue>,
    /// Where it stands.
    #[schema(schema_with = statuses)]
    status: &'a str,
    /// Why it could not be processed. Absent unless it `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    /// A number of its id, 0 to 3.
    #[schema(maximum = 3)]
    bucket: u8,
    /// How many changes were accepted: 1 of a new order.
    #[schema(minimum = 1)]
    version: i64,
}

fn amount() -> Object {
    ObjectBuilder::new().schema_type(Type::Number).build()
}

fn statuses() -> Object {
    let names = Status::ALL.map(Status::as_str);
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names)).build()
}

/// What became of a command.
#[derive(Serialize, ToSchema)]
pub(super) struct SubmittedBody<'a> {
    #[schema(format = "uuid")]
    pub(super) order_id: String,
    /// `created`, `updated` or `deleted`; `accepted` where the worker was not done in time.
    #[schema(schema_with = words)]
    pub(super) status: &'a str,
    /// `failed` where the order was accepted, and could not be processed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = failed)]
    pub(super) processing: Option<&'a str>,
}

fn words() -> Object {
    let words = ["created", "updated", "deleted", "accepted"];
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

fn failed() -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["failed"])).build()
}

/// `{"order":{...}}`. Amount and payload are copied digit for digit.
pub(super) fn order(order: &Order) -> Vec<u8> {
    to_json(&body(order))
}

fn body(order: &Order) -> OrderBody<'_> {
    // Both are JSON by their types' promises; a row that was damaged on disk shows as null.
    let amount =
        RawValue::from_string(order.amount.to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned());
    let payload = serde_json::from_str(order.payload.as_str()).unwrap_or(RawValue::NULL);
    OrderBody {
        order: OrderView {
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
        },
    }
}
