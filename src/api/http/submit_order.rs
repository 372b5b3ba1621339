//! `POST /orders`, which creates, updates or deletes an order, for clients with one kind of request for all three. The
//! command follows from the fields of the body alone: no header changes its kind, and `If-Match` on a creation is
//! rejected, because a new order has no version. It relies on `api::submission` for the rules of the fields and on
//! `change` for the rest. A long body is parsed on a blocking thread.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use hyper::header::IF_MATCH;
use hyper::http::request::Parts;

use super::change::{allowed, key, submit};
use super::change_response::{changed, pending};
use super::conditions;
use super::preconditions::IfMatch;
use super::request_bodies::{self, deletion, new_order, update};
use crate::api::body::{self, PLAIN};
use crate::api::caller::Caller;
use crate::api::openapi::parameters::{IdempotencyKey, IfMatch as IfMatchHeader, Prefer};
use crate::api::openapi::problems::problems;
use crate::api::openapi::responses::{location, responses};
use crate::api::problem::{
    BODY_TIMEOUT, BODY_TOO_LARGE, CROSS_SITE_REQUEST, INTERNAL, INVALID, KEY_REUSED, MISDIRECTED_REQUEST,
    ORDER_DELETED, ORDER_NOT_FOUND, ORDER_UNREADABLE, OUTCOME_UNKNOWN, OVERLOADED, PRECONDITION_FAILED,
    Problem, STORE_UNAVAILABLE, UNSUPPORTED_CONTENT_ENCODING,
};
use crate::api::state::ApiState;
use crate::api::submission::Submission;
use crate::order::{self, Command, Invalid};

/// Create, update or delete an order
///
/// The response is sent when the order has been processed, or when the wait for that times out.
#[utoipa::path(
    post, path = "/orders", tag = "orders",
    params(IdempotencyKey, IfMatchHeader, Prefer),
    request_body(
        content = request_bodies::Submission, content_type = "application/json",
        examples(
            ("create" = (summary = "Create", value = json!(new_order()))),
            ("update" = (summary = "Update", value = json!(update()))),
            ("delete" = (summary = "Delete", value = json!(deletion()))),
        ),
    ),
    responses(Submitted, WriteProblems)
)]
pub(super) async fn submit_order(
    State(api): State<Arc<ApiState>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let (Parts { headers, .. }, body) = request.into_parts();
    conditions::only(&[IF_MATCH], &headers)?;
    let body = body::read(body, &api.options, &caller, PLAIN).await?;
    let (key, if_match) = (key(&headers)?, IfMatch::read(&headers)?);
    let read = move |text: &str| {
        let mut submission = Submission::from_json(text)?;
        let (has_condition, versions) = (if_match.is_some(), allowed(if_match, &mut submission)?);
        let command = submission.into_command()?;
        if has_condition && matches!(command, Command::Create { .. }) {
            return Err(Invalid::new("If-Match", "a new order has no version yet; leave it out").into());
        }
        let key = key.map(|key| key.of(&command));
        Ok((order::CommandRequest { command, key }, versions))
    };
    let ((request, versions), memory) = body.read(read).await?;
    submit(&api, &caller, request, &versions, &headers, memory).await
}

responses! {
    /// A command that was accepted.
    Submitted:
        "200" => changed("The order was updated, or deleted.", "updated"),
        "201" => changed("The order was created.", "created").header("Location", location()),
        "202" => pending();
}

problems! {
    /// The problems of a write.
    WriteProblems: INVALID, CROSS_SITE_REQUEST, ORDER_NOT_FOUND, BODY_TIMEOUT, ORDER_DELETED, PRECONDITION_FAILED,
        BODY_TOO_LARGE, UNSUPPORTED_CONTENT_ENCODING, MISDIRECTED_REQUEST, KEY_REUSED, INTERNAL, ORDER_UNREADABLE,
        OVERLOADED, STORE_UNAVAILABLE, OUTCOME_UNKNOWN;
}
