//! The index of every URL. The router and the OpenAPI document are both made of it: each handler declares its path and
//! method with its parameters and responses. Besides the routes, this file only has the responses where none fits, and
//! the schemas of the bodies of responses, to which the routes only refer. Every path also works with one trailing
//! slash. The document depends on the routes and the program's version alone, never on a setting. A worker gets a
//! router with only its health.

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use super::change_response::OutcomeBody;
use super::docs::Docs;
use super::event_stream::GapBody;
use super::get_history::HistoryBody;
use super::health::{HealthBody, ReadyBody};
use super::history_event_body::HistoryEventBody;
use super::list_orders::ListBody;
use super::order_body::OrderBody;
use super::submit_batch::BatchBody;
use super::{
    delete_order, docs, follow_orders, get_history, get_order, get_problem, health, list_orders, put_order,
    submit_batch, submit_order,
};
use crate::api::health::ProcessHealth;
use crate::api::openapi::document::document;
use crate::api::openapi::schema::{Schemas, add};
use crate::api::problem::{METHOD_NOT_ALLOWED, Problem, ROUTE_NOT_FOUND};
use crate::api::state::ApiState;

/// The state that the handlers of HTTP share. Cheap to clone.
#[derive(Clone)]
pub(in crate::api) struct HttpState(Arc<Inner>);

struct Inner {
    api: Arc<ApiState>,
    docs: Docs,
}

impl FromRef<HttpState> for Arc<ApiState> {
    fn from_ref(state: &HttpState) -> Arc<ApiState> {
        Arc::clone(&state.0.api)
    }
}

impl FromRef<HttpState> for ProcessHealth {
    fn from_ref(state: &HttpState) -> ProcessHealth {
        state.0.api.health.clone()
    }
}

impl FromRef<HttpState> for Docs {
    fn from_ref(state: &HttpState) -> Docs {
        state.0.docs.clone()
    }
}

/// Every route: one line for each path, with its handlers.
fn index() -> [UtoipaMethodRouter<HttpState>; 15] {
    [
        routes!(health::get_health),
        routes!(health::get_liveness),
        routes!(health::get_readiness),
        routes!(submit_order::submit_order, list_orders::list_orders),
        routes!(submit_batch::submit_batch),
        routes!(get_order::get_order, put_order::put_order, delete_order::delete_order),
        routes!(get_history::get_history),
        routes!(follow_orders::follow_order),
        routes!(get_order::find_order),
        routes!(follow_orders::follow_user_orders),
        routes!(get_problem::get_problem),
        routes!(docs::get_openapi),
        routes!(docs::get_asyncapi),
        routes!(docs::get_docs_page),
        routes!(docs::get_docs_file),
    ]
}

/// The schemas of the bodies of responses.
fn bodies() -> Schemas {
    let mut schemas = Schemas::new();
    add::<OutcomeBody>(&mut schemas);
    add::<BatchBody>(&mut schemas);
    add::<OrderBody>(&mut schemas);
    add::<ListBody>(&mut schemas);
    add::<HistoryBody>(&mut schemas);
    add::<HistoryEventBody>(&mut schemas);
    add::<GapBody>(&mut schemas);
    add::<HealthBody>(&mut schemas);
    add::<ReadyBody>(&mut schemas);
    schemas
}

/// The OpenAPI document, as it is served and committed.
#[must_use]
pub fn openapi_json() -> String {
    let routes = index().into_iter().map(|(schemas, paths, _)| (schemas, paths));
    // The document holds strings, numbers and maps with keys of text, which always serialize.
    let text = document(routes, bodies()).to_pretty_json().unwrap_or_default();
    text + "\n"
}

/// The router of a process that takes orders.
pub(in crate::api) fn router(api: Arc<ApiState>) -> Router {
    let state = HttpState(Arc::new(Inner { api, docs: Docs::new(openapi_json()) }));
    routed(index()).fallback(route_not_found).with_state(state)
}

/// The router of a process that takes no orders: only its health.
pub(in crate::api) fn health_router(health: ProcessHealth) -> Router {
    let index: [UtoipaMethodRouter<ProcessHealth>; 3] =
        [routes!(health::get_health), routes!(health::get_liveness), routes!(health::get_readiness)];
    routed(index).fallback(route_not_found_at_worker).with_state(health)
}

/// Every path also answers with one trailing slash, and `HEAD` wherever there is `GET`.
fn routed<S: Clone + Send + Sync + 'static>(
    index: impl IntoIterator<Item = UtoipaMethodRouter<S>>,
) -> Router<S> {
    let mut router = Router::new();
    for (_, paths, methods) in index {
        for path in paths.paths.keys() {
            router = router.route(path, methods.clone()).route(&format!("{path}/"), methods.clone());
        }
    }
    router.method_not_allowed_fallback(method_not_allowed)
}

async fn route_not_found() -> Problem {
    Problem::new(
        ROUTE_NOT_FOUND,
        "the paths are /orders, /orders:batch, /orders/{order_id}, /orders/{order_id}/history, \
         /orders/{order_id}/events, /orders/by-external/{external_id}, /events, /health, /health/live, /health/ready, \
         /problems/{code}, /openapi.json, /asyncapi.json, /docs; /docs explains them",
    )
}

/// The router adds the `Allow` header.
async fn method_not_allowed() -> Problem {
    Problem::new(METHOD_NOT_ALLOWED, "the Allow header lists the methods that this path takes")
}

async fn route_not_found_at_worker() -> Problem {
    Problem::new(
        ROUTE_NOT_FOUND,
        "this is a worker: its paths are /health, /health/live and /health/ready; send orders to an api process",
    )
}
