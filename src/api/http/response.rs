//! The responses of handlers: a JSON body, and the extensions with which a handler informs the middleware about the
//! memory of the response. The middleware always removes the extensions. A read holds its turn until its response is
//! counted; a change of orders takes the memory of its response before the response is made, because an accepted change
//! must never turn into a rejection. Only a response whose memory has another limit, as a stream's, may be `Unmetered`.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, StatusCode};

use crate::api::reads::ReadGuard;
use crate::service::quota::Permit;

/// The capacity for headers of most responses.
const USUAL_HEADERS: usize = 12;

/// A JSON response.
pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = HeaderMap::with_capacity(USUAL_HEADERS);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Keeps the turn of a read until the response is counted.
pub(super) fn hold(response: &mut Response, guard: ReadGuard) {
    response.extensions_mut().insert(guard);
}

/// The memory of a response, taken before the response is made. The response to a write that was carried out must not
/// turn into a rejection because memory is short.
#[derive(Debug, Clone)]
pub(super) struct ReservedMemory(Arc<Permit>);

impl ReservedMemory {
    /// The mark of a response that holds this memory.
    pub(super) fn of(memory: Permit) -> ReservedMemory {
        ReservedMemory(Arc::new(memory))
    }

    /// The memory; `None` while another response shares it.
    pub(super) fn into_permit(self) -> Option<Permit> {
        Arc::into_inner(self.0)
    }
}

/// Marks a response whose memory is limited in another way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unmetered;
