//! Changing one order: `POST /orders`, which creates, updates or deletes, and the same by `PUT` and `DELETE`. A handler
//! parses, asks the service and shapes the answer.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use futures_util::future::Either;
use hyper::body::Body as _;
use hyper::header::{ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, LOCATION, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode, Uri};

use crate::api::body::{self, Framing, PLAIN, write};
use crate::api::http::conditions;
use crate::api::http::etag::{IfMatch, Tag, must_not_exist, single};
use crate::api::http::get_order::order_id_of;
use crate::api::http::order_body::{OrderView, SubmittedBody};
use crate::api::http::prefer::{PREFERENCE_APPLIED, Preferences};
use crate::api::http::query::Parameters;
use crate::api::http::request_bodies::{self, deletion, new_order, put, update};
use crate::api::http::router::{Reading, Segment, Shared, hold, json};
use crate::api::openapi::parameters::{
    IdempotencyKey, IfMatch as IfMatchHeader, MustNotExist, OrderInPath, OwnerInQuery, Prefer,
};
use crate::api::openapi::problems::{DeleteProblems, PutProblems, WriteProblems};
use crate::api::openapi::responses::{Changed, Put, Submitted};
use crate::api::problem::{Problem, to_json};
use crate::api::server::exchange::{Caller, Counted};
use crate::error::Error;
use crate::order::{self, Command, Invalid, KeyText, Order, OrderId, Submission, UserId, Version};
use crate::service::quota::{HeldMemory, Permit};
use crate::service::{Change, Deadline, Progress, PutMode, Receipt};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Create, update or delete an order
///
/// The answer comes when the order has been processed, or when the time to wait for that is over.
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
pub(in crate::api) async fn submit_order(
    State(api): State<Arc<Shared>>,
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
            return Err(Invalid::new("If-Match", "a new order matches nothing; leave it out").into());
        }
        let key = key.map(|key| key.of(&command));
        Ok((order::Request { command, key }, versions))
    };
    let ((request, versions), memory) = body.read(read).await?;
    submit(&api, &caller, request, &versions, &headers, memory).await
}

/// Create an order under an id of your own, or replace its content
///
/// It is safe to send again. With `If-None-Match: *` an order that exists is left alone. An id of zeros alone is
/// refused: it would be everybody's.
#[utoipa::path(
    put, path = "/orders/{order_id}", tag = "orders",
    params(OrderInPath, IfMatchHeader, MustNotExist, Prefer),
    request_body(content = request_bodies::PutOrder, content_type = "application/json", example = json!(put())),
    responses(Put, PutProblems)
)]
pub(in crate::api) async fn put_order(
    State(api): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    order_id: Segment,
    request: Request,
) -> Result<Response, Problem> {
    let order_id = order_id_of(order_id)?;
    if order_id.is_nil() {
        return Err(Invalid::new("order_id", "all zeros are nobody's own; choose a random UUID").into());
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
    // What is stored is not the body as it was sent (RFC 9110, section 9.3.4).
    response.headers_mut().remove(ETAG);
    Ok(response)
}

/// Delete an order
///
/// For ever. Its content stays readable.
#[utoipa::path(
    delete,
    path = "/orders/{order_id}",
    tag = "orders",
    params(OrderInPath, OwnerInQuery, IdempotencyKey, IfMatchHeader, Prefer),
    responses(Changed, DeleteProblems)
)]
pub(in crate::api) async fn delete_order(
    State(api): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    order_id: Segment,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let order_id = order_id_of(order_id)?;
    conditions::only(&[IF_MATCH], &headers)?;
    // What is announced is refused before it comes; what is not may still be nothing.
    if body.size_hint().lower() > 0 {
        return Err(takes_no_body().into());
    }
    let memory = body::read(body, &api.options, &caller, EMPTY).await?.memory;
    let query = Parameters::of(&uri).only(&["user_id"])?;
    let user_id = query.parsed("user_id", "the owner's UUID, or leave it out", UserId::parse)?;
    let versions = IfMatch::read(&headers)?.map_or_else(Vec::new, IfMatch::versions);
    let command = Command::Delete { order_id, user_id, if_version: versions.first().copied() };
    let key = key(&headers)?.map(|key| key.of(&command));
    submit(&api, &caller, order::Request { command, key }, &versions, &headers, memory).await
}

/// The body of a deletion. A version or an owner in it would protect nothing.
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
        "a deletion takes none; send the version as If-Match, and the owner as ?user_id=<uuid>",
    )
}

/// Until when the caller of a write is answered.
fn deadline(api: &Shared, preferences: Preferences) -> Deadline {
    let deadline = api.service.deadline(preferences.patience());
    if preferences.wants_representation() { deadline.with_last_look() } else { deadline }
}

/// The versions that a change may be for, the newest first; none where any will do. The submission is for the first.
fn allowed(if_match: Option<IfMatch>, submission: &mut Submission<'_>) -> Result<Vec<Version>, Invalid> {
    let (versions, named) = (if_match.map_or_else(Vec::new, IfMatch::versions), submission.version);
    submission.require(&versions)?;
    Ok(named.map_or(versions, |named| vec![named]))
}

/// Queues a request, and answers with its outcome.
fn submit<'a>(
    api: &'a Shared,
    caller: &'a Caller,
    request: order::Request,
    versions: &'a [Version],
    headers: &HeaderMap,
    memory: Permit,
) -> impl Future<Output = Result<Response, Problem>> + Send + 'a {
    let preferences = Preferences::read(headers);
    let deadline = deadline(api, preferences);
    let outcome = match versions.len() {
        0 | 1 => Either::Left(api.service.submit_by(request, deadline, memory.into())),
        _ => Either::Right(Box::pin(async move {
            let memory = Arc::new(memory);
            let submit = |version| {
                let memory = HeldMemory::Shared(Arc::clone(&memory));
                api.service.submit_by(request.for_version(version), deadline, memory)
            };
            for_one_of(versions, submit).await
        })),
    };
    async move { Ok(answer(api, caller, &outcome.await?, preferences, deadline).await) }
}

/// Carries out a change for the version that the order has, if that is one of these. An order may come to another one
/// meanwhile; because versions only grow, that has an end.
async fn for_one_of<F: Future<Output = Result<Receipt, Error>> + Send>(
    versions: &[Version],
    change: impl Fn(Version) -> F,
) -> Result<Receipt, Error> {
    let mut version = versions.first().copied().unwrap_or_default();
    loop {
        match change(version).await {
            Err(Error::PreconditionFailed { current: Some(current), .. })
                if current != version && versions.contains(&current) =>
            {
                version = current;
            }
            outcome => return outcome,
        }
    }
}

/// The key of a request, where it has one.
pub(in crate::api) fn key(headers: &HeaderMap) -> Result<Option<KeyText>, Invalid> {
    let Some(text) = single(headers, &IDEMPOTENCY_KEY, "Idempotency-Key")? else { return Ok(None) };
    let key = KeyText::parse(text).map_err(|error| Invalid::new("Idempotency-Key", error.to_string()))?;
    Ok(Some(key))
}

/// The answer to a command that was accepted, with the order where the caller wants it.
async fn answer(
    api: &Shared,
    caller: &Caller,
    receipt: &Receipt,
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
        Some(Shown { text, tag, memory, reading }) => {
            let mut response = json(status, text);
            response.extensions_mut().insert(Counted::new(memory));
            hold(&mut response, reading);
            (response, tag)
        }
        None => (json(status, to_json(&body(receipt, None))), Tag::of_receipt(receipt)),
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, tag.to_header());
    if matches!(status, StatusCode::CREATED | StatusCode::ACCEPTED)
        && let Ok(location) = HeaderValue::try_from(location(receipt.order_id))
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

/// The text of an answer that shows the order.
struct Shown {
    text: Vec<u8>,
    tag: Tag,
    memory: Permit,
    reading: Reading,
}

/// Shows the order beside what became of the command; `None` where it cannot be read now, or there is no memory for it:
/// the order is stored, and the answer does without.
async fn show(api: &Shared, caller: &Caller, receipt: Receipt, deadline: Deadline) -> Option<Shown> {
    let (reading, order) = api.read_order(caller, receipt.order_id, deadline.answer()).await.ok()?;
    let (size, tag) = (order.payload.as_str().len(), Tag::of_order(&order));
    let memory = caller.take(size).ok()?;
    let text = write(size, move || to_json(&body(&receipt, Some(&order)))).await.ok()?;
    Some(Shown { text, tag, memory, reading })
}

fn location(order_id: OrderId) -> String {
    format!("/orders/{order_id}")
}

/// The status of the answer to a command that was accepted.
pub(in crate::api) fn status(receipt: &Receipt) -> StatusCode {
    match (receipt.progress, receipt.change) {
        (Progress::Pending, _) => StatusCode::ACCEPTED,
        (_, Change::Created) => StatusCode::CREATED,
        (_, Change::Updated | Change::Deleted) => StatusCode::OK,
    }
}

/// Its body, with the order where the caller wants it.
pub(in crate::api) fn body<'a>(receipt: &Receipt, order: Option<&'a Order>) -> SubmittedBody<'a> {
    let word = match (receipt.progress, receipt.change) {
        (Progress::Pending, _) => "accepted",
        (_, Change::Created) => "created",
        (_, Change::Updated) => "updated",
        (_, Change::Deleted) => "deleted",
    };
    SubmittedBody {
        order_id: receipt.order_id.to_string(),
        status: word,
        // The order was accepted, which the status says; that its processing failed is said besides.
        processing: (receipt.progress == Progress::Failed).then_some("failed"),
        order: order.map(OrderView::of),
    }
}
