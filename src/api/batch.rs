//! `POST /orders:batch`: many commands in one request, each with an outcome of its own. All of them go through the same
//! lanes as those of other callers, in their order, so that one commit carries as many as it can.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::future::join_all;
use hyper::StatusCode;
use serde_json::value::RawValue;

use super::edge::RequestId;
use super::http::{Shared, json, read_body, utf8};
use super::prefer::{PREFERENCE_APPLIED, Preferences};
use super::problem::Problem;
use super::writes::{body, key, status};
use crate::order::{self, Invalid, KeyText, Submission, pick};
use crate::service::{Patience, Receipt};

/// The most commands in a batch.
const LIMIT: usize = 1000;

/// `POST /orders:batch`. An `Idempotency-Key` counts for each item by its place.
pub(super) async fn submit_batch(
    State(api): State<Arc<Shared>>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let body = read_body(body, &api.options).await?;
    let key = key(&head.headers)?;
    let items = items(utf8(&body)?)?;
    let preferences = Preferences::read(&head.headers);
    let patience = preferences.patience();
    // Polled in their order, and so they stand in the lane.
    let outcomes = items.iter().enumerate().map(|(index, item)| {
        let key = key.as_ref().map(|key| key.item(index));
        submit(&api, item.get(), key, patience)
    });
    let outcomes = join_all(outcomes).await;
    let request_id = head.extensions.get::<RequestId>();
    let results: Vec<String> = outcomes.iter().map(|outcome| result(outcome, request_id)).collect();
    let text = format!(r#"{{"results":[{}]}}"#, results.join(","));
    let mut response = json(StatusCode::MULTI_STATUS, text.into_bytes());
    if let Some(applied) = preferences.applied_to_write(false) {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// The items of a batch, as they were written.
fn items(text: &str) -> Result<Vec<&RawValue>, Invalid> {
    let [orders] =
        pick(text, ["orders"]).map_err(|error| Invalid::new("body", format!("not valid JSON: {error}")))?;
    let refused =
        || Invalid::new("orders", format!("send an array of 1 to {LIMIT} orders, as {{\"orders\":[...]}}"));
    let orders: Vec<&RawValue> =
        serde_json::from_str(orders.ok_or_else(refused)?.get()).map_err(|_| refused())?;
    if (1..=LIMIT).contains(&orders.len()) { Ok(orders) } else { Err(refused()) }
}

async fn submit(
    api: &Shared,
    item: &str,
    key: Option<KeyText>,
    patience: Patience,
) -> Result<Receipt, Problem> {
    let command = Submission::from_json(item)?.into_command()?;
    let key = key.map(|key| key.of(&command));
    Ok(api.service.submit(order::Request { command, key }, patience).await?)
}

/// What `POST /orders` would have answered to one item: its status, and its body.
fn result(outcome: &Result<Receipt, Problem>, request_id: Option<&RequestId>) -> String {
    match outcome {
        Ok(receipt) => {
            let (status, version, body) = (status(receipt).as_u16(), receipt.version, body(receipt, None));
            let replayed = if receipt.replayed { r#","replayed":true"# } else { "" };
            format!(r#"{{"status":{status},"version":{version}{replayed},"body":{body}}}"#)
        }
        Err(problem) => {
            let (status, body) = problem.inside(request_id);
            format!(r#"{{"status":{status},"body":{body}}}"#)
        }
    }
}
