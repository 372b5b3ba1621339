//! A problem as an HTTP response. A handler returns the problem; the middleware writes it, because only the middleware
//! has the id of the request and the form that its caller accepts. Between the two, the problem is an extension of a
//! response without a body. A failure of the service is logged when it is written, once, with that id. A rejected
//! connection has no request to answer, so its response is made here as bytes.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use hyper::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, StatusCode};

use crate::api::failures;
use crate::api::problem::{OVERLOADED, Problem, UNSUPPORTED_CONTENT_ENCODING, seconds};
use crate::api::request_id::request_id;
use crate::order::Invalid;

impl Problem {
    /// A response with the problem among its extensions, and without a body yet.
    pub(super) fn into_bare_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(self);
        response
    }

    /// Writes the body and headers, and logs a failure of the service.
    pub(super) fn write(self, response: &mut Response, request_id: &HeaderValue, wants_problem: bool) {
        failures::log(self.kind.code, |suppressed| {
            let (request_id, code) = (request_id.to_str().unwrap_or(""), self.kind.code);
            let order_id = self.order_id.map(|id| id.to_string());
            tracing::warn!(suppressed, request_id, code, order_id, "{}", self.detail);
        });
        let (media_type, text) = self.body(request_id, wants_problem);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        if let Some(pause) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds(pause)));
        }
        if self.kind == UNSUPPORTED_CONTENT_ENCODING {
            response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        // The router has set the length of the empty body.
        response.headers_mut().remove(CONTENT_LENGTH);
        *response.body_mut() = Body::from(text);
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Problem {
        Invalid::new("path", rejection.body_text()).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.into_bare_response()
    }
}

/// The whole response, head and body, to a connection whose peer has used up its share of connections. Its request is
/// not read, because that would take a slot.
pub(in crate::api) fn too_many_connections() -> Vec<u8> {
    let detail = "this address has used up its share of connections; close some, or try again later";
    let id = request_id(&HeaderMap::new());
    let (media_type, body) = Problem::new(OVERLOADED, detail).body(&id, true);
    let id = id.to_str().unwrap_or("");
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {media_type}\r\nretry-after: 1\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\
         x-request-id: {id}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}
