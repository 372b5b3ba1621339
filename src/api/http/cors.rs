//! Cross-origin resource sharing (Fetch, section 3.2), off unless `CORS_ALLOWED_ORIGINS` names origins: a browser lets
//! pages of these origins read responses, and send more than a form can. Credentials are never shared. This is our own
//! implementation, because the ready-made layer answers every `OPTIONS` request, and would run only after the
//! rejections of the middleware.

use axum::body::Body;
use axum::response::Response;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue,
    ORIGIN, VARY,
};
use hyper::{HeaderMap, Method, Request, StatusCode};

/// The methods of all paths.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE";

/// The request headers that a page may send; the star does not include `Authorization`.
const REQUEST_HEADERS: &str = "*, authorization";

/// The response headers that a page may read, besides those that browsers always allow.
const EXPOSED: &str = "accept-encoding, allow, etag, idempotency-replayed, link, location, preference-applied, \
    retry-after, x-request-id";

/// The seconds for which a browser may cache the response to a preflight.
const MAX_AGE: &str = "600";

/// The request headers on which the response to a preflight depends.
const PREFLIGHT_VARIES: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

/// The origins that are allowed.
pub(super) struct Cors {
    any: bool,
    /// In the form that browsers send.
    origins: Vec<String>,
}

impl Cors {
    /// Allows these origins; `*` allows all.
    pub(super) fn new(origins: &[String]) -> Cors {
        let any = origins.iter().any(|origin| origin == "*");
        Cors { any, origins: origins.iter().map(|origin| serialized(origin)).collect() }
    }

    /// Whether any origin is allowed.
    pub(super) fn is_on(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Whether the page that made a request may read the response.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        self.allowed(headers).is_some()
    }

    /// The origin that the response names as allowed; `None` where the page that made the request may not read it.
    pub(super) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        if !self.is_on() {
            return None;
        }
        let mut given = headers.get_all(ORIGIN).iter();
        let origin = given.next().filter(|_| given.next().is_none())?;
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().any(|allowed| origin == allowed.as_str()).then(|| origin.clone())
    }

    /// The response to an allowed preflight; `None` for any other request.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response> {
        let asks = request.method() == Method::OPTIONS
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
            && self.allows(request.headers());
        if !asks {
            return None;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
            (ACCESS_CONTROL_MAX_AGE, MAX_AGE),
            (VARY, PREFLIGHT_VARIES),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        Some(response)
    }

    /// Adds the headers that allow a page to read a response.
    pub(super) fn share(headers: &mut HeaderMap, origin: HeaderValue) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}

/// An origin in the form that browsers send: in lower case, and without the default port of its scheme.
fn serialized(origin: &str) -> String {
    let origin = origin.to_ascii_lowercase();
    let usual = if origin.starts_with("https:") { ":443" } else { ":80" };
    origin.strip_suffix(usual).map_or_else(|| origin.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origins: &[&str], origin: &'static str) -> Option<String> {
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let headers = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
        Cors::new(&origins).allowed(&headers).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_origin_is_allowed_in_the_form_that_browsers_send() {
        let origins = ["HTTPS://Shop.example:443", "http://localhost:3000", "http://a.example:80"];
        for origin in ["https://shop.example", "http://localhost:3000", "http://a.example"] {
            assert_eq!(allowed(&origins, origin).as_deref(), Some(origin));
        }
        for origin in ["https://shop.example:444", "http://shop.example", "http://localhost", "null", ""] {
            assert_eq!(allowed(&origins, origin), None, "{origin}");
        }
        assert_eq!(allowed(&["*"], "https://any.example").as_deref(), Some("*"));
        assert_eq!(allowed(&[], "https://any.example"), None);
    }
}
