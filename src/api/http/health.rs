//! How the process is. Live: the process answers. Ready: it takes orders; a load balancer asks this one. A worker
//! serves these paths and no others: it is ready while it can process orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRef, State};
use axum::response::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use crate::api::http::accept::{self, JSON};
use crate::api::http::router::{Shared, json, method_not_allowed};
use crate::api::openapi::parameters::Accept;
use crate::api::openapi::problems::HealthProblems;
use crate::api::openapi::responses::{Health, Live, Ready};
use crate::api::problem::{Problem, ROUTE_NOT_FOUND, to_json};
use crate::service::{Checks, Readiness};

/// The process answers.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct HealthBody {
    /// Always `ok`.
    status: &'static str,
}

/// Whether the process answers
///
/// As JSON, or as bare text where that is asked for.
#[utoipa::path(get, path = "/health", tag = "health", params(Accept), responses(Health, HealthProblems))]
pub(in crate::api) async fn health(headers: HeaderMap) -> Response {
    if accept::best(&headers, [JSON, "text/plain"]) == JSON {
        return live().await;
    }
    let mut response = Response::new(Body::from("ok"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whether the process answers, for those who start it anew
#[utoipa::path(get, path = "/health/live", tag = "health", responses(Live, HealthProblems))]
pub(in crate::api) async fn live() -> Response {
    json(StatusCode::OK, to_json(&HealthBody { status: "ok" }))
}

/// How a process is. Cheap to clone.
#[derive(Clone)]
pub(in crate::api) struct ProcessHealth(Arc<Parts>);

struct Parts {
    checks: Arc<Checks>,
    told: Told,
    /// Cancelled when the process has been told to stop.
    draining: CancellationToken,
}

impl ProcessHealth {
    pub(in crate::api) fn new(checks: Arc<Checks>, draining: CancellationToken) -> ProcessHealth {
        ProcessHealth(Arc::new(Parts { checks, told: Told::default(), draining }))
    }

    fn is_draining(&self) -> bool {
        self.0.draining.is_cancelled()
    }

    /// Looks at the parts, and tells the log where one has changed. The cache itself logs when it goes and comes.
    async fn look(&self) -> Readiness {
        let parts = self.0.checks.readiness().await;
        self.0.told.store.tell("store", &parts.store);
        self.0.told.bus.tell("bus", &parts.bus);
        parts
    }
}

impl FromRef<Arc<Shared>> for ProcessHealth {
    fn from_ref(shared: &Arc<Shared>) -> ProcessHealth {
        shared.health.clone()
    }
}

/// The router of a process that takes no orders: how it is, and nothing else.
pub(in crate::api) fn router(state: ProcessHealth) -> Router {
    let index: [UtoipaMethodRouter<ProcessHealth>; 3] = [routes!(health), routes!(live), routes!(ready)];
    let mut router = Router::new();
    for (_, paths, methods) in index {
        for path in paths.paths.keys() {
            router = router.route(path, methods.clone()).route(&format!("{path}/"), methods.clone());
        }
    }
    router.fallback(route_not_found).method_not_allowed_fallback(method_not_allowed).with_state(state)
}

async fn route_not_found() -> Problem {
    Problem::new(
        ROUTE_NOT_FOUND,
        "this is a worker: its paths are /health, /health/live and /health/ready; orders are taken by the api processes",
    )
}

/// What the log was told of the parts that readiness depends on.
#[derive(Default)]
struct Told {
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
pub(in crate::api) struct ReadyBody<'a> {
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

/// Whether orders are taken, as [`ready`] says it at length.
pub(in crate::api) async fn takes_orders(shared: &Shared) -> bool {
    let parts = shared.health.look().await;
    !shared.health.is_draining() && parts.store.is_ok()
}

/// Whether orders are taken
///
/// A load balancer asks this one. A bus that is away only delays orders, and without its cache the service is only
/// slower; both are said.
#[utoipa::path(get, path = "/health/ready", tag = "health", responses(HealthProblems, Ready))]
pub(in crate::api) async fn ready(State(health): State<ProcessHealth>) -> Response {
    let Readiness { store, bus, cache } = health.look().await;
    let (status, word) = match (&store, &bus, &cache) {
        _ if health.is_draining() => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (Err(_), _, _) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        (Ok(()), Ok(()), None | Some(Ok(()))) => (StatusCode::OK, "ready"),
        (Ok(()), _, _) => (StatusCode::OK, "degraded"),
    };
    let word_of = |part: &Result<(), String>| if part.is_ok() { "ok" } else { "not available" };
    let (store, bus, cache) = (word_of(&store), word_of(&bus), cache.as_ref().map(word_of));
    json(status, to_json(&ReadyBody { status: word, store, bus, cache }))
}
