//! The body of a problem (RFC 9457), and its older form for callers of a deleted order. HTTP sends it, a batch holds
//! it, and the OpenAPI document shows it; a gRPC call has the same facts in metadata. The members come from the table
//! and the problem alone, and `type` refers to the page of the table's row. A body consists of strings and numbers, so
//! that it can always be written.

use std::borrow::Cow;

use hyper::header::HeaderValue;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{ORDER_DELETED, Problem, codes};
use super::uri;
use crate::order::Version;

/// The media type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

impl Problem {
    /// The members of the body.
    pub(super) fn members<'a>(&'a self, request_id: &'a str) -> ProblemBody<'a> {
        ProblemBody {
            r#type: format!("/problems/{}", self.kind.code),
            title: self.kind.title,
            status: self.kind.status,
            detail: &self.detail,
            instance: uri::reference(request_id),
            code: self.kind.code,
            retryable: self.kind.retryable,
            order_id: self.order_id.map(|id| id.to_string()),
            current_version: self.current_version,
        }
    }

    /// The media type and text of the body. Callers of a deleted order get the members that old clients read, with the
    /// problem inside, unless they ask for a plain problem: `status` has another meaning in each form.
    pub(super) fn body(&self, request_id: &HeaderValue, wants_problem: bool) -> (&'static str, Vec<u8>) {
        let body = self.members(request_id.to_str().unwrap_or(""));
        match &body.order_id {
            Some(order_id) if self.kind == ORDER_DELETED && !wants_problem => {
                ("application/json", to_json(&body.of_deleted(order_id)))
            }
            _ => (PROBLEM_JSON, to_json(&body)),
        }
    }
}

/// The JSON text of a body.
pub(super) fn to_json(body: &impl Serialize) -> Vec<u8> {
    // These bodies are strings and numbers, which always serialize.
    serde_json::to_vec(body).unwrap_or_default()
}

/// A problem (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// The address of the explanation of this kind of problem.
    #[schema(format = "uri-reference")]
    r#type: String,
    /// The problem in a few words; the same for every problem of the code.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request, for people: it names the field and the fix.
    detail: &'a str,
    /// The id of the request, as in `X-Request-Id`. Characters that a URI reference cannot hold are percent-encoded.
    #[schema(value_type = String, format = "uri-reference")]
    instance: Cow<'a, str>,
    /// The kind of problem, for programs. New kinds may be added.
    #[schema(schema_with = codes)]
    code: &'a str,
    /// Whether the same request can safely be sent again, and may then succeed.
    retryable: bool,
    /// The order, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = "uuid", nullable = false)]
    order_id: Option<String>,
    /// The current version of the order, where the request names another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = i64, required = false)]
    current_version: Option<Version>,
}

impl ProblemBody<'_> {
    /// The body for callers of a deleted order.
    pub(super) fn of_deleted<'a>(&'a self, order_id: &'a str) -> DeletedBody<'a> {
        DeletedBody { order_id, status: "deleted", problem: self }
    }
}

/// The response to a write to a deleted order: the members that old clients read, and the problem. With `Accept:
/// application/problem+json` the response is the problem alone.
#[derive(Serialize, ToSchema)]
#[schema(as = DeletedOrder)]
pub(super) struct DeletedBody<'a> {
    #[schema(format = "uuid")]
    order_id: &'a str,
    /// `deleted`.
    status: &'a str,
    problem: &'a ProblemBody<'a>,
}
