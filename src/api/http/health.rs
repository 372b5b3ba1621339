//! `/health` and the paths below it. Liveness: the process answers, and no backend is checked. Readiness: it takes
//! orders. A worker serves only these paths, and is ready while it can process orders. Without the store, or while the
//! process stops, readiness is 503; without the bus or the cache it is 200 and `degraded`. Health is answered also when
//! the service is full: the middleware takes no memory for these paths. Readiness relies on `service` to share one
//! check among callers and to bound its time.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::accept::{self, JSON};
use super::response::json as json_response;
use crate::api::health::ProcessHealth;
use crate::api::openapi::parameters::{header, parameters};
use crate::api::openapi::problems::problems;
use crate::api::openapi::responses::{json as body, plain, responses, saying, vary};
use crate::api::openapi::schema::any_text;
use crate::api::problem::{INTERNAL, INVALID, MISDIRECTED_REQUEST};
use crate::api::problem_body::to_json;
use crate::service::Readiness;

/// The process answers.
#[derive(Serialize, ToSchema)]
pub(super) struct HealthBody {
    /// Always `ok`.
    status: &'static str,
}

/// Whether the process answers
///
/// As JSON, or as plain text where the caller prefers that.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "health",
    tag = "health",
    params(Accept),
    responses(Health, HealthProblems)
)]
pub(super) async fn get_health(headers: HeaderMap) -> Response {
    if accept::best(&headers, [JSON, "text/plain"]) == JSON {
        return get_liveness().await;
    }
    let mut response = Response::new(Body::from("ok"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whether the process answers, for supervisors that restart it
#[utoipa::path(
    get,
    path = "/health/live",
    operation_id = "live",
    tag = "health",
    responses(Live, HealthProblems)
)]
pub(super) async fn get_liveness() -> Response {
    json_response(StatusCode::OK, to_json(&HealthBody { status: "ok" }))
}

/// Whether orders are taken, and the state of the backends.
#[derive(Serialize, ToSchema)]
pub(super) struct ReadyBody<'a> {
    /// `ready`, `degraded`, `not ready` or `stopping`.
    status: &'a str,
    /// `ok` or `not available`. Without the store no orders are taken.
    store: &'a str,
    /// `ok` or `not available`. Without the bus orders are taken, and wait for processing.
    bus: &'a str,
    /// `ok` or `not available`. Without the cache the service is slower. Absent where the cache is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cache: Option<&'a str>,
}

/// Whether orders are taken
///
/// For load balancers. Without the bus or the cache the status is still 200, and the body says `degraded`.
#[utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "ready",
    tag = "health",
    responses(HealthProblems, Ready)
)]
pub(super) async fn get_readiness(State(health): State<ProcessHealth>) -> Response {
    let Readiness { store, bus, cache } = health.check().await;
    let (status, word) = match (&store, &bus, &cache) {
        _ if health.is_draining() => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (Err(_), _, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        (Ok(()), Ok(()), None | Some(Ok(()))) => (StatusCode::OK, "ready"),
        (Ok(()), _, _) => (StatusCode::OK, "degraded"),
    };
    let word_of = |part: &Result<(), String>| if part.is_ok() { "ok" } else { "not available" };
    let (store, bus, cache) = (word_of(&store), word_of(&bus), cache.as_ref().map(word_of));
    json_response(status, to_json(&ReadyBody { status: word, store, bus, cache }))
}

parameters! {
    /// `Accept` of a request for plain text.
    Accept: header(
        "Accept", "Plain text where `text/plain` has a higher weight than `application/json`.", any_text(), "text/plain"
    );
}

responses! {
    /// The process answers.
    Live: "200" => saying("The process answers.")
        .content("application/json", body::<HealthBody>(json!({"status": "ok"})));

    /// The process answers, in one of two forms.
    Health: "200" => saying("The process answers.")
        .content("application/json", body::<HealthBody>(json!({"status": "ok"})))
        .content("text/plain", plain("ok"))
        .header("Vary", vary());

    /// Whether orders are taken.
    Ready:
        "200" => saying("Orders are taken. `degraded`: the bus or the cache is not available.")
            .content("application/json", body::<ReadyBody>(json!({"status": "ready", "store": "ok", "bus": "ok"}))),
        "503" => saying("No orders are taken: the store is not available, or the process is stopping.").content(
            "application/json",
            body::<ReadyBody>(json!({"status": "not ready", "store": "not available", "bus": "ok"})),
        );
}

problems! {
    /// The problems of a request for `/health`, which is never rejected under load.
    HealthProblems: INVALID, MISDIRECTED_REQUEST, INTERNAL;
}
