//! What every request passes on its way in and out: an id, the gate that turns requests away before memory
//! grows, a net for panics, and the pen that writes problems. Handlers below it know none of this.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::service::Service;
use hyper::{HeaderMap, Request, Response};
use hyper_util::service::TowerToHyperService;
use uuid::Uuid;

use super::budget::Budget;
use super::problem::Problem;
use crate::config::REQUEST_OVERHEAD;
use crate::error::Error;

/// The header that carries the id of a request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request, among its extensions.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) HeaderValue);

/// The outermost service. Cheap to clone.
#[derive(Clone)]
pub(super) struct Edge {
    router: TowerToHyperService<Router>,
    budget: Budget,
    body_limit: usize,
}

impl Edge {
    pub(super) fn new(router: Router, budget: Budget, body_limit: usize) -> Edge {
        Edge { router: TowerToHyperService::new(router), budget, body_limit }
    }

    async fn answer(self, mut request: Request<Incoming>) -> Response<Body> {
        let started = Instant::now();
        let id = request_id(request.headers());
        request.extensions_mut().insert(RequestId(id.clone()));
        let wants_problem = accepts(request.headers(), "application/problem+json");
        let line = tracing::enabled!(tracing::Level::DEBUG)
            .then(|| format!("{} {}", request.method(), request.uri().path()));
        let handled = AssertUnwindSafe(self.handle(request)).catch_unwind().await;
        let mut response = handled.unwrap_or_else(|_| Problem::from(Error::Internal).into_bare_response());
        if let Some(problem) = response.extensions_mut().remove::<Problem>() {
            problem.write(&mut response, &id, wants_problem);
        }
        if let Some(line) = line {
            let (status, elapsed) = (response.status().as_u16(), started.elapsed());
            tracing::debug!(request_id = id.to_str().unwrap_or(""), status, ?elapsed, "{line}");
        }
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }

    async fn handle(self, request: Request<Incoming>) -> Response<Body> {
        // Whoever asks how the service is must be answered most of all when it is full.
        let _permit = if request.uri().path().starts_with("/health") {
            None
        } else {
            let cost = REQUEST_OVERHEAD + expected_body(request.headers(), self.body_limit);
            match self.budget.take(cost) {
                Ok(permit) => Some(permit),
                Err(overloaded) => return overloaded.into_bare_response(),
            }
        };
        match self.router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

impl Service<Request<Incoming>> for Edge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let edge = self.clone();
        Box::pin(async move { Ok(edge.answer(request).await) })
    }
}

/// How many bytes of body to reckon with. A length above the limit is refused later without being read.
fn expected_body(headers: &HeaderMap, limit: usize) -> usize {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        Some(length) => limit.min(length),
        None if headers.contains_key(TRANSFER_ENCODING) => limit,
        None => 0,
    }
}

/// The caller's id for the request where it is short and plain, else a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers
        .get(REQUEST_ID)
        .filter(|id| (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic));
    given.cloned().unwrap_or_else(|| {
        let mut text = Uuid::encode_buffer();
        HeaderValue::from_str(Uuid::now_v7().as_simple().encode_lower(&mut text))
            .unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}

/// Whether an `Accept` header names that media type.
pub(super) fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers.get_all(ACCEPT).iter().any(|value| value.to_str().is_ok_and(|text| text.contains(media_type)))
}
