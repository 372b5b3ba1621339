//! Reading one order: by its id, at once or when the worker has come to a version, and by its external id.

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::response::Response;
use hyper::header::{CACHE_CONTROL, ETAG, HeaderValue, LAST_MODIFIED};
use hyper::{HeaderMap, StatusCode, Uri};
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::api::body::write;
use crate::api::http::etag::Tag;
use crate::api::http::order_body;
use crate::api::http::prefer::Preferences;
use crate::api::http::query::Parameters;
use crate::api::http::router::{Reading, Segment, Shared, hold, json};
use crate::api::openapi::parameters::{
    ExternalIdInPath, IfNoneMatch, MinVersion, OrderInPath, Prefer, UserInQuery,
};
use crate::api::openapi::problems::ReadProblems;
use crate::api::openapi::responses::Found;
use crate::api::problem::{Problem, STORE_UNAVAILABLE};
use crate::api::server::exchange::Caller;
use crate::order::{Invalid, Order, OrderId, UserId, Version};
use crate::service::turns::Turn;
use crate::service::{Deadline, Service};

/// The largest payload that is part of what every request counts.
const SMALL: usize = 4 << 10;

/// Read an order
///
/// A deleted one, too. With `Prefer: wait=N` the answer comes when the worker has processed the order, or the version that
/// `min_version` names, and shows the order as it is when the time is over.
#[utoipa::path(
    get,
    path = "/orders/{order_id}",
    tag = "orders",
    params(OrderInPath, MinVersion, IfNoneMatch, Prefer),
    responses(Found, ReadProblems)
)]
pub(in crate::api) async fn get_order(
    State(api): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    order_id: Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let order_id = order_id_of(order_id)?;
    let version = |text: &str| text.parse().ok().filter(|version: &Version| *version >= 0);
    let min_version = Parameters::of(&uri).parsed("min_version", "a version, as ?min_version=1", version)?;
    let preferences = Preferences::read(&headers);
    let (reading, order) = match preferences.wait() {
        Some(_) => {
            let deadline = api.service.deadline(preferences.patience()).with_last_look();
            Box::pin(processed(&api, &caller, order_id, min_version, deadline)).await?
        }
        None => {
            let until = api.service.reads_until();
            let (reading, order) = api.read_order(&caller, order_id, until).await?;
            (Some(reading), order)
        }
    };
    let mut response = shown(order, &headers).await?;
    if let Some(reading) = reading {
        hold(&mut response, reading);
    }
    api.say_applied(&mut response, &headers);
    Ok(response)
}

/// The order once the worker has come to that version, or to the one that it has now; as it is when the time is over.
async fn processed(
    api: &Shared,
    caller: &Caller,
    order_id: OrderId,
    version: Option<Version>,
    deadline: Deadline,
) -> Result<(Option<Reading>, Order), Problem> {
    let (reading, order) = api.read_order(caller, order_id, deadline.answer()).await?;
    let version = version.unwrap_or(order.version);
    if order.processed_version >= version || deadline.is_wait_over() {
        return Ok((Some(reading), order));
    }
    // A large order is not held while its caller waits: it would not be counted.
    let small = (order.payload.as_str().len() <= SMALL).then_some(order);
    drop(reading);
    api.service.await_version(order_id, version, deadline).await;
    match (api.read_order(caller, order_id, deadline.answer()).await, small) {
        // There is no time to look once more: this is how the order was when the wait began.
        (Err(problem), Some(small)) if problem.kind == STORE_UNAVAILABLE => Ok((None, small)),
        (read, _) => read.map(|(reading, order)| (Some(reading), order)),
    }
}

/// Find a user's order by its external id
///
/// The newest one, if several have it.
#[utoipa::path(
    get,
    path = "/orders/by-external/{external_id}",
    tag = "orders",
    params(ExternalIdInPath, UserInQuery, IfNoneMatch, Prefer),
    responses(Found, ReadProblems)
)]
pub(in crate::api) async fn find_order(
    State(api): State<Arc<Shared>>,
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
    let (reading, order) = api.read(&caller, Turn::Order, api.reads_until(&headers), find).await?;
    let mut response = shown(order, &headers).await?;
    hold(&mut response, reading);
    api.say_applied(&mut response, &headers);
    Ok(response)
}

/// The id in a path.
pub(in crate::api) fn order_id_of(segment: Segment) -> Result<OrderId, Problem> {
    let id = OrderId::parse(&segment?);
    Ok(id.ok_or_else(|| Invalid::new("order_id", "not a UUID; the path is /orders/{order_id}"))?)
}

/// An order, or the word that the caller has it already.
async fn shown(order: Order, headers: &HeaderMap) -> Result<Response, Problem> {
    let tag = Tag::of_order(&order);
    let updated_at = order.updated_at;
    let mut response = match tag.is_known_to(headers) {
        true => not_modified(),
        false => {
            let size = order.payload.as_str().len();
            json(StatusCode::OK, write(size, move || order_body::order(&order)).await?)
        }
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, tag.to_header());
    // It may be kept, and must be asked about each time: the next moment it may be another.
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
