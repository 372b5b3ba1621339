//! A history event as JSON, for the `data` of an event of a stream, and the words for causes that the history shares.
//! Nothing here reads the history. The JSON is always one line, as `data` requires: a line break in a reason is
//! escaped. An amount is copied digit for digit. `causes` must list every word that `by` returns, because the schema is
//! made of it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa::openapi::schema::Object;

use super::order_body::number;
use crate::api::openapi::schema::{any_number, statuses, word_of};
use crate::api::problem_body::to_json;
use crate::order::{Cause, HistoryEvent, Status, Version};

/// A history event of an order: the `data` of an event of a stream.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryEvent)]
pub(super) struct HistoryEventBody<'a> {
    #[schema(format = "uuid")]
    order_id: String,
    #[schema(format = "uuid")]
    user_id: String,
    #[schema(value_type = i64)]
    version: Version,
    /// The status of the order after it.
    #[schema(schema_with = statuses)]
    status: &'static str,
    /// The cause of the change.
    #[schema(schema_with = causes)]
    by: &'static str,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The amount, where the processing set it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any_number, required = false)]
    amount: Option<Box<RawValue>>,
    /// The reason of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'a str>,
}

/// A history event on one line.
pub(super) fn history_event(event: &HistoryEvent) -> Vec<u8> {
    to_json(&HistoryEventBody {
        order_id: event.order_id.to_string(),
        user_id: event.user_id.to_string(),
        version: event.version,
        status: event.status.as_str(),
        by: by(event),
        at: event.at,
        amount: event.amount.as_ref().map(number),
        reason: event.reason.as_deref(),
    })
}

/// The word for the cause of a history event.
pub(super) fn by(event: &HistoryEvent) -> &'static str {
    match (event.cause, event.status) {
        (Cause::Command, Status::New) => "create",
        (Cause::Command, Status::Deleted) => "delete",
        (Cause::Command, _) => "update",
        (Cause::Worker, _) => "worker",
        (Cause::Event, _) => "event",
    }
}

/// Every word that [`by`] returns.
pub(super) fn causes() -> Object {
    word_of(["create", "update", "delete", "worker", "event"])
}
