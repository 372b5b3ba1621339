//! The middleware of every HTTP request: its id, its memory, a handler of panics, and the writing of problems. The
//! memory of a request and its response counts until the last byte is written; a request beyond the budget is rejected
//! before its body is read. Handlers must know none of this.

use std::convert::Infallible;
use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use futures_util::FutureExt;
use futures_util::future::Either;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::service::TowerToHyperService;

use super::policy::{Policy, ResponseOptions};
use super::response::{ReservedMemory, Unmetered};
use crate::api::caller::{Caller, peer_of, take_head};
use crate::api::problem::Problem;
use crate::api::reads::ReadGuard;
use crate::api::request_id::{REQUEST_ID, request_id};
use crate::api::server::connection::Connection;
use crate::api::server::exchange::Exchange;
use crate::api::server::forwarded::TrustedProxies;
use crate::api::server::request_body::RequestBody;
use crate::api::server::response_body::ResponseBody;
use crate::error::Error;

/// The largest response, in bytes, that the fixed cost of a request includes.
const SMALL_RESPONSE: usize = 4 << 10;

/// The middleware, around the router.
pub(in crate::api) struct Middleware {
    router: TowerToHyperService<Router>,
    policy: Policy,
    proxies: Arc<TrustedProxies>,
}

/// The middleware for one connection.
pub(in crate::api) struct ConnectionService {
    middleware: Arc<Middleware>,
    connection: Arc<Connection>,
}

impl Middleware {
    /// The middleware around that router.
    pub(in crate::api) fn new(
        router: Router,
        policy: Policy,
        proxies: Arc<TrustedProxies>,
    ) -> Arc<Middleware> {
        Arc::new(Middleware { router: TowerToHyperService::new(router), policy, proxies })
    }

    /// The service of one connection.
    pub(in crate::api) fn service(self: &Arc<Middleware>, connection: &Arc<Connection>) -> ConnectionService {
        ConnectionService { middleware: Arc::clone(self), connection: Arc::clone(connection) }
    }

    /// Answers a request. Work that can be done at once is done before the future, which would otherwise be larger.
    fn answer(
        self: Arc<Middleware>,
        request: Request<Incoming>,
        mut exchange: Exchange,
    ) -> impl Future<Output = Response<ResponseBody<Body>>> + Send {
        let started = Instant::now();
        let mut request = request.map(|body| RequestBody::new(body, exchange.connection()));
        let id = request_id(request.headers());
        let options = self.policy.prepare(&mut request);
        let line = tracing::enabled!(tracing::Level::DEBUG)
            .then(|| format!("{} {}", request.method(), request.uri().path()));
        let peer = peer_of(&self.proxies, exchange.connection(), request.headers());
        // Health is also answered when the service is full, which is when it matters most.
        let memory = match request.uri().path().starts_with("/health") {
            true => Ok(None),
            false => take_head(&peer, request.uri(), request.headers()).map(Some),
        };
        let handled = match memory {
            Ok(memory) => {
                exchange.hold(memory);
                request.extensions_mut().insert(Caller { peer, request_id: id.clone() });
                Either::Left(self.handle(request, exchange.connection()))
            }
            Err(overloaded) => Either::Right(Box::pin(async move {
                request.into_body().skip_small().await;
                Ok(Problem::from(overloaded).into_bare_response())
            })),
        };
        let handled = AssertUnwindSafe(handled).catch_unwind();
        async move {
            let mut response = match handled.await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_panic) => Problem::from(Error::Internal).into_bare_response(),
            };
            self.seal(&mut response, &mut exchange, &id, options);
            if let Some(line) = line {
                let (status, elapsed) = (response.status().as_u16(), started.elapsed());
                tracing::debug!(request_id = id.to_str().unwrap_or(""), status, ?elapsed, "{line}");
            }
            response.headers_mut().insert(REQUEST_ID, id);
            if exchange.connection().has_unread_body() {
                // The rest of this body would be read as the next request.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let exchange = Arc::new(exchange);
            response.map(|body| ResponseBody::new(body, exchange))
        }
    }

    /// Counts the memory of a response, writes its problem, and adds the headers of every response.
    fn seal(
        &self,
        response: &mut Response<Body>,
        exchange: &mut Exchange,
        id: &HeaderValue,
        options: ResponseOptions,
    ) {
        if response.extensions_mut().remove::<Unmetered>().is_some() {
            exchange.hold(None);
        }
        let grown = match response.extensions_mut().remove::<ReservedMemory>() {
            Some(reserved) => {
                if let Some(memory) = reserved.into_permit() {
                    exchange.hold_response(memory);
                }
                Ok(())
            }
            None => exchange.grow(size(response.body())),
        };
        // The response is counted now, so the read's turn ends.
        response.extensions_mut().remove::<ReadGuard>();
        if let Err(overloaded) = grown {
            *response = Problem::from(overloaded).into_bare_response();
        }
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            problem.write(response, id, options.wants_problem);
        }
        self.policy.finish(response, options);
    }

    /// The response of the policy, or that of a handler.
    fn handle(
        &self,
        request: Request<RequestBody>,
        connection: &Connection,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        match self.policy.admit(&request, connection.host()) {
            Ok(()) => Either::Left(self.router.call(request)),
            Err(answer) => Either::Right(ready(Ok(*answer))),
        }
    }
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response<ResponseBody<Body>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<Body>>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let exchange = Exchange::begin(&self.connection);
        Box::pin(Arc::clone(&self.middleware).answer(request, exchange).map(Ok))
    }
}

/// The bytes of a response that count.
fn size(body: &Body) -> usize {
    let size = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    size.saturating_sub(SMALL_RESPONSE)
}
