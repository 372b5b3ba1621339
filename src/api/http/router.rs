//! The routes: the index of every URL. The handlers stand in files of their own; they parse, ask the service and shape the
//! answer; limits, ids and the writing of problems are the edge's.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Response;
use futures_util::future::{Either, select};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use super::{docs, follow_orders, get_history, get_order, health, list_orders, submit_batch, submit_order};
use crate::api::Options;
use crate::api::body::outcome;
use crate::api::http::prefer::{PREFERENCE_APPLIED, Preferences};
use crate::api::openapi::problems::FileProblems;
use crate::api::openapi::responses::ProblemPage;
use crate::api::problem::{METHOD_NOT_ALLOWED, Problem, ROUTE_NOT_FOUND, TABLE, to_json};
use crate::api::server::exchange::Caller;
use crate::error::Error;
use crate::order::{Order, OrderId};
use crate::service::Service;
use crate::service::turns::{Taken, Turn};

/// What the handlers share.
pub(in crate::api) struct Shared {
    pub(in crate::api) service: Arc<Service>,
    pub(in crate::api) options: Options,
    /// Cancelled when the process has been told to stop.
    pub(in crate::api) draining: CancellationToken,
    /// How the process is.
    pub(in crate::api) health: health::ProcessHealth,
    pub(in crate::api) docs: docs::Docs,
}

/// A read that is under way, among the extensions of its answer: it ends when the answer is counted.
#[derive(Debug, Clone)]
pub(in crate::api) struct Reading(#[expect(dead_code, reason = "it is held")] Arc<Taken>);

impl Shared {
    pub(in crate::api) fn new(
        service: Arc<Service>,
        options: Options,
        draining: CancellationToken,
        docs: docs::Docs,
    ) -> Shared {
        let health = health::ProcessHealth::new(service.checks(), draining.clone());
        Shared { service, options, draining, health, docs }
    }

    /// Until when a read is answered that begins now: as long as reads may take, and no longer than its caller waits.
    pub(in crate::api) fn reads_until(&self, headers: &HeaderMap) -> Instant {
        let (until, preferences) = (self.service.reads_until(), Preferences::read(headers));
        match preferences.wait() {
            Some(_) => until.min(self.service.deadline(preferences.patience()).answer()),
            None => until,
        }
    }

    /// Says with the answer of a read what of its preferences was honoured.
    pub(in crate::api) fn say_applied(&self, response: &mut Response, headers: &HeaderMap) {
        if let Some(applied) = Preferences::read(headers).applied_to_read(self.service.longest_wait()) {
            response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        }
    }

    /// Reads from the store when it is the caller's turn, and until then or never.
    ///
    /// # Errors
    /// What the read says; `store_unavailable` where the time is over.
    pub(in crate::api) fn read<'a, T, F>(
        &'a self,
        caller: &'a Caller,
        turn: Turn,
        until: Instant,
        read: impl FnOnce(Arc<Service>) -> F + Send + 'a,
    ) -> impl Future<Output = Result<(Reading, T), Problem>> + Send + 'a
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.read_in(caller.peer.turn(turn), until, read)
    }

    /// The same in a turn that is taken in another way.
    fn read_in<'a, T, F>(
        &'a self,
        turn: impl Future<Output = Taken> + Send + 'a,
        until: Instant,
        read: impl FnOnce(Arc<Service>) -> F + Send + 'a,
    ) -> impl Future<Output = Result<(Reading, T), Problem>> + Send + 'a
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let in_turn = async move {
            let taken = turn.await;
            in_turn(taken, read(Arc::clone(&self.service))).await
        };
        async move { timeout_at(until.into(), in_turn).await.unwrap_or_else(|_| Err(Error::Unavailable.into())) }
    }

    /// Reads an order, from the cache where it is there. Copies have turns of their own, so that they are read while
    /// the store does not answer. A read that gets the store's turn first, or long after it missed in the cache, looks
    /// into the cache before it asks the store.
    ///
    /// # Errors
    /// As for [`Shared::read`].
    pub(in crate::api) async fn read_order(
        &self,
        caller: &Caller,
        order_id: OrderId,
        until: Instant,
    ) -> Result<(Reading, Order), Problem> {
        let mut missed = None;
        let mut turn = None;
        let mut order = pin!(caller.peer.turn(Turn::Order));
        if self.service.has_cache() {
            let copy = pin!(caller.peer.turn(Turn::Copy));
            let first = first_turn(copy, order.as_mut());
            match timeout_at(until.into(), first).await.map_err(|_| Error::Unavailable)? {
                Either::Left(copy) => {
                    let service = Arc::clone(&self.service);
                    let look = in_turn(copy, async move { Ok(service.cached(order_id).await) });
                    match timeout_at(until.into(), look).await.map_err(|_| Error::Unavailable)?? {
                        (reading, Ok(order)) => return Ok((reading, order)),
                        (_, Err(none)) => missed = Some((none, Instant::now())),
                    }
                }
                Either::Right(taken) => turn = Some(taken),
            }
        }
        let get = move |service: Arc<Service>| async move {
            let missed = match missed {
                Some((missed, at)) if at.elapsed() < COPY_PATIENCE => missed,
                _ => match service.cached(order_id).await {
                    Ok(order) => return Ok(order),
                    Err(missed) => missed,
                },
            };
            service.get(order_id, missed).await
        };
        let turn = async move {
            match turn {
                Some(taken) => taken,
                None => order.await,
            }
        };
        self.read_in(turn, until, get).await
    }
}

/// How long to wait for the turn of a copy alone, before the store's turn will do as well, and how long the outcome is
/// worth something: as long as a look-up may take by default.
const COPY_PATIENCE: Duration = Duration::from_millis(30);

/// The turn to read a copy. Where that does not come soon, the store's turn will do as well: a crowd before the cache
/// does not keep from the store, nor a store that does not answer from the cache.
async fn first_turn(
    mut copy: Pin<&mut impl Future<Output = Taken>>,
    order: Pin<&mut impl Future<Output = Taken>>,
) -> Either<Taken, Taken> {
    match timeout(COPY_PATIENCE, copy.as_mut()).await {
        Ok(copy) => Either::Left(copy),
        Err(_) => match select(copy, order).await {
            Either::Left((copy, _)) => Either::Left(copy),
            Either::Right((order, _)) => Either::Right(order),
        },
    }
}

/// Reads in a task of its own: a caller who goes away ends nothing in the store, so the turn goes on until the read is
/// done, or has had its time.
async fn in_turn<T: Send + 'static>(
    taken: Taken,
    read: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<(Reading, T), Problem> {
    let (taken, outcome) = outcome(tokio::spawn(async move { (taken, read.await) })).await?;
    Ok((Reading(Arc::new(taken)), outcome?))
}

/// Keeps a read under way until its answer is counted.
pub(in crate::api) fn hold(response: &mut Response, reading: Reading) {
    response.extensions_mut().insert(reading);
}

/// A path segment, percent-decoded.
pub(in crate::api) type Segment = Result<Path<String>, PathRejection>;

/// Every route: one line for each path, with its handlers. Path and method stand at the handler, and what it reads and
/// answers: the router and the OpenAPI document are both made of this.
pub(in crate::api) fn index() -> [UtoipaMethodRouter<Arc<Shared>>; 15] {
    [
        routes!(health::health),
        routes!(health::live),
        routes!(health::ready),
        routes!(submit_order::submit_order, list_orders::list_orders),
        routes!(submit_batch::submit_batch),
        routes!(get_order::get_order, submit_order::put_order, submit_order::delete_order),
        routes!(get_history::order_history),
        routes!(follow_orders::follow_order),
        routes!(get_order::find_order),
        routes!(follow_orders::follow_user),
        routes!(get_problem),
        routes!(docs::openapi),
        routes!(docs::asyncapi),
        routes!(docs::page),
        routes!(docs::file),
    ]
}

/// The router. Every path also answers with one trailing slash, and `HEAD` wherever there is `GET`.
pub(in crate::api) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for (_, paths, methods) in index() {
        for path in paths.paths.keys() {
            router = router.route(path, methods.clone()).route(&format!("{path}/"), methods.clone());
        }
    }
    router.fallback(route_not_found).method_not_allowed_fallback(method_not_allowed).with_state(shared)
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
        "the paths are /orders, /orders:batch, /orders/{order_id}, /orders/{order_id}/history, \
         /orders/{order_id}/events, /orders/by-external/{external_id}, /events, /health, /health/live, /health/ready, \
         /problems/{code}, /openapi.json, /asyncapi.json, /docs; the last one explains them",
    )
}

/// The router adds the `Allow` header.
pub(in crate::api) async fn method_not_allowed() -> Problem {
    Problem::new(METHOD_NOT_ALLOWED, "the Allow header lists the methods that this path takes")
}

/// How many headers most answers have at the most.
const USUAL_HEADERS: usize = 12;

/// A JSON response.
pub(in crate::api) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = HeaderMap::with_capacity(USUAL_HEADERS);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
