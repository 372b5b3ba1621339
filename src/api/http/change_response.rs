//! The response to a change of one order: its status, headers and body, with the order where the caller prefers it. The
//! three handlers that change an order share it, and a batch has the same body for each of its items. A response to an
//! accepted change is never turned into an error.

use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{ETAG, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::Object;

use super::etag::Tag;
use super::order_body::OrderView;
use super::prefer::{PREFERENCE_APPLIED, Preferences};
use super::response::{ReservedMemory, hold, json as json_response};
use crate::api::blocking::write;
use crate::api::caller::Caller;
use crate::api::openapi::responses::{applied, etag, header, json as body, location, retry_after, saying};
use crate::api::openapi::schema::{ORDER, text, word_of};
use crate::api::outcome;
use crate::api::problem_body::to_json;
use crate::api::reads::ReadGuard;
use crate::api::state::ApiState;
use crate::order::Order;
use crate::service::quota::Permit;
use crate::service::{Change, CommandReceipt, Deadline, ProcessingState};

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The outcome of a command.
#[derive(Serialize, ToSchema)]
#[schema(as = Outcome)]
pub(super) struct OutcomeBody<'a> {
    #[schema(format = "uuid")]
    order_id: String,
    /// `created`, `updated` or `deleted`; `accepted` where the order was not processed in time.
    #[schema(schema_with = words)]
    status: &'static str,
    /// `failed` where the order was accepted and its processing failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = failed)]
    processing: Option<&'static str>,
    /// The order, where the caller prefers `return=representation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    order: Option<OrderView<'a>>,
}

fn words() -> Object {
    word_of(outcome::STATUSES)
}

fn failed() -> Object {
    word_of([outcome::FAILED])
}

impl OutcomeBody<'_> {
    /// The outcome of an accepted command, with the order where the caller prefers it.
    pub(super) fn of<'a>(receipt: &CommandReceipt, order: Option<&'a Order>) -> OutcomeBody<'a> {
        OutcomeBody {
            order_id: receipt.order_id.to_string(),
            status: outcome::status(receipt),
            processing: outcome::processing(receipt),
            order: order.map(OrderView::of),
        }
    }
}

/// The response to an accepted command, with the order where the caller prefers it.
pub(super) async fn answer(
    api: &ApiState,
    caller: &Caller,
    receipt: &CommandReceipt,
    preferences: Preferences,
    deadline: Deadline,
) -> Response {
    let shown = match preferences.wants_representation() {
        true => Box::pin(show(api, caller, *receipt, deadline)).await,
        false => None,
    };
    let is_shown = shown.is_some();
    let status = status(receipt);
    let (mut response, tag) = match shown {
        Some(Shown { text, tag, memory, guard }) => {
            let mut response = json_response(status, text);
            response.extensions_mut().insert(ReservedMemory::of(memory));
            hold(&mut response, guard);
            (response, tag)
        }
        None => (json_response(status, to_json(&OutcomeBody::of(receipt, None))), Tag::of_receipt(receipt)),
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, tag.to_header());
    if matches!(status, StatusCode::CREATED | StatusCode::ACCEPTED)
        && let Ok(location) = HeaderValue::try_from(format!("/orders/{}", receipt.order_id))
    {
        headers.insert(LOCATION, location);
    }
    if status == StatusCode::ACCEPTED {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if receipt.replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    if let Some(applied) = preferences.applied_to_write(is_shown, api.service.longest_wait()) {
        headers.insert(PREFERENCE_APPLIED, applied);
    }
    response
}

/// The text of a response that shows the order.
struct Shown {
    text: Vec<u8>,
    tag: Tag,
    memory: Permit,
    guard: ReadGuard,
}

/// Reads the order for the response. Returns `None` where it cannot be read now, or memory is short: the change is
/// stored, and the response is sent without the order.
async fn show(api: &ApiState, caller: &Caller, receipt: CommandReceipt, deadline: Deadline) -> Option<Shown> {
    let (guard, order) = api.read_order(caller, receipt.order_id, deadline.answer()).await.ok()?;
    let (size, tag) = (order.payload.as_str().len(), Tag::of_order(&order));
    let memory = caller.take(size).ok()?;
    let text = write(size, move || to_json(&OutcomeBody::of(&receipt, Some(&order)))).await.ok()?;
    Some(Shown { text, tag, memory, guard })
}

/// The HTTP status of an accepted command.
pub(super) fn status(receipt: &CommandReceipt) -> StatusCode {
    match (receipt.progress, receipt.change) {
        (ProcessingState::Pending, _) => StatusCode::ACCEPTED,
        (_, Change::Created) => StatusCode::CREATED,
        (_, Change::Updated | Change::Deleted) => StatusCode::OK,
    }
}

/// The description of a 202.
pub(super) const PENDING: &str = "The order is stored and will be processed; it was not processed within the time that \
    the caller waits.";

/// The response to a change that was carried out.
pub(super) fn changed(description: &str, status: &str) -> ResponseBuilder {
    put(description, status).header("ETag", etag("\"v1\"")).header(
        "Idempotency-Replayed",
        header("`true` where the request was accepted before under the same key.", text("^true$"), "true"),
    )
}

/// The response to a change that is stored and not processed yet.
pub(super) fn pending() -> ResponseBuilder {
    changed(PENDING, "accepted").header("Location", location()).header("Retry-After", retry_after())
}

/// The response to a `PUT`. It has no tag, because the stored order differs from the body that was sent.
pub(super) fn put(description: &str, status: &str) -> ResponseBuilder {
    saying(description)
        .content("application/json", body::<OutcomeBody>(outcome_of(status)))
        .header("Preference-Applied", applied())
}

/// An example of a body with that status.
pub(super) fn outcome_of(status: &str) -> Value {
    json!({"order_id": ORDER, "status": status})
}
