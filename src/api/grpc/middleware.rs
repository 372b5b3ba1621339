//! The middleware of every call: its id, the caller's deadline, its permit and its memory, and a handler of panics. A
//! call beyond a limit is rejected before its message is read. Each failure is one of the table of problems. Permits
//! and memory count until the response is written, not until the method returns. Health checks count no memory and have
//! permits of their own, so that they are answered when the service is full. A connection that opens more calls than
//! its peer may have is closed, because rejections of that many calls would take as much memory as serving them.

use std::convert::Infallible;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::Service;
use hyper::{Request, Response, StatusCode};
use hyper_util::service::TowerToHyperService;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::deadline::Deadline;
use super::message::{self, Memory, SMALL_MESSAGE};
use super::orders::{METHODS, Server};
use super::size::Size;
use super::status::{ORDER_ID, PROBLEM_CODE, deadline_exceeded, uncompressed};
use super::until::Until;
use crate::api::caller::{Caller, peer_of, take_head};
use crate::api::failures;
use crate::api::options::Options;
use crate::api::problem::{Problem, ROUTE_NOT_FOUND};
use crate::api::reads::ReadGuard;
use crate::api::request_id::{REQUEST_ID, request_id};
use crate::api::server::connection::{CloseRequest, Connection};
use crate::api::server::exchange::Exchange;
use crate::api::server::forwarded::TrustedProxies;
use crate::api::server::response_body::ResponseBody;
use crate::error::Error;
use crate::order::Invalid;
use crate::service::quota::Resource;

/// The middleware, around the methods. Cheap to clone.
#[derive(Clone)]
pub(super) struct Middleware {
    routes: TowerToHyperService<Routes>,
    options: Arc<Options>,
    proxies: Arc<TrustedProxies>,
    closing: CancellationToken,
}

/// The middleware for one connection.
pub(super) struct ConnectionService {
    middleware: Middleware,
    connection: Arc<Connection>,
}

/// How long a health check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a stream of reflection may take.
const REFLECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// The kind of a call, where the middleware treats kinds differently.
enum Target {
    /// A method of the service of orders, with one message each way.
    Order,
    /// A health check. It is also answered when the service is full, which is when it matters most.
    Check,
    /// A health watch: the health now, and each change.
    Watch,
    /// A stream of reflection.
    Reflection,
}

impl Middleware {
    /// The middleware around these methods.
    pub(super) fn new(
        routes: Routes,
        proxies: Arc<TrustedProxies>,
        options: &Options,
        closing: CancellationToken,
    ) -> Middleware {
        let options = Arc::new(options.clone());
        Middleware { routes: TowerToHyperService::new(routes), options, proxies, closing }
    }

    /// The service of one connection.
    pub(super) fn service(&self, connection: &Arc<Connection>) -> ConnectionService {
        ConnectionService { middleware: self.clone(), connection: Arc::clone(connection) }
    }

    async fn answer(
        self,
        request: Request<Incoming>,
        mut exchange: Exchange,
    ) -> Response<ResponseBody<Body>> {
        let mut response = self.call(request, &mut exchange).await;
        let size = response.extensions_mut().remove::<Size>().map_or(0, |Size(size)| size);
        let grown = exchange.grow(size);
        // The response is counted now, so the read's turn ends.
        response.extensions_mut().remove::<ReadGuard>();
        if let Err(overloaded) = grown {
            let id = response.headers().get(REQUEST_ID).cloned();
            response = finish(Err(overloaded.into()), id.unwrap_or_else(|| HeaderValue::from_static("none")));
            warn(&response);
        }
        let exchange = Arc::new(exchange);
        let answer: Weak<Exchange> = Arc::downgrade(&exchange);
        exchange.connection().watch(answer);
        response.map(|body| ResponseBody::new(body, exchange))
    }

    async fn call(&self, mut request: Request<Incoming>, exchange: &mut Exchange) -> Response<Body> {
        let started = Instant::now();
        let id = request_id(request.headers());
        let is_grpc = request.headers().get(CONTENT_TYPE);
        if !is_grpc.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
            return finish(Ok(not_grpc()), id);
        }
        let line = tracing::enabled!(tracing::Level::DEBUG).then(|| request.uri().path().to_owned());
        let deadline = match Deadline::read(request.headers()) {
            Ok(deadline) => deadline,
            Err(invalid) => return finish(Err(invalid.into()), id),
        };
        let handled = match deadline {
            Some(deadline) => {
                request.extensions_mut().insert(deadline);
                let Deadline(at) = deadline;
                let handled = timeout_at(
                    at.into(),
                    AssertUnwindSafe(self.handle(request, exchange, &id)).catch_unwind(),
                );
                // A call whose caller has stopped waiting does not begin.
                let in_time = if at <= Instant::now() { None } else { handled.await.ok() };
                in_time.unwrap_or_else(|| Ok(Err(deadline_exceeded())))
            }
            None => AssertUnwindSafe(self.handle(request, exchange, &id)).catch_unwind().await,
        };
        let response = finish(handled.unwrap_or_else(|_| Err(Error::Internal.into())), id);
        warn(&response);
        if let Some(line) = line {
            let (id, code) = (text(&response, REQUEST_ID.as_str()), text(&response, PROBLEM_CODE));
            tracing::debug!(request_id = id, code, elapsed = ?started.elapsed(), "{line}");
        }
        response
    }

    async fn handle(
        &self,
        request: Request<Incoming>,
        exchange: &mut Exchange,
        id: &HeaderValue,
    ) -> Result<Response<Body>, Problem> {
        let target = target(request.uri().path())?;
        let (mut head, body) = request.into_parts();
        let peer = peer_of(&self.proxies, exchange.connection(), &head.headers);
        match target {
            // A check does not count memory: it is one small message each way, and few run at a time.
            Target::Check => {
                exchange.hold_call(peer.take(Resource::Checks, 1)?);
                let body = Limited::new(body, SMALL_MESSAGE);
                let answer = timeout(CHECK_TIMEOUT, route(&self.routes, Request::from_parts(head, body)));
                answer.await.map_err(|_| Problem::from(Error::Unavailable))
            }
            Target::Watch => {
                exchange.hold(Some(take_head(&peer, &head.uri, &head.headers)?));
                exchange.hold_call(peer.take(Resource::Watches, 1)?);
                let body = Until::new(body, self.closing.clone(), CHECK_TIMEOUT);
                let body = Limited::new(body, SMALL_MESSAGE);
                Ok(route(&self.routes, Request::from_parts(head, body)).await)
            }
            Target::Reflection => {
                exchange.hold(Some(take_head(&peer, &head.uri, &head.headers)?));
                exchange.hold_call(peer.take(Resource::Watches, 1)?);
                let body = Until::new(body, self.closing.clone(), REFLECTION_TIMEOUT);
                Ok(route(&self.routes, Request::from_parts(head, body)).await)
            }
            Target::Order => {
                exchange.hold_call(peer.take(Resource::Calls, 1)?);
                exchange.hold(Some(take_head(&peer, &head.uri, &head.headers)?));
                let caller = Caller { peer, request_id: id.clone() };
                let message = message::read(body, &self.options, &caller).await?;
                uncompressed(&message.bytes)?;
                head.extensions.insert(Memory(Arc::new(message.memory)));
                head.extensions.insert(caller);
                self.route_order(Request::from_parts(head, Full::new(message.bytes))).await
            }
        }
    }

    /// Calls a method of the service of orders.
    async fn route_order(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Problem> {
        let response = route(&self.routes, request).await;
        let headers = response.headers();
        match Status::from_header_map(headers).map(|status| status.code()) {
            // Our responses have the code of their problem; this one is the library's, for a message that it cannot
            // read.
            Some(Code::Internal) if !headers.contains_key(PROBLEM_CODE) => {
                Err(Invalid::new("body", "it is not a message of this method").into())
            }
            _ => Ok(response),
        }
    }
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response<ResponseBody<Body>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<Body>>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (middleware, mut exchange) = (self.middleware.clone(), Exchange::begin(&self.connection));
        match self.connection.peer().take(Resource::OpenCalls, 1) {
            Ok(open) => {
                exchange.hold_open(open);
                Box::pin(async move { Ok(middleware.answer(request, exchange).await) })
            }
            // Rejections of that many calls would take as much memory as serving them.
            Err(_) => {
                self.connection.close(CloseRequest::Immediate);
                Box::pin(pending())
            }
        }
    }
}

/// The kind of a call, from its path.
fn target(path: &str) -> Result<Target, Problem> {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    match service {
        Server::NAME if METHODS.contains(&method) => Ok(Target::Order),
        "grpc.health.v1.Health" if method == "Watch" => Ok(Target::Watch),
        "grpc.health.v1.Health" if method == "Check" => Ok(Target::Check),
        "grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection" => {
            Ok(Target::Reflection)
        }
        _ => {
            let methods = METHODS.join(", ");
            let detail = format!("the methods of {} are {methods}; reflection describes them", Server::NAME);
            Err(Problem::new(ROUTE_NOT_FOUND, detail))
        }
    }
}

async fn route<B>(routes: &TowerToHyperService<Routes>, request: Request<B>) -> Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match routes.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Turns a problem into a response, and adds the id.
fn finish(handled: Result<Response<Body>, Problem>, id: HeaderValue) -> Response<Body> {
    let mut response = handled.unwrap_or_else(|problem| Status::from(problem).into_http());
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The response to a request that is not a gRPC call, as the protocol requires it.
fn not_grpc() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

/// Logs a failure of the service, as HTTP does.
fn warn(response: &Response<Body>) {
    let code = text(response, PROBLEM_CODE);
    failures::log(code, |suppressed| {
        let (request_id, order_id) = (text(response, REQUEST_ID.as_str()), text(response, ORDER_ID));
        let order_id = (!order_id.is_empty()).then_some(order_id);
        let detail = Status::from_header_map(response.headers()).map(|status| status.message().to_owned());
        tracing::warn!(suppressed, request_id, code, order_id, "{}", detail.unwrap_or_default());
    });
}

/// A header's text; empty where the header is missing.
fn text<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}
