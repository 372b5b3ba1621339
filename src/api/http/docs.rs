//! The description of the API: `/openapi.json`, `/asyncapi.json` and a page at `/docs` that shows the first. Everything
//! is in the binary and is prepared once, at the start: the page must not load anything from another server. A content
//! security policy enforces that.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use hyper::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY,
};
use hyper::{HeaderMap, StatusCode};
use serde_json::json;
use utoipa::openapi::ContentBuilder;
use utoipa::openapi::content::Content as DocumentContent;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa_swagger_ui::Config;
use uuid::Uuid;

use super::path::Segment;
use crate::api::openapi::parameters::IfNoneMatch;
use crate::api::openapi::problems::{FileProblems, Problems};
use crate::api::openapi::responses::{cache_control, etag, header, known, plain, responses, saying};
use crate::api::openapi::schema::text;
use crate::api::problem::{Problem, ROUTE_NOT_FOUND};

/// Namespace of the ETags, which are digests of the contents.
const CONTENTS: Uuid = Uuid::from_u128(0x6f72_6465_7273_7472_6561_6d2e_646f_6373);

/// The content security policy: the page may use scripts, styles, pictures and requests of this server. The UI draws
/// its icons from `data:` addresses; inline scripts and styles are not allowed.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files of the UI that the page loads.
const UI_FILES: [&str; 3] = ["favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css"];

/// The AsyncAPI document. It is written by hand, and tests compare it with the messages.
pub const ASYNCAPI_JSON: &str = include_str!("../../../asyncapi.json");

/// The served contents by their names. Cheap to clone.
#[derive(Clone)]
pub(super) struct Docs(Arc<BTreeMap<&'static str, Content>>);

/// A served content.
struct Content {
    media_type: Cow<'static, str>,
    is_gzipped: bool,
    etag: HeaderValue,
    bytes: Bytes,
}

impl Content {
    fn new(media_type: impl Into<Cow<'static, str>>, is_gzipped: bool, bytes: impl Into<Bytes>) -> Content {
        let bytes = bytes.into();
        let digest = Uuid::new_v5(&CONTENTS, &bytes);
        // The tag consists of hexadecimal digits between two quotes.
        let etag = HeaderValue::try_from(format!("\"{}\"", digest.as_simple()));
        let etag = etag.unwrap_or_else(|_| HeaderValue::from_static("\"\""));
        Content { media_type: media_type.into(), is_gzipped, etag, bytes }
    }
}

impl Docs {
    /// The contents: that OpenAPI document, and the compiled-in files.
    pub(super) fn new(openapi_json: String) -> Docs {
        let mut all = BTreeMap::from([
            ("openapi.json", Content::new("application/json", false, openapi_json)),
            ("asyncapi.json", Content::new("application/json", false, ASYNCAPI_JSON)),
            ("index.html", Content::new("text/html; charset=utf-8", false, include_str!("docs/index.html"))),
            ("page.css", Content::new("text/css; charset=utf-8", false, include_str!("docs/page.css"))),
            ("page.js", Content::new("text/javascript; charset=utf-8", false, include_str!("docs/page.js"))),
        ]);
        let config = Arc::new(Config::default());
        for name in UI_FILES {
            // A test checks that each of them exists.
            if let Ok(Some(file)) = utoipa_swagger_ui::serve(name, Arc::clone(&config)) {
                all.insert(name, Content::new(file.content_type, file.gzpipped, file.bytes.into_owned()));
            }
        }
        Docs(Arc::new(all))
    }

    /// The content with that name; a 304 where the caller already has it.
    fn answer(&self, name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
        let Some(content) = self.0.get(name) else {
            return Err(Problem::new(
                ROUTE_NOT_FOUND,
                "there is no file with that name; the page is at /docs",
            ));
        };
        let mut response = Response::default();
        let mut set = |name: HeaderName, value: HeaderValue| response.headers_mut().insert(name, value);
        set(ETAG, content.etag.clone());
        // The next version of the service has other contents under the same names.
        set(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        set(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        set(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        if is_known(&content.etag, headers) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        if let Ok(media_type) = HeaderValue::try_from(&*content.media_type) {
            set(CONTENT_TYPE, media_type);
        }
        // Large files are compressed in the binary; every browser accepts gzip.
        if content.is_gzipped {
            set(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        *response.body_mut() = Body::from(content.bytes.clone());
        Ok(response)
    }
}

/// Whether `If-None-Match` names the tag.
fn is_known(etag: &HeaderValue, headers: &HeaderMap) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|text| text.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// This document
///
/// OpenAPI 3.1 of the running version.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "reference",
    params(IfNoneMatch),
    responses(Document, Problems)
)]
pub(super) async fn get_openapi(State(docs): State<Docs>, headers: HeaderMap) -> Result<Response, Problem> {
    docs.answer("openapi.json", &headers)
}

/// The messages on Kafka
///
/// AsyncAPI 3.0: the events, the ACKs and the dead letters.
#[utoipa::path(
    get,
    path = "/asyncapi.json",
    operation_id = "asyncapi",
    tag = "reference",
    params(IfNoneMatch),
    responses(Document, Problems)
)]
pub(super) async fn get_asyncapi(State(docs): State<Docs>, headers: HeaderMap) -> Result<Response, Problem> {
    docs.answer("asyncapi.json", &headers)
}

/// A page that shows this document
///
/// Everything that it loads comes from this server.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "page",
    tag = "reference",
    params(IfNoneMatch),
    responses(Page, Problems)
)]
pub(super) async fn get_docs_page(State(docs): State<Docs>, headers: HeaderMap) -> Result<Response, Problem> {
    docs.answer("index.html", &headers)
}

/// A file of that page
///
/// Large files are served as gzip only.
#[utoipa::path(
    get, path = "/docs/{file}", operation_id = "file", tag = "reference",
    params(
        ("file" = String, Path, description = "The file's name.", min_length = 1, example = "page.css"),
        IfNoneMatch,
    ),
    responses(File, FileProblems)
)]
pub(super) async fn get_docs_file(
    State(docs): State<Docs>,
    name: Segment,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    docs.answer(&name?, &headers)
}

responses! {
    /// A document.
    Document: "200" => served("The document.").content("application/json", any()), "304" => known();

    /// The page.
    Page: "200" => served("The page.").content("text/html", plain("<!doctype html>")), "304" => known();

    /// A file of the page.
    File:
        "200" => served("The file.")
            .header("Content-Encoding", header("`gzip`, where the file is large.", text("^gzip$"), "gzip"))
            .content("text/css", plain("body { margin: 0; }"))
            .content("text/javascript", plain("SwaggerUIBundle({});"))
            .content("image/png", ContentBuilder::new().build()),
        "304" => known();
}

/// Any JSON object.
fn any() -> DocumentContent {
    let schema = ObjectBuilder::new().schema_type(Type::Object);
    ContentBuilder::new()
        .schema(Some(schema))
        .example(Some(json!({"info": {"title": "OrderStream"}})))
        .build()
}

/// Content that a browser may cache.
fn served(description: &str) -> ResponseBuilder {
    saying(description)
        .header("ETag", etag("\"6e4f0a3e5d0c5a0f9d3a1b2c3d4e5f60\""))
        .header("Cache-Control", cache_control("no-cache"))
        .header(
            "Content-Security-Policy",
            header(
                "The browser's permissions for the content.",
                ObjectBuilder::new().schema_type(Type::String),
                "default-src 'none'",
            ),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_page_names_exists() {
        let docs = Docs::new(String::new());
        let page = include_str!("docs/index.html");
        let named: Vec<&str> = page.split('"').filter_map(|text| text.strip_prefix("/docs/")).collect();
        assert_eq!(named.len(), UI_FILES.len() + 2, "{named:?}");
        for name in named {
            let content = docs.0.get(name).unwrap_or_else(|| panic!("no {name}"));
            assert!(!content.bytes.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_tag_is_known_in_a_list_and_as_a_weak_one() {
        let etag = HeaderValue::from_static("\"a\"");
        let known = |text: &'static str| {
            is_known(&etag, &HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(text))]))
        };
        assert!(["*", "\"a\"", "W/\"a\"", "\"b\" , \"a\""].into_iter().all(known));
        assert!(!["", "a", "\"b\"", "\"A\""].into_iter().any(known));
        assert!(!is_known(&etag, &HeaderMap::new()));
    }
}
