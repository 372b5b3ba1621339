//! A problem as a status of gRPC: the code of the table, the detail as the message, and in metadata the facts for
//! programs that HTTP has in the members of the body.

use std::time::Duration;

use tonic::Status;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use crate::api::problem::{DEADLINE_EXCEEDED, Problem, UNSUPPORTED_CONTENT_ENCODING, seconds};

/// The stable code of a problem; of an answer that has none, the status is the library's own.
pub(super) const PROBLEM_CODE: &str = "problem-code";

/// The version of the order that a call was about.
pub(super) const ORDER_VERSION: &str = "order-version";

/// The order that a problem is about.
pub(super) const ORDER_ID: &str = "order-id";

/// A caller whose deadline has passed.
pub(super) fn deadline_exceeded() -> Problem {
    let detail = "grpc-timeout: it was over before the answer; an order that was sent may be stored, so look whether it \
                  is there, or send the same request_id again";
    Problem::new(DEADLINE_EXCEEDED, detail)
}

/// A call whose message is compressed: the first byte that stands before it says so.
pub(super) fn uncompressed(message: &[u8]) -> Result<(), Problem> {
    match message.first() {
        Some(0) | None => Ok(()),
        Some(_) => {
            let detail = "grpc-encoding: send the message as it is, with the encoding identity";
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
            tell(&mut metadata, ORDER_ID, &order_id.to_string());
        }
        if let Some(version) = problem.current_version {
            tell(&mut metadata, "current-version", &version.to_string());
        }
        if let Some(pause) = problem.retry_after {
            tell(&mut metadata, "retry-after", &seconds(pause).to_string());
            // What the retries that are built into clients heed.
            if kind.retryable {
                let pause = pause.max(Duration::from_secs(1)).as_millis();
                tell(&mut metadata, "grpc-retry-pushback-ms", &pause.to_string());
            }
        }
        Status::with_metadata(kind.grpc, problem.detail, metadata)
    }
}

/// Adds a text of plain ASCII.
pub(super) fn tell(metadata: &mut MetadataMap, name: &'static str, text: &str) {
    if let Ok(value) = AsciiMetadataValue::try_from(text) {
        metadata.insert(name, value);
    }
}
