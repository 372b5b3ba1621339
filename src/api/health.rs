//! How the service is. Live: the process answers. Ready: it takes orders; a load balancer asks this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::accept::{self, JSON};
use super::docs::parameters::Accept;
use super::docs::problems::HealthProblems;
use super::docs::responses::{Health, Live, Ready};
use super::http::{Shared, json};
use super::problem::to_json;
use crate::service::Readiness;

/// The process answers.
#[derive(Serialize, ToSchema)]
pub(super) struct HealthBody {
    /// Always `ok`.
    status: &'static str,
}

/// Whether the process answers
///
/// As JSON, or as bare text where that is asked for.
#[utoipa::path(get, path = "/health", tag = "health", params(Accept), responses(Health, HealthProblems))]
pub(super) async fn health(headers: HeaderMap) -> Response {
    if accept::best(&headers, [JSON, "text/plain"]) == JSON {
        return live().await;
    }
    let mut response = Response::new(Body::from("ok"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whether the process answers, for those who start it anew
#[utoipa::path(get, path = "/health/live", tag = "health", responses(Live, HealthProblems))]
pub(super) async fn live() -> Response {
    json(StatusCode::OK, to_json(&HealthBody { status: "ok" }))
}

/// What the log was told of the parts that readiness depends on.
#[derive(Default)]
pub(super) struct Told {
    store: ToldOf,
    bus: ToldOf,
}

/// Whether it was told last that the part does not work.
#[derive(Default)]
struct ToldOf(AtomicBool);

impl ToldOf {
    /// Tells the log of a change: a load balancer asks every second, and nobody reads the same line every second.
    fn tell(&self, part: &str, state: &Result<(), String>) {
        let was_told = self.0.swap(state.is_err(), Ordering::Relaxed);
        match state {
            Err(reason) if !was_told => tracing::warn!(part, reason, "not ready"),
            Ok(()) if was_told => tracing::info!(part, "ready again"),
            _ => {}
        }
    }
}

/// Whether orders are taken, and what that depends on.
#[derive(Serialize, ToSchema)]
pub(super) struct ReadyBody<'a> {
    /// `ready`, `degraded`, `not ready` or `stopping`.
    status: &'a str,
    /// `ok` or `not available`, as the next ones. Without the store no orders are taken.
    store: &'a str,
    /// Without the bus orders are taken and wait.
    bus: &'a str,
    /// Without the cache the service is only slower. Absent where none is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cache: Option<&'a str>,
}

/// Looks at the parts, and tells the log where one has changed. The cache itself logs when it goes and comes.
async fn look(shared: &Shared) -> Readiness {
    let parts = shared.service.readiness().await;
    shared.readiness.store.tell("store", &parts.store);
    shared.readiness.bus.tell("bus", &parts.bus);
    parts
}

/// Whether orders are taken, as [`ready`] says it at length.
pub(super) async fn takes_orders(shared: &Shared) -> bool {
    let parts = look(shared).await;
    !shared.draining.is_cancelled() && parts.store.is_ok()
}

/// Whether orders are taken
///
/// A load balancer asks this one. A bus that is away only delays orders, and without its cache the service is only
/// slower; both are said.
#[utoipa::path(get, path = "/health/ready", tag = "health", responses(HealthProblems, Ready))]
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let Readiness { store, bus, cache } = look(&shared).await;
    let (status, word) = match (&store, &bus, &cache) {
        _ if shared.draining.is_cancelled() => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (Err(_), _, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        (Ok(()), Ok(()), None | Some(Ok(()))) => (StatusCode::OK, "ready"),
        (Ok(()), _, _) => (StatusCode::OK, "degraded"),
    };
    let word_of = |part: &Result<(), String>| if part.is_ok() { "ok" } else { "not available" };
    let (store, bus, cache) = (word_of(&store), word_of(&bus), cache.as_ref().map(word_of));
    json(status, to_json(&ReadyBody { status: word, store, bus, cache }))
}
