//! `GET /problems/{code}`: the row of the table of problems to which the `type` of a problem refers. It needs no
//! service: the table is compiled in. The response is the row itself, so that it always states the status, the gRPC
//! code and the safety of a retry that a problem of this code has. Another code is `route_not_found`.

use axum::extract::Path;
use axum::response::Response;
use hyper::StatusCode;
use serde_json::Value;

use super::path::Segment;
use super::response::json as json_response;
use crate::api::openapi::problems::FileProblems;
use crate::api::openapi::responses::{json as body, responses, saying};
use crate::api::problem::{Kind, ORDER_NOT_FOUND, Problem, ROUTE_NOT_FOUND, TABLE};
use crate::api::problem_body::to_json;

/// Explain a kind of problem, to which a problem's `type` refers
#[utoipa::path(
    get, path = "/problems/{code}", tag = "reference",
    params(("code" = String, Path, description = "A problem's code.", min_length = 1, example = "order_not_found")),
    responses(ProblemPage, FileProblems)
)]
pub(super) async fn get_problem(code: Segment) -> Result<Response, Problem> {
    let Path(code) = code?;
    let kind = TABLE.iter().find(|kind| kind.code == code);
    let kind = kind.ok_or_else(|| Problem::new(ROUTE_NOT_FOUND, "there is no problem with that code"))?;
    Ok(json_response(StatusCode::OK, to_json(kind)))
}

responses! {
    /// A kind of problem.
    ProblemPage: "200" => saying("The kind of problem.").content("application/json", body::<Kind>(example()));
}

/// An example for the document.
fn example() -> Value {
    serde_json::to_value(ORDER_NOT_FOUND).unwrap_or_default()
}
