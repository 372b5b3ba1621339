//! `DELETE /orders/{order_id}`: deletes an order, whose content stays readable. A deletion has no body, and a version
//! or an owner in one would have no effect, so a body is always rejected: an announced one before it arrives. The
//! version comes from `If-Match`, the owner from the query, and any other parameter there is rejected, because it may
//! be meant as a condition. It relies on `change` for the idempotency key and the response.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use hyper::body::Body as _;
use hyper::header::IF_MATCH;
use hyper::{HeaderMap, Uri};

use super::change::{key, submit};
use super::change_response::{changed, pending};
use super::conditions;
use super::path::{Segment, order_id_of};
use super::preconditions::IfMatch;
use super::query::Parameters;
use crate::api::body::{self, Framing};
use crate::api::caller::Caller;
use crate::api::openapi::parameters::{
    IdempotencyKey, IfMatch as IfMatchHeader, OrderInPath, Prefer, parameters, query,
};
use crate::api::openapi::problems::problems;
use crate::api::openapi::responses::responses;
use crate::api::openapi::schema::{ANY_UUID, USER, text};
use crate::api::problem::{
    BODY_TIMEOUT, CROSS_SITE_REQUEST, INTERNAL, INVALID, KEY_REUSED, MISDIRECTED_REQUEST, ORDER_DELETED,
    ORDER_NOT_FOUND, ORDER_UNREADABLE, OUTCOME_UNKNOWN, OVERLOADED, PRECONDITION_FAILED, Problem,
    STORE_UNAVAILABLE, UNSUPPORTED_CONTENT_ENCODING,
};
use crate::api::state::ApiState;
use crate::order::{self, Command, Invalid, UserId};

/// Delete an order
///
/// Permanently. Its content stays readable.
#[utoipa::path(
    delete,
    path = "/orders/{order_id}",
    tag = "orders",
    params(OrderInPath, OwnerInQuery, IdempotencyKey, IfMatchHeader, Prefer),
    responses(Deleted, DeleteProblems)
)]
pub(super) async fn delete_order(
    State(api): State<Arc<ApiState>>,
    Extension(caller): Extension<Caller>,
    order_id: Segment,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let order_id = order_id_of(order_id)?;
    conditions::only(&[IF_MATCH], &headers)?;
    // An announced body is rejected before it arrives; a body without a length may still be empty.
    if body.size_hint().lower() > 0 {
        return Err(takes_no_body().into());
    }
    let memory = body::read(body, &api.options, &caller, EMPTY).await?.memory;
    let query = Parameters::of(&uri).only(&["user_id"])?;
    let user_id = query.parsed("user_id", "the owner's UUID, or leave it out", UserId::parse)?;
    let versions = IfMatch::read(&headers)?.map_or_else(Vec::new, IfMatch::versions);
    let command = Command::Delete { order_id, user_id, if_version: versions.first().copied() };
    let key = key(&headers)?.map(|key| key.of(&command));
    submit(&api, &caller, order::CommandRequest { command, key }, &versions, &headers, memory).await
}

/// The body of a deletion, which must be empty: a version or an owner in it would have no effect.
const EMPTY: Framing = Framing {
    size: 0,
    content: |bytes| match bytes.is_empty() {
        true => Ok(None),
        false => Err(takes_no_body().into()),
    },
};

fn takes_no_body() -> Invalid {
    Invalid::new(
        "body",
        "a deletion has none; send the version as If-Match, and the owner as ?user_id=<uuid>",
    )
}

parameters! {
    /// `user_id` in the query of a deletion.
    OwnerInQuery: query(
        "user_id", "The owner. Where given, the order must belong to this user.", text(ANY_UUID), USER
    );
}

responses! {
    /// The deletion of an order.
    Deleted: "200" => changed("The order is deleted.", "deleted"), "202" => pending();
}

problems! {
    /// The problems of a deletion.
    DeleteProblems: INVALID, CROSS_SITE_REQUEST, ORDER_NOT_FOUND, BODY_TIMEOUT, ORDER_DELETED, PRECONDITION_FAILED,
        UNSUPPORTED_CONTENT_ENCODING, MISDIRECTED_REQUEST, KEY_REUSED, INTERNAL,
        ORDER_UNREADABLE, OVERLOADED, STORE_UNAVAILABLE, OUTCOME_UNKNOWN;
}
