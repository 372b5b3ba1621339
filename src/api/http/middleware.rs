//! What every request passes on its way in and out: an id, the gate that turns requests away before memory grows, a net
//! for panics, and the pen that writes problems. What a request and its answer hold in memory is counted here, to the
//! last byte that is written. Handlers below it know none of this.

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
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::service::Service;
use hyper::{HeaderMap, Request, Response, Uri};
use hyper_util::service::TowerToHyperService;
use uuid::Uuid;

use crate::api::http::policy::{Asked, Front};
use crate::api::http::router::Reading;
use crate::api::problem::Problem;
use crate::api::server::connection::Connection;
use crate::api::server::exchange::{Answer, Caller, Counted, Exchange, Uncounted, Upload};
use crate::api::server::forwarded::TrustedProxies;
use crate::config::REQUEST_OVERHEAD;
use crate::error::Error;
use crate::service::quota::{Peer, Permit, Resource};

/// The header that carries the id of a request.
pub(in crate::api) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What an answer may take up without being counted besides its request.
const SMALL_ANSWER: usize = 4 << 10;

/// The outermost service.
pub(in crate::api) struct Edge {
    router: TowerToHyperService<Router>,
    front: Front,
    proxies: Arc<TrustedProxies>,
}

/// The same for one connection.
pub(in crate::api) struct Door {
    edge: Arc<Edge>,
    connection: Arc<Connection>,
}

impl Edge {
    pub(in crate::api) fn new(router: Router, front: Front, proxies: Arc<TrustedProxies>) -> Arc<Edge> {
        Arc::new(Edge { router: TowerToHyperService::new(router), front, proxies })
    }

    /// The service of a connection.
    pub(in crate::api) fn door(self: &Arc<Edge>, connection: &Arc<Connection>) -> Door {
        Door { edge: Arc::clone(self), connection: Arc::clone(connection) }
    }

    /// Answers a request. What can be done at once is done here: in the future it would be copied with it.
    fn answer(
        self: Arc<Edge>,
        request: Request<Incoming>,
        mut exchange: Exchange,
    ) -> impl Future<Output = Response<Answer<Body>>> + Send {
        let started = Instant::now();
        let mut request = request.map(|body| Upload::new(body, exchange.connection()));
        let id = request_id(request.headers());
        let asked = self.front.look(&mut request);
        let line = tracing::enabled!(tracing::Level::DEBUG)
            .then(|| format!("{} {}", request.method(), request.uri().path()));
        let peer = peer(&self.proxies, exchange.connection(), request.headers());
        // Health is answered also, and most of all, when the service is full.
        let memory = match request.uri().path().starts_with("/health") {
            true => Ok(None),
            false => take(&peer, size_of_head(request.uri(), request.headers())).map(Some),
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
            self.seal(&mut response, &mut exchange, &id, asked);
            if let Some(line) = line {
                let (status, elapsed) = (response.status().as_u16(), started.elapsed());
                tracing::debug!(request_id = id.to_str().unwrap_or(""), status, ?elapsed, "{line}");
            }
            response.headers_mut().insert(REQUEST_ID, id);
            if exchange.connection().has_unread_body() {
                // The rest of the request stands where the next one would begin.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let exchange = Arc::new(exchange);
            response.map(|body| Answer::new(body, exchange))
        }
    }

    /// Counts what an answer takes up, writes its problem, and adds what every answer says.
    fn seal(&self, response: &mut Response<Body>, exchange: &mut Exchange, id: &HeaderValue, asked: Asked) {
        if response.extensions_mut().remove::<Uncounted>().is_some() {
            exchange.hold(None);
        }
        let grown = match response.extensions_mut().remove::<Counted>() {
            Some(counted) => {
                exchange.hold_answer(counted);
                Ok(())
            }
            None => exchange.grow(size(response.body())),
        };
        // What it was read for is counted now.
        response.extensions_mut().remove::<Reading>();
        if let Err(overloaded) = grown {
            *response = Problem::from(overloaded).into_bare_response();
        }
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            problem.write(response, id, asked.wants_problem);
        }
        self.front.finish(response, asked);
    }

    /// The answer of the front, or that of a handler.
    fn handle(
        &self,
        request: Request<Upload>,
        connection: &Connection,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<> {
        match self.front.admit(&request, connection.host()) {
            Ok(()) => Either::Left(self.router.call(request)),
            Err(answer) => Either::Right(ready(Ok(*answer))),
        }
    }
}

impl Service<Request<Incoming>> for Door {
    type Response = Response<Answer<Body>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer<Body>>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let exchange = Exchange::begin(&self.connection);
        Box::pin(Arc::clone(&self.edge).answer(request, exchange).map(Ok))
    }
}

/// Takes the memory that a request holds before its body, with so many bytes of a head.
pub(in crate::api) fn take(peer: &Arc<Peer>, head: usize) -> Result<Permit, Error> {
    peer.take(Resource::Memory, REQUEST_OVERHEAD + head)
}

/// How many headers are part of what every request counts, and what each further one takes up besides its text.
const USUAL_HEADERS: usize = 16;
const HEADER_OVERHEAD: usize = 128;

/// How many bytes the head of a request takes up.
pub(in crate::api) fn size_of_head(uri: &Uri, headers: &HeaderMap) -> usize {
    let entries = headers.len().saturating_sub(USUAL_HEADERS) * HEADER_OVERHEAD;
    let uri = uri.path_and_query().map_or(0, |text| text.as_str().len());
    headers.iter().fold(uri + entries, |size, (name, value)| size + name.as_str().len() + value.len() + 4)
}

/// How many bytes of an answer count.
fn size(body: &Body) -> usize {
    let size = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    size.saturating_sub(SMALL_ANSWER)
}

/// The one that a request comes from: behind a trusted proxy, its client.
pub(in crate::api) fn peer(
    proxies: &TrustedProxies,
    connection: &Connection,
    headers: &HeaderMap,
) -> Arc<Peer> {
    let peer = connection.peer();
    if !peer.speaks_for_others() {
        return Arc::clone(peer);
    }
    let client = proxies.client(headers);
    client.map_or_else(|| Arc::clone(peer), |client| peer.quotas().peer(client, proxies.contains(client)))
}

/// The caller's id for the request where it is short and plain, else a new one.
pub(in crate::api) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers
        .get(REQUEST_ID)
        .filter(|id| (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic));
    given.cloned().unwrap_or_else(|| {
        let mut text = Uuid::encode_buffer();
        HeaderValue::from_str(Uuid::now_v7().as_simple().encode_lower(&mut text))
            .unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}
