//! The rules of HTTP for the requests and responses of all handlers: equal paths (RFC 3986) reach the same handler,
//! requests of other sites' pages are rejected, a body must not be encoded, and a response states how it may be cached.
//! The middleware applies them before and after the handler.

use std::sync::Arc;

use axum::response::Response;
use hyper::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Method, Request};

use super::accept::{self, JSON};
use super::cors::Cors;
use super::hosts::Hosts;
use super::path::normalized;
use crate::api::options::Options;
use crate::api::problem::{Problem, UNSUPPORTED_CONTENT_ENCODING};
use crate::api::problem_body::PROBLEM_JSON;
use crate::api::server::known_host::KnownHost;

/// The rules. Cheap to clone.
#[derive(Clone)]
pub(in crate::api) struct Policy(Arc<Rules>);

struct Rules {
    hosts: Hosts,
    cors: Cors,
}

/// The facts about a request on which its response depends, besides the handler.
pub(in crate::api) struct ResponseOptions {
    /// Whether the caller prefers a plain problem where older clients get the older form.
    pub(in crate::api) wants_problem: bool,
    varies_by_accept: bool,
    /// The origin that may read the response.
    origin: Option<HeaderValue>,
}

impl Policy {
    /// The rules of these options.
    pub(in crate::api) fn new(settings: &Options) -> Policy {
        let hosts = Hosts::new(settings.checks_host, &settings.allowed_hosts);
        Policy(Arc::new(Rules { hosts, cors: Cors::new(&settings.cors_allowed_origins) }))
    }

    /// Reads the options of a request before it is handled, and normalizes its path.
    pub(in crate::api) fn prepare<B>(&self, request: &mut Request<B>) -> ResponseOptions {
        if let Some(uri) = normalized(request.uri()) {
            *request.uri_mut() = uri;
        }
        let (method, path) = (request.method(), request.uri().path());
        let is_write = varies_by_accept(method, path);
        ResponseOptions {
            wants_problem: is_write && accept::best(request.headers(), [JSON, PROBLEM_JSON]) == PROBLEM_JSON,
            varies_by_accept: is_write || matches!(path, "/health" | "/health/"),
            origin: self.0.cors.allowed(request.headers()),
        }
    }

    /// Admits a request. `known` is a host that its connection has named before.
    ///
    /// # Errors
    /// The response, where the request does not reach a handler.
    pub(in crate::api) fn admit<B>(
        &self,
        request: &Request<B>,
        known: &KnownHost,
    ) -> Result<(), Box<Response>> {
        let refused = |problem: Problem| Box::new(problem.into_bare_response());
        self.0.hosts.admit(request, &self.0.cors, known).map_err(refused)?;
        if let Some(answer) = self.0.cors.preflight(request) {
            return Err(Box::new(answer));
        }
        // The handlers of other methods read no body.
        match *request.method() {
            Method::POST | Method::PUT | Method::DELETE => uncoded(request.headers()).map_err(refused),
            _ => Ok(()),
        }
    }

    /// Adds the headers of every response.
    pub(in crate::api) fn finish(&self, response: &mut Response, options: ResponseOptions) {
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        let varies = match (options.varies_by_accept, self.0.cors.is_on()) {
            (true, true) => "Accept, Origin",
            (true, false) => "Accept",
            (false, true) => "Origin",
            (false, false) => "",
        };
        if !varies.is_empty() {
            headers.entry(VARY).or_insert(HeaderValue::from_static(varies));
        }
        if let Some(origin) = options.origin {
            Cors::share(headers, origin);
        }
    }
}

/// Whether the request writes one order: the response about a deleted one has two forms.
fn varies_by_accept(method: &Method, path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    match *method {
        Method::POST => path == "/orders",
        Method::PUT | Method::DELETE => path.starts_with("/orders/"),
        _ => false,
    }
}

/// Rejects an encoded body, because the service decodes none.
fn uncoded(headers: &HeaderMap) -> Result<(), Problem> {
    if !headers.contains_key(CONTENT_ENCODING) {
        return Ok(());
    }
    let is_plain = |value: &HeaderValue| {
        let mut codings =
            value.to_str().unwrap_or("?").split(',').map(|coding| coding.trim_matches([' ', '\t']));
        codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case("identity"))
    };
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    match has_body && !headers.get_all(CONTENT_ENCODING).iter().all(is_plain) {
        true => Err(Problem::new(
            UNSUPPORTED_CONTENT_ENCODING,
            "Content-Encoding: send the body uncompressed, without this header",
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_body_can_be_encoded() {
        let code = |headers: &[(hyper::header::HeaderName, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            uncoded(&headers.collect()).err().map_or("", |problem| problem.kind.code)
        };
        let with_body = (CONTENT_LENGTH, "2");
        for coding in ["identity", "IDENTITY", "identity, identity", ""] {
            assert_eq!(code(&[with_body.clone(), (CONTENT_ENCODING, coding)]), "", "{coding}");
        }
        for coding in ["gzip", "br", "identity, gzip", "x"] {
            for body in [with_body.clone(), (TRANSFER_ENCODING, "chunked")] {
                assert_eq!(code(&[body, (CONTENT_ENCODING, coding)]), "unsupported_content_encoding");
            }
            assert_eq!(code(&[(CONTENT_ENCODING, coding)]), "");
            assert_eq!(code(&[(CONTENT_LENGTH, "0"), (CONTENT_ENCODING, coding)]), "");
        }
    }
}
