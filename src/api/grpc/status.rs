//! A problem as a gRPC status: the code of the table, the detail as the message, and in metadata the facts for programs
//! that HTTP has in the members of the body. Both protocols always state the same facts. `problem-code` marks a failure
//! as the service's own: a status without it is the library's. `grpc-retry-pushback-ms`, after which clients of gRPC
//! retry by themselves, must never accompany a problem that is not retryable.

use std::time::Duration;

use tonic::Status;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use crate::api::problem::{DEADLINE_EXCEEDED, Problem, UNSUPPORTED_CONTENT_ENCODING, seconds};

/// The stable code of a problem. A failure without it is the library's own.
pub(super) const PROBLEM_CODE: &str = "problem-code";

/// The version of the call's order.
pub(super) const ORDER_VERSION: &str = "order-version";

/// The order of a problem.
pub(super) const ORDER_ID: &str = "order-id";

/// The problem of a caller whose deadline has passed.
pub(super) fn deadline_exceeded() -> Problem {
    let detail = "grpc-timeout: it passed before the response; the order may be stored, so check whether it is there, \
                  or send the same request_id again";
    Problem::new(DEADLINE_EXCEEDED, detail)
}

/// Rejects a compressed message; the first byte of its prefix marks it.
pub(super) fn uncompressed(message: &[u8]) -> Result<(), Problem> {
    match message.first() {
        Some(0) | None => Ok(()),
        Some(_) => {
            let detail = "grpc-encoding: send the message uncompressed, with the encoding identity";
            Err(Problem::new(UNSUPPORTED_CONTENT_ENCODING, detail))
        }
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Status {
        let kind = problem.kind;
        let mut metadata = MetadataMap::new();
        metadata.insert(PROBLEM_CODE, AsciiMetadataValue::from_static(kind.code));
        let retryable = if kind.retryable { "true" } else { "false" };
        metadata.insert("retryable", AsciiMetadataValue::from_static(retryable));
        if kind == UNSUPPORTED_CONTENT_ENCODING {
            metadata.insert("grpc-accept-encoding", AsciiMetadataValue::from_static("identity"));
        }
        if let Some(order_id) = problem.order_id {
            add(&mut metadata, ORDER_ID, &order_id.to_string());
        }
        if let Some(version) = problem.current_version {
            add(&mut metadata, "current-version", &version.to_string());
        }
        if let Some(pause) = problem.retry_after {
            add(&mut metadata, "retry-after", &seconds(pause).to_string());
            // The retries that are built into gRPC clients use this one.
            if kind.retryable {
                let pause = pause.max(Duration::from_secs(1)).as_millis();
                add(&mut metadata, "grpc-retry-pushback-ms", &pause.to_string());
            }
        }
        Status::with_metadata(kind.grpc, problem.detail, metadata)
    }
}

/// Adds a text of plain ASCII.
pub(super) fn add(metadata: &mut MetadataMap, name: &'static str, text: &str) {
    if let Ok(value) = AsciiMetadataValue::try_from(text) {
        metadata.insert(name, value);
    }
}
