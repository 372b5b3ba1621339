//! One event of an order's history as JSON: the `data` of an event of a stream, and the words that the history shares.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::order_body::number;
use crate::api::openapi::schema::{any_number, statuses, word_of};
use crate::api::problem_body::to_json;
use crate::order::{Cause, HistoryEvent, Status, Version};

/// One step of an order's history: the `data` of an event of a stream.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryEvent)]
pub(super) struct HistoryEventBody<'a> {
    #[schema(format = "uuid")]
    order_id: String,
    #[schema(format = "uuid")]
    user_id: String,
    #[schema(value_type = i64)]
    version: Version,
    /// The status of the order then.
    #[schema(schema_with = statuses)]
    status: &'static str,
    /// What changed it.
    #[schema(schema_with = causes)]
    by: &'static str,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The amount that was set, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any_number, required = false)]
    amount: Option<Box<RawValue>>,
    /// Why it could not be processed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'a str>,
}

/// A step by itself, on one line.
pub(super) fn step(step: &HistoryEvent) -> Vec<u8> {
    to_json(&HistoryEventBody {
        order_id: step.order_id.to_string(),
        user_id: step.user_id.to_string(),
        version: step.version,
        status: step.status.as_str(),
        by: by(step),
        at: step.at,
        amount: step.amount.as_ref().map(number),
        reason: step.reason.as_deref(),
    })
}

/// The word for what made a step.
pub(super) fn by(step: &HistoryEvent) -> &'static str {
    match (step.cause, step.status) {
        (Cause::Command, Status::New) => "create",
        (Cause::Command, Status::Deleted) => "delete",
        (Cause::Command, _) => "update",
        (Cause::Worker, _) => "worker",
        (Cause::Event, _) => "event",
    }
}

/// Every word that [`by`] gives.
pub(super) fn causes() -> Object {
    word_of(["create", "update", "delete", "worker", "event"])
}
