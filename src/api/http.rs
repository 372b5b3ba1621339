//! The routes: the index of every URL, and the handlers behind them. A handler parses, asks the service and
//! shapes the answer; limits, ids and the writing of problems are the edge's.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use serde::Deserialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use super::docs::parameters::{ExternalIdInPath, OrderInPath, UserInQuery};
use super::docs::problems::{FileProblems, ReadProblems, WriteProblems};
use super::docs::requests::{self, deletion, new_order, update};
use super::docs::responses::{Found, ProblemPage, Submitted};
use super::problem::{
    BODY_TIMEOUT, BODY_TOO_LARGE, METHOD_NOT_ALLOWED, Problem, ROUTE_NOT_FOUND, TABLE, to_json,
};
use super::{Options, docs, health, view};
use crate::order::{Invalid, OrderId, Submission, UserId};
use crate::service::{Change, Patience, Progress, Receipt, Service};

/// What the handlers share.
pub(super) struct Shared {
    pub(super) service: Arc<Service>,
    pub(super) options: Options,
    /// Cancelled when the process has been told to stop.
    pub(super) draining: CancellationToken,
    /// What the log knows of it.
    pub(super) readiness: health::Told,
    pub(super) docs: docs::Docs,
}

type Api = State<Arc<Shared>>;

/// A path segment, percent-decoded.
pub(super) type Segment = Result<Path<String>, PathRejection>;

/// Every route: one line for each path, with the handlers of its methods. Path and method stand at the handler.
pub(super) fn index() -> Vec<UtoipaMethodRouter<Arc<Shared>>> {
    vec![
        routes!(health::health),
        routes!(health::live),
        routes!(health::ready),
        routes!(submit_order),
        routes!(get_order),
        routes!(find_order),
        routes!(get_problem),
        routes!(docs::openapi),
        routes!(docs::asyncapi),
        routes!(docs::page),
        routes!(docs::file),
    ]
}

/// The router. Every path also answers with one trailing slash, and `HEAD` wherever there is `GET`.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for (_, paths, methods) in index() {
        for path in paths.paths.keys() {
            router = router.route(path, methods.clone()).route(&format!("{path}/"), methods.clone());
        }
    }
    router.fallback(route_not_found).method_not_allowed_fallback(method_not_allowed).with_state(shared)
}

/// Create, update or delete an order
///
/// The answer comes when the order has been processed, or when the time to wait for that is over.
#[utoipa::path(
    post, path = "/orders", tag = "orders",
    request_body(
        content = requests::Submission, content_type = "application/json",
        examples(
            ("create" = (summary = "Create", value = json!(new_order()))),
            ("update" = (summary = "Update", value = json!(update()))),
            ("delete" = (summary = "Delete", value = json!(deletion()))),
        ),
    ),
    responses(Submitted, WriteProblems)
)]
async fn submit_order(State(api): Api, request: Request) -> Result<Response, Problem> {
    let body = read_body(request, &api.options).await?;
    let text = std::str::from_utf8(&body)
        .map_err(|error| Invalid::new("body", format!("not UTF-8 from byte {} on", error.valid_up_to())))?;
    let command = Submission::from_json(text)?.into_command()?;
    let receipt = api.service.submit(command.into(), Patience::Usual).await?;
    Ok(submitted(&receipt))
}

/// Read an order
///
/// A deleted one, too.
#[utoipa::path(
    get,
    path = "/orders/{order_id}",
    tag = "orders",
    params(OrderInPath),
    responses(Found, ReadProblems)
)]
async fn get_order(State(api): Api, order_id: Segment) -> Result<Response, Problem> {
    let order_id = OrderId::parse(&order_id?)
        .ok_or_else(|| Invalid::new("order_id", "not a UUID; the path is /orders/{order_id}"))?;
    Ok(json(StatusCode::OK, view::order(&api.service.get(order_id).await?)))
}

#[derive(Deserialize)]
struct FindQuery {
    user_id: Option<String>,
}

/// Find a user's order by its external id
///
/// The newest one, if several have it.
#[utoipa::path(
    get,
    path = "/orders/by-external/{external_id}",
    tag = "orders",
    params(ExternalIdInPath, UserInQuery),
    responses(Found, ReadProblems)
)]
async fn find_order(
    State(api): Api,
    external_id: Segment,
    query: Result<Query<FindQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Path(external_id) = external_id?;
    let user_id = query
        .ok()
        .and_then(|Query(query)| UserId::parse(&query.user_id?))
        .ok_or_else(|| Invalid::new("user_id", "send the owner's UUID once, as ?user_id=<uuid>"))?;
    Ok(json(StatusCode::OK, view::order(&api.service.find_by_external(&external_id, user_id).await?)))
}

/// What a problem's `type` points to
#[utoipa::path(
    get, path = "/problems/{code}", tag = "reference",
    params(("code" = String, Path, description = "A problem's code.", min_length = 1, example = "order_not_found")),
    responses(ProblemPage, FileProblems)
)]
async fn get_problem(code: Segment) -> Result<Response, Problem> {
    let Path(code) = code?;
    let kind = TABLE.iter().find(|kind| kind.code == code);
    let kind = kind.ok_or_else(|| Problem::new(ROUTE_NOT_FOUND, "there is no problem of that code"))?;
    Ok(json(StatusCode::OK, to_json(kind)))
}

async fn route_not_found() -> Problem {
    Problem::new(
        ROUTE_NOT_FOUND,
        "the paths are /orders, /orders/{order_id}, /orders/by-external/{external_id}, /health; /docs has them all",
    )
}

/// The router adds the `Allow` header.
async fn method_not_allowed() -> Problem {
    Problem::new(METHOD_NOT_ALLOWED, "the Allow header lists the methods that this path takes")
}

/// Reads a body within the limits of size and time.
async fn read_body(request: Request, options: &Options) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::new(BODY_TOO_LARGE, format!("body: send at most {} bytes", options.body_limit));
    let body = request.into_body();
    // The length that a client announces is looked at first: a body over the limit is not read at all. Asked
    // before `Limited` is around the body, which hints at no more than its limit.
    if body.size_hint().lower() > options.body_limit as u64 {
        return Err(too_large());
    }
    let body = Limited::new(body, options.body_limit);
    match timeout(options.body_timeout, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Invalid::new("body", format!("could not be read to its end: {error}")).into()),
        Err(_) => Err(Problem::new(
            BODY_TIMEOUT,
            format!("body: send all of it within {} seconds", options.body_timeout.as_secs_f32()),
        )),
    }
}

/// The answer to a command that was accepted.
fn submitted(receipt: &Receipt) -> Response {
    let id = receipt.order_id;
    let (status, word) = match (receipt.progress, receipt.change) {
        (Progress::Pending, _) => (StatusCode::ACCEPTED, "accepted"),
        (_, Change::Created) => (StatusCode::CREATED, "created"),
        (_, Change::Updated) => (StatusCode::OK, "updated"),
        (_, Change::Deleted) => (StatusCode::OK, "deleted"),
    };
    // The order was accepted, which the status says; that its processing failed is said besides.
    let processing = (receipt.progress == Progress::Failed).then_some("failed");
    let body = view::SubmittedBody { order_id: id.to_string(), status: word, processing };
    let mut response = json(status, to_json(&body));
    if matches!(status, StatusCode::CREATED | StatusCode::ACCEPTED)
        && let Ok(location) = HeaderValue::try_from(format!("/orders/{id}"))
    {
        response.headers_mut().insert(LOCATION, location);
    }
    if status == StatusCode::ACCEPTED {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A JSON response.
pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
