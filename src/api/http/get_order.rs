//! Reads one order: by its id, at once or when the worker has processed a version, and by its external id. A reader
//! must never hold a large order while it waits, because that memory does not count: a payload over 4 KiB is dropped
//! and read again. A wait that times out returns the order as it is then. A cached response must be revalidated each
//! time, by its `ETag`. The turn of a read lasts until the middleware has counted the response, and a long response is
//! written on a blocking thread.

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::response::Response;
use hyper::header::{CACHE_CONTROL, ETAG, HeaderValue, LAST_MODIFIED};
use hyper::{HeaderMap, StatusCode, Uri};
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::json;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::response::ResponseBuilder;

use super::etag::Tag;
use super::order_body::{self, OrderBody};
use super::path::{Segment, order_id_of};
use super::prefer::Preferences;
use super::query::Parameters;
use super::response::{hold, json as json_response};
use crate::api::blocking::write;
use crate::api::caller::Caller;
use crate::api::openapi::parameters::{
    IfNoneMatch, OrderInPath, Prefer, UserInQuery, parameter, parameters, query,
};
use crate::api::openapi::problems::problems;
use crate::api::openapi::responses::{
    applied, cache_control, etag, header, json as body, known, responses, saying,
};
use crate::api::openapi::schema::{any_text, whole};
use crate::api::problem::{
    INTERNAL, INVALID, MISDIRECTED_REQUEST, ORDER_NOT_FOUND, ORDER_UNREADABLE, OVERLOADED, Problem,
    STORE_UNAVAILABLE,
};
use crate::api::reads::ReadGuard;
use crate::api::state::ApiState;
use crate::order::{Invalid, Order, OrderId, UserId, Version};
use crate::service::turns::Turn;
use crate::service::{Deadline, Service};

/// The largest payload, in bytes, that the fixed cost of a request includes.
const SMALL: usize = 4 << 10;

/// Read an order
///
/// Deleted orders can be read, too. With `Prefer: wait=N` the response is sent when the worker has processed the order,
/// or the version that `min_version` names; after N seconds it holds the order as it is then.
#[utoipa::path(
    get,
    path = "/orders/{order_id}",
    tag = "orders",
    params(OrderInPath, MinVersion, IfNoneMatch, Prefer),
    responses(Found, ReadProblems)
)]
pub(super) async fn get_order(
    State(api): State<Arc<ApiState>>,
    Extension(caller): Extension<Caller>,
    order_id: Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let order_id = order_id_of(order_id)?;
    let version = |text: &str| text.parse().ok().filter(|version: &Version| *version >= 0);
    let min_version = Parameters::of(&uri).parsed("min_version", "a version, as ?min_version=1", version)?;
    let preferences = Preferences::read(&headers);
    let (guard, order) = match preferences.wait() {
        Some(_) => {
            let deadline = api.service.deadline(preferences.wait_policy()).with_last_read();
            Box::pin(processed(&api, &caller, order_id, min_version, deadline)).await?
        }
        None => {
            let until = api.service.reads_until();
            let (guard, order) = api.read_order(&caller, order_id, until).await?;
            (Some(guard), order)
        }
    };
    let mut response = shown(order, &headers).await?;
    if let Some(guard) = guard {
        hold(&mut response, guard);
    }
    preferences.confirm_read(&mut response, api.service.longest_wait());
    Ok(response)
}

/// The order once the worker has processed that version, or its current one; the order as it is when the wait times
/// out.
async fn processed(
    api: &ApiState,
    caller: &Caller,
    order_id: OrderId,
    version: Option<Version>,
    deadline: Deadline,
) -> Result<(Option<ReadGuard>, Order), Problem> {
    let (guard, order) = api.read_order(caller, order_id, deadline.answer()).await?;
    let version = version.unwrap_or(order.version);
    if order.processed_version >= version || deadline.is_wait_over() {
        return Ok((Some(guard), order));
    }
    // The memory of an order that is held while its caller waits does not count, so only a small one is held.
    let small = (order.payload.as_str().len() <= SMALL).then_some(order);
    drop(guard);
    api.service.await_version(order_id, version, deadline).await;
    match (api.read_order(caller, order_id, deadline.answer()).await, small) {
        // The time is over before the second read ends: return the order as it was when the wait began.
        (Err(problem), Some(small)) if problem.kind == STORE_UNAVAILABLE => Ok((None, small)),
        (read, _) => read.map(|(guard, order)| (Some(guard), order)),
    }
}

/// Find a user's order by its external id
///
/// The newest one, where several orders have that external id.
#[utoipa::path(
    get,
    path = "/orders/by-external/{external_id}",
    tag = "orders",
    params(ExternalIdInPath, UserInQuery, IfNoneMatch, Prefer),
    responses(Found, ReadProblems)
)]
pub(super) async fn find_order(
    State(api): State<Arc<ApiState>>,
    Extension(caller): Extension<Caller>,
    external_id: Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(external_id) = external_id?;
    let wanted = "the owner's UUID, as ?user_id=<uuid>";
    let user_id = Parameters::of(&uri).parsed("user_id", wanted, UserId::parse)?;
    let user_id = user_id.ok_or_else(|| Invalid::new("user_id", format!("send {wanted}")))?;
    let find =
        move |service: Arc<Service>| async move { service.find_by_external(&external_id, user_id).await };
    let preferences = Preferences::read(&headers);
    let until = preferences.reads_until(&api.service);
    let (guard, order) = api.read(&caller, Turn::Order, until, find).await?;
    let mut response = shown(order, &headers).await?;
    hold(&mut response, guard);
    preferences.confirm_read(&mut response, api.service.longest_wait());
    Ok(response)
}

/// The response with an order; a 304 where the caller already has it.
async fn shown(order: Order, headers: &HeaderMap) -> Result<Response, Problem> {
    let tag = Tag::of_order(&order);
    let updated_at = order.updated_at;
    let mut response = match tag.is_known_to(headers) {
        true => not_modified(),
        false => {
            let size = order.payload.as_str().len();
            json_response(StatusCode::OK, write(size, move || order_body::order(&order)).await?)
        }
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, tag.to_header());
    // The order may change at any moment, so a cached response must be revalidated each time.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    let changed = DateTimePrinter::new().timestamp_to_rfc9110_string(&updated_at);
    if let Ok(changed) = changed.map(HeaderValue::try_from)
        && let Ok(changed) = changed
    {
        headers.insert(LAST_MODIFIED, changed);
    }
    Ok(response)
}

fn not_modified() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

parameters! {
    /// The version that a read waits for.
    MinVersion: query(
        "min_version", "With `Prefer: wait=N`: the version to wait for.", whole(0, i64::MAX), 1
    );

    /// `external_id` in the path.
    ExternalIdInPath: parameter(
        "external_id", ParameterIn::Path,
        "The `id` of the payload: a string unchanged, a number as its JSON text. Percent-encoded, it may hold any \
         character.",
        any_text().min_length(Some(1)), "A-1"
    );
}

responses! {
    /// An order.
    Found:
        "200" => found().header("Preference-Applied", applied()),
        "304" => known().header("Preference-Applied", applied());
}

problems! {
    /// The problems of reading an order.
    ReadProblems: INVALID, ORDER_NOT_FOUND, MISDIRECTED_REQUEST, INTERNAL, ORDER_UNREADABLE, OVERLOADED,
        STORE_UNAVAILABLE;
}

fn found() -> ResponseBuilder {
    saying("The order.")
        .content("application/json", body::<OrderBody>(json!({"order": order_body::example()})))
        .header("ETag", etag("\"v1\""))
        .header("Cache-Control", cache_control("private, no-cache"))
        .header(
            "Last-Modified",
            header("When the order was last changed.", any_text(), "Thu, 09 Oct 2025 08:53:20 GMT"),
        )
}
