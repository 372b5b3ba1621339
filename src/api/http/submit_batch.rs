//! `POST /orders:batch`: many commands in one request, each with an outcome of its own. They use the same committer as
//! the commands of other callers, in their order, so that one commit includes as many as possible. An item never
//! affects another item's outcome.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use futures_util::future::join_all;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::{AnyOfBuilder, Schema};

use super::change::key;
use super::change_response::{OutcomeBody, outcome_of, status};
use super::conditions;
use super::prefer::{PREFERENCE_APPLIED, Preferences};
use super::request_bodies::{self, batch};
use super::response::{ReservedMemory, json as json_response};
use crate::api::body::{self, PLAIN};
use crate::api::caller::Caller;
use crate::api::openapi::parameters::{IdempotencyKey, Prefer};
use crate::api::openapi::problems::{problem, problems};
use crate::api::openapi::responses::{applied, json as body_of, responses, saying};
use crate::api::openapi::schema::reference;
use crate::api::options::MAX_BATCH_COMMANDS;
use crate::api::problem::{
    BODY_TIMEOUT, BODY_TOO_LARGE, CROSS_SITE_REQUEST, INTERNAL, INVALID, MISDIRECTED_REQUEST, OVERLOADED,
    Problem, UNSUPPORTED_CONTENT_ENCODING, seconds,
};
use crate::api::problem_body::{DeletedBody, ProblemBody, to_json};
use crate::api::state::ApiState;
use crate::api::submission::Submission;
use crate::error::Error;
use crate::order::{self, Invalid, KeyText, Version, pick};
use crate::service::quota::Permit;
use crate::service::{CommandReceipt, Deadline};

/// The bytes of an item besides its text: its entry in the queue, its waiter, its part of the response.
const ITEM_OVERHEAD: usize = 512;

/// The outcome of each item, in the order of the items.
#[derive(Serialize, ToSchema)]
#[schema(as = BatchOutcome)]
pub(super) struct BatchBody {
    results: Vec<ItemResult>,
}

/// The response of `POST /orders` to one item.
#[derive(Serialize, ToSchema)]
struct ItemResult {
    /// The HTTP status.
    status: u16,
    /// The version of the order after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = i64, required = false)]
    version: Option<Version>,
    /// `true` where the same item was accepted before, under the same key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    replayed: Option<bool>,
    /// The seconds to wait before the item is sent again. Absent unless its status is 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, nullable = false)]
    retry_after: Option<u64>,
    /// The body of that response.
    #[schema(schema_with = any_answer)]
    body: ItemBody,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ItemBody {
    Accepted(OutcomeBody<'static>),
    Rejected(Box<RawValue>),
}

/// Create, update and delete many orders
///
/// Each item is a separate request with a separate outcome; the items are carried out in their order. An
/// `Idempotency-Key` applies to each item together with the item's index.
#[utoipa::path(
    post, path = "/orders:batch", tag = "orders",
    params(IdempotencyKey, Prefer),
    request_body(content = request_bodies::Batch, content_type = "application/json", example = json!(batch())),
    responses(BatchOutcomes, BatchProblems)
)]
pub(super) async fn submit_batch(
    State(api): State<Arc<ApiState>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    conditions::only(&[], &head.headers)?;
    let body = body::read(body, &api.options, &caller, PLAIN).await?;
    let (key, request_id) = (key(&head.headers)?, caller.request_id.clone());
    let read = move |text: &str| {
        let items = items(text)?;
        // Items that are rejected also wait for the others, and are part of the response.
        let memory = caller.take(items.len() * ITEM_OVERHEAD)?;
        let items = items.into_iter().enumerate();
        let requests = items.map(|(index, item)| item_request(item.get(), key.as_ref(), index, &caller));
        Ok((requests.collect(), memory))
    };
    // The body is dropped here: each item holds its own text.
    let ((items, mut memory), _): ((Vec<Item>, Permit), Permit) = body.read(read).await?;
    let preferences = Preferences::read(&head.headers);
    let deadline = api.service.deadline(preferences.wait_policy());
    // The futures are polled in the order of the items, so the items are queued in that order.
    let outcomes = join_all(items.into_iter().map(|item| submit(&api, item, deadline))).await;
    let request_id = &request_id;
    let results = outcomes.iter().map(|outcome| result(outcome, request_id)).collect();
    let text = to_json(&BatchBody { results });
    // The memory of the items is usually enough. Where it is not, and no more is left, the response counts too little.
    let _ = memory.grow(text.len().saturating_sub(memory.units()));
    let mut response = json_response(StatusCode::MULTI_STATUS, text);
    response.extensions_mut().insert(ReservedMemory::of(memory));
    if let Some(applied) = preferences.applied_to_write(false, api.service.longest_wait()) {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// The items of a batch, as they were written.
fn items(text: &str) -> Result<Vec<&RawValue>, Invalid> {
    let [orders] =
        pick(text, ["orders"]).map_err(|error| Invalid::new("body", format!("not valid JSON: {error}")))?;
    let invalid = || {
        Invalid::new(
            "orders",
            format!("send an array of 1 to {MAX_BATCH_COMMANDS} orders, as {{\"orders\":[...]}}"),
        )
    };
    let orders: Vec<&RawValue> =
        serde_json::from_str(orders.ok_or_else(invalid)?.get()).map_err(|_| invalid())?;
    if (1..=MAX_BATCH_COMMANDS).contains(&orders.len()) { Ok(orders) } else { Err(invalid()) }
}

/// The request of one item, and its memory.
type Item = Result<(order::CommandRequest, Permit), Problem>;

fn item_request(text: &str, key: Option<&KeyText>, index: usize, caller: &Caller) -> Item {
    let memory = caller.take(text.len())?;
    let command = Submission::from_json(text)?.into_command()?;
    let key = key.map(|key| key.item(index).of(&command));
    Ok((order::CommandRequest { command, key }, memory))
}

async fn submit(api: &ApiState, item: Item, deadline: Deadline) -> Result<CommandReceipt, Problem> {
    let (request, memory) = item?;
    Ok(api.service.submit_by(request, deadline, memory.into()).await?)
}

/// The result of one item.
fn result(outcome: &Result<CommandReceipt, Problem>, request_id: &HeaderValue) -> ItemResult {
    match outcome {
        Ok(receipt) => ItemResult {
            status: status(receipt).as_u16(),
            version: Some(receipt.version),
            replayed: receipt.replayed.then_some(true),
            retry_after: None,
            body: ItemBody::Accepted(OutcomeBody::of(receipt, None)),
        },
        Err(problem) => {
            let (_, body) = problem.body(request_id, false);
            // The body was just written as JSON, so it parses.
            let body = String::from_utf8(body).ok().and_then(|body| RawValue::from_string(body).ok());
            let (status, body) = (problem.kind.status, body.unwrap_or_else(|| RawValue::NULL.to_owned()));
            let retry_after = problem.retry_after.map(seconds);
            ItemResult { status, version: None, replayed: None, retry_after, body: ItemBody::Rejected(body) }
        }
    }
}

responses! {
    /// The outcomes of many commands.
    BatchOutcomes: "207" => saying("The outcome of each item, in the order of the items.")
        .content("application/json", body_of::<BatchBody>(example()))
        .header("Preference-Applied", applied());
}

problems! {
    /// The problems of a batch as a whole.
    BatchProblems: INVALID, CROSS_SITE_REQUEST, BODY_TIMEOUT, BODY_TOO_LARGE, UNSUPPORTED_CONTENT_ENCODING,
        MISDIRECTED_REQUEST, INTERNAL, OVERLOADED;
}

/// The schema of the response to one item, whether it was accepted or not.
fn any_answer() -> Schema {
    AnyOfBuilder::new()
        .item(reference::<OutcomeBody>())
        .item(reference::<ProblemBody>())
        .item(reference::<DeletedBody>())
        .into()
}

/// An example for the document.
fn example() -> Value {
    let created = json!({"status": 201, "version": 1, "body": outcome_of("created")});
    let rejected = json!({"status": 404, "body": problem(Error::NotFound { order_id: None })});
    json!({"results": [created, rejected]})
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Error;
    use crate::order::OrderId;

    #[test]
    fn the_result_of_a_retryable_item_names_the_pause() {
        let pause = |error: Error| {
            let body = to_json(&result(&Err(error.into()), &HeaderValue::from_static("")));
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()["retry_after"].clone()
        };
        assert_eq!(pause(Error::Overloaded { retry_after: Duration::from_secs(3) }), 3);
        assert_eq!(pause(Error::Unavailable), 1);
        for error in
            [Error::OutcomeUnknown { order_id: OrderId::generate() }, Error::NotFound { order_id: None }]
        {
            assert_eq!(pause(error), serde_json::Value::Null);
        }
    }
}
