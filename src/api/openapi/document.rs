//! The OpenAPI document: the operations of the given routes, the schemas that they name, and what the middleware adds
//! to each operation. A served route is always in the document, because both are made of one index. The headers that
//! every response has are components, referred to by each operation. What holds for all operations, such as equal paths
//! and rejected hosts, is in the description and must follow the policy of `http`. No setting changes the document.

use utoipa::IntoParams;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{
    ComponentsBuilder, Info, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Server,
    Tag,
};

use super::parameters::RequestId;
use super::problems;
use super::responses::{no_sniff, request_id};
use super::schema::{Schemas, add};
use crate::api::problem::Kind;
use crate::api::problem_body::{DeletedBody, ProblemBody};

const DESCRIPTION: &str = "\
Takes orders, stores them durably, has a worker process them, and answers with the outcome.

Every path also works with one trailing slash, and with `HEAD` where it has `GET`. Another path gets a 404 \
(`route_not_found`), another method of a path a 405 (`method_not_allowed`) with the supported ones in `Allow`. \
Members of a body that are not listed here are ignored, and so is the `Content-Type` of a request; a \
`Content-Encoding` is not supported. New members may be added to responses at any time. Percent-encoded letters, digits, \
`-`, `.`, `_`, `~` and `:` in a path are the same as plain ones.

A write that a browser marks as another site's (`Sec-Fetch-Site`, or else an `Origin` that is not the `Host`) gets a 403 \
(`cross_site_request`). A request for a host that the service does not answer to gets a 421 (`misdirected_request`). A \
condition that a write does not evaluate (`If-Unmodified-Since` and others) gets a 400.

A response without another directive has `Cache-Control: no-store`; each has `X-Content-Type-Options: nosniff`.

Every error is a problem of RFC 9457. Its `code` is stable; `retryable` says whether the same request can safely be sent \
again, and may then succeed.";

/// The whole document of these routes. `schemas` are those of the bodies of responses; a route includes those of its
/// request.
pub(in crate::api) fn document(
    routes: impl IntoIterator<Item = (Schemas, Paths)>,
    mut schemas: Schemas,
) -> OpenApi {
    let mut paths = Paths::new();
    for (of_route, route) in routes {
        schemas.extend(of_route);
        paths.merge(route);
    }
    for item in paths.paths.values_mut() {
        operations(item).for_each(add_what_the_middleware_does);
    }
    add::<Kind>(&mut schemas);
    add::<ProblemBody>(&mut schemas);
    add::<DeletedBody>(&mut schemas);
    let components = ComponentsBuilder::new().schemas_from_iter(schemas).header("RequestId", request_id());
    let components = components.header("NoSniff", no_sniff());
    let components = RequestId::into_params(|| None)
        .into_iter()
        .fold(components, |components, parameter| components.parameter("RequestId", parameter));
    let components = problems::examples()
        .into_iter()
        .fold(components, |components, (code, example)| components.example(code, example))
        .build();
    OpenApiBuilder::new()
        .info(info())
        .servers(Some([Server::new("/")]))
        .paths(paths)
        .components(Some(components))
        .tags(Some(tags()))
        .build()
}

fn info() -> Info {
    InfoBuilder::new()
        .title("OrderStream")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").build()))
        .build()
}

fn tags() -> Vec<Tag> {
    [
        ("orders", "Orders: create, change, delete and read them."),
        ("history", "The history of orders, and live streams of it."),
        ("health", "Liveness and readiness."),
        ("reference", "The description of the API, and the problems."),
    ]
    .map(|(name, description)| {
        let mut tag = Tag::new(name);
        tag.description = Some(description.to_owned());
        tag
    })
    .into()
}

/// The operations of a path; the router has no others.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = item;
    [get, put, post, delete].into_iter().flatten()
}

/// Adds the request's optional id, and the headers that every response has.
fn add_what_the_middleware_does(operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(RefOr::Ref(Ref::new("#/components/parameters/RequestId")));
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            let header = Ref::new("#/components/headers/RequestId");
            response.headers.insert("X-Request-Id".to_owned(), RefOr::Ref(header));
            let header = Ref::new("#/components/headers/NoSniff");
            response.headers.insert("X-Content-Type-Options".to_owned(), RefOr::Ref(header));
        }
    }
}
