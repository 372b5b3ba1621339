//! `PUT /orders/{order_id}`: creates an order under an id that the caller chose, or replaces its content. It is safe to
//! repeat without a key: a repetition never creates a second order. `If-None-Match: *` only creates, `If-Match` or a
//! version in the body only updates, and both together are rejected. The response must never have an `ETag`: the stored
//! order differs from the body that was sent. The id of all zeros is rejected, because it does not identify an order.

use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use hyper::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use hyper::http::request::Parts;

use super::change::{allowed, deadline, for_one_of};
use super::change_response::{PENDING, answer, put};
use super::conditions;
use super::path::{Segment, order_id_of};
use super::preconditions::{IfMatch, must_not_exist};
use super::prefer::Preferences;
use super::request_bodies::{self, put as put_example};
use crate::api::body::{self, PLAIN};
use crate::api::caller::Caller;
use crate::api::openapi::parameters::{IfMatch as IfMatchHeader, OrderInPath, Prefer, header, parameters};
use crate::api::openapi::problems::problems;
use crate::api::openapi::responses::{location, responses, retry_after};
use crate::api::openapi::schema::text;
use crate::api::problem::{
    BODY_TIMEOUT, BODY_TOO_LARGE, CROSS_SITE_REQUEST, INTERNAL, INVALID, MISDIRECTED_REQUEST, ORDER_DELETED,
    ORDER_NOT_FOUND, ORDER_UNREADABLE, OUTCOME_UNKNOWN, OVERLOADED, PRECONDITION_FAILED, Problem,
    STORE_UNAVAILABLE, UNSUPPORTED_CONTENT_ENCODING,
};
use crate::api::state::ApiState;
use crate::api::submission::Submission;
use crate::order::{self, Invalid};
use crate::service::PutMode;

/// Create an order under an id of your own, or replace its content
///
/// The request can safely be sent again. With `If-None-Match: *` an existing order stays unchanged. An id of all zeros
/// is rejected: it does not identify an order.
#[utoipa::path(
    put, path = "/orders/{order_id}", tag = "orders",
    params(OrderInPath, IfMatchHeader, MustNotExist, Prefer),
    request_body(content = request_bodies::PutOrder, content_type = "application/json", example = json!(put_example())),
    responses(PutOutcome, PutProblems)
)]
pub(super) async fn put_order(
    State(api): State<Arc<ApiState>>,
    Extension(caller): Extension<Caller>,
    order_id: Segment,
    request: Request,
) -> Result<Response, Problem> {
    let order_id = order_id_of(order_id)?;
    if order_id.is_nil() {
        return Err(
            Invalid::new("order_id", "all zeros do not identify an order; choose a random UUID").into()
        );
    }
    let (Parts { headers, .. }, body) = request.into_parts();
    conditions::only(&[IF_MATCH, IF_NONE_MATCH], &headers)?;
    let body = body::read(body, &api.options, &caller, PLAIN).await?;
    let (if_match, must_not_exist) = (IfMatch::read(&headers)?, must_not_exist(&headers)?);
    let has_condition = if_match.is_some();
    let read = move |text: &str| {
        let mut submission = Submission::from_json(text)?;
        let versions = allowed(if_match, &mut submission)?;
        Ok((submission.into_put(order_id)?, versions))
    };
    let ((put, versions), memory) = body.read(read).await?;
    let mode = match (must_not_exist, has_condition || put.if_version.is_some()) {
        (true, true) => {
            let fix = "an order cannot be new and have a version; send this header, or If-Match or a version";
            return Err(Invalid::new("If-None-Match", fix).into());
        }
        (true, false) => PutMode::CreateOnly,
        (false, true) => PutMode::UpdateOnly,
        (false, false) => PutMode::Upsert,
    };
    let preferences = Preferences::read(&headers);
    let deadline = deadline(&api, preferences);
    let memory = Arc::new(memory);
    let receipt = match versions.len() {
        0 | 1 => api.service.put(put, mode, deadline, Some(&memory)).await?,
        _ => {
            let put = |version| order::Put { if_version: Some(version), ..put.clone() };
            let change = |version| api.service.put(put(version), mode, deadline, Some(&memory));
            Box::pin(for_one_of(&versions, change)).await?
        }
    };
    let mut response = answer(&api, &caller, &receipt, preferences, deadline).await;
    // The stored order differs from the body that was sent, so the response has no tag (RFC 9110, section 9.3.4).
    response.headers_mut().remove(ETAG);
    Ok(response)
}

parameters! {
    /// `If-None-Match` of a write.
    MustNotExist: header("If-None-Match", "`*`: the order must not exist.", text(r"^\*$"), "*");
}

responses! {
    /// The order has the content that was sent.
    PutOutcome:
        "200" => put("The order was updated.", "updated"),
        "201" => put("The order was created.", "created").header("Location", location()),
        "202" => put(PENDING, "accepted").header("Location", location()).header("Retry-After", retry_after());
}

problems! {
    /// The problems of a `PUT`.
    PutProblems: INVALID, CROSS_SITE_REQUEST, ORDER_NOT_FOUND, BODY_TIMEOUT, ORDER_DELETED, PRECONDITION_FAILED,
        BODY_TOO_LARGE, UNSUPPORTED_CONTENT_ENCODING, MISDIRECTED_REQUEST, INTERNAL, ORDER_UNREADABLE,
        OVERLOADED, STORE_UNAVAILABLE, OUTCOME_UNKNOWN;
}
