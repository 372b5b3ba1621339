//! The problems in the OpenAPI document: those of each operation, their schema, and an example of each. All of it is
//! made of the table of problems and of the types of the bodies that are sent, so that the document cannot differ from
//! them.

use std::collections::BTreeMap;

use utoipa::openapi::example::Example;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{ContentBuilder, Ref, RefOr};

use super::responses::{accept_encoding, json, retry_after, vary};
use super::schema::{ORDER, reference};
use crate::api::problem::{
    BODY_TIMEOUT, BODY_TOO_LARGE, CROSS_SITE_REQUEST, DEADLINE_EXCEEDED, INTERNAL, INVALID, Kind,
    METHOD_NOT_ALLOWED, MISDIRECTED_REQUEST, ORDER_DELETED, OVERLOADED, Problem, ROUTE_NOT_FOUND,
    UNSUPPORTED_CONTENT_ENCODING,
};
use crate::api::problem_body::{DeletedBody, ProblemBody};
use crate::error::Error;
use crate::order::{Invalid, OrderId};
use crate::service::RETRY_AFTER;

/// Declares the problems of an operation.
macro_rules! problems {
    ($($(#[$doc:meta])* $vis:vis $name:ident: $($kind:ident),+;)+) => {$(
        $(#[$doc])*
        $vis struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::response::Response>,
            > {
                $crate::api::openapi::problems::responses_of(&[$($kind),+])
            }
        }
    )+};
}
pub(in crate::api) use problems;

problems! {
    /// The problems of any request, except at `/health`.
    pub(in crate::api) Problems: INVALID, MISDIRECTED_REQUEST, INTERNAL, OVERLOADED;
    /// The problems of a path whose file or code may not exist.
    pub(in crate::api) FileProblems: INVALID, ROUTE_NOT_FOUND, MISDIRECTED_REQUEST, INTERNAL, OVERLOADED;
}

/// One response for each status, with an example for each code.
pub(in crate::api) fn responses_of(kinds: &[Kind]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<&Kind>> = BTreeMap::new();
    for kind in kinds {
        by_status.entry(kind.status).or_default().push(kind);
    }
    by_status.into_iter().map(|(status, kinds)| (status.to_string(), response(&kinds).into())).collect()
}

fn response(kinds: &[&Kind]) -> Response {
    let titles: Vec<String> = kinds.iter().map(|kind| format!("`{}`: {}.", kind.code, kind.title)).collect();
    let mut response = ResponseBuilder::new().description(titles.join(" "));
    if kinds.contains(&&ORDER_DELETED) {
        response = response.header("Vary", vary());
        response = response.content("application/json", json::<DeletedBody>(example_of_deleted()));
    }
    let examples = kinds
        .iter()
        .map(|kind| (kind.code, RefOr::Ref(Ref::new(format!("#/components/examples/{}", kind.code)))));
    let content = ContentBuilder::new().schema(Some(reference::<ProblemBody>())).examples_from_iter(examples);
    response = response.content("application/problem+json", content.build());
    if kinds.iter().any(|kind| kind.status == 503) {
        response = response.header("Retry-After", retry_after());
    }
    if kinds.contains(&&UNSUPPORTED_CONTENT_ENCODING) {
        response = response.header("Accept-Encoding", accept_encoding());
    }
    response.build()
}

/// An example of every kind of problem.
pub(in crate::api) fn examples() -> Vec<(&'static str, Example)> {
    let named = |problem: Problem| {
        let mut example = Example::new();
        example.summary = problem.kind.title.to_owned();
        example.value = serde_json::to_value(problem.members(REQUEST)).ok();
        (problem.kind.code, example)
    };
    samples().into_iter().map(named).collect()
}

/// A problem, as it is written.
pub(in crate::api) fn problem(error: Error) -> serde_json::Value {
    serde_json::to_value(Problem::from(error).members(REQUEST)).unwrap_or_default()
}

fn example_of_deleted() -> serde_json::Value {
    let problem = Problem::from(Error::Deleted { order_id: order_id() });
    serde_json::to_value(problem.members(REQUEST).of_deleted(ORDER)).unwrap_or_default()
}

/// The request id of the examples.
const REQUEST: &str = "checkout-7";

fn order_id() -> OrderId {
    OrderId::parse(ORDER).unwrap_or_else(OrderId::generate)
}

/// One problem of every kind, with the texts that callers get.
fn samples() -> Vec<Problem> {
    let order_id = order_id();
    let errors = [
        Error::Invalid(Invalid::new("payload", "an order needs a payload; send any JSON value but null")),
        Error::NotFound { order_id: Some(order_id) },
        Error::HistoryOff,
        Error::Deleted { order_id },
        Error::PreconditionFailed { order_id, current: Some(3) },
        Error::KeyReused,
        Error::Internal,
        Error::Unreadable { order_id },
        Error::Overloaded { retry_after: RETRY_AFTER },
        Error::Unavailable,
        Error::OutcomeUnknown { order_id },
    ];
    let of_http = [
        (ROUTE_NOT_FOUND, "the paths are in /openapi.json"),
        (METHOD_NOT_ALLOWED, "the Allow header lists the methods that this path takes"),
        (BODY_TIMEOUT, "body: send all of it within 30 seconds"),
        (DEADLINE_EXCEEDED, "the deadline of the call has passed; the order may be stored nevertheless"),
        (BODY_TOO_LARGE, "body: send at most 1048576 bytes"),
        (
            CROSS_SITE_REQUEST,
            "Origin: a page of another site cannot change orders; add its origin to CORS_ALLOWED_ORIGINS if it may",
        ),
        (
            MISDIRECTED_REQUEST,
            "Host: this service does not answer to that name; call it by its IP address or as localhost, or add the name \
             to ALLOWED_HOSTS",
        ),
        (UNSUPPORTED_CONTENT_ENCODING, "Content-Encoding: send the body uncompressed, without this header"),
    ];
    let of_http = of_http.map(|(kind, detail)| Problem::new(kind, detail));
    errors.map(Problem::from).into_iter().chain(of_http).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::problem::TABLE;

    #[test]
    fn every_kind_of_problem_has_an_example() {
        let mut shown: Vec<&str> = samples().iter().map(|problem| problem.kind.code).collect();
        let mut all: Vec<&str> = TABLE.iter().map(|kind| kind.code).collect();
        shown.sort_unstable();
        all.sort_unstable();
        assert_eq!(shown, all);
    }
}
