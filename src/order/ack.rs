//! The ACK that the worker sends back for an event, as a record on the bus. A worker of an older service sends no
//! version, so it may be missing; such an ACK answers all waiters of its order. The JSON value is written with exactly
//! the three fields of the contract (see `record`); the version is a header. An ACK is only a hint and may be lost, or
//! sent twice: the store has the outcome.

use jiff::Timestamp;
use serde::Serialize;

use super::id::{OrderId, Version};
use super::record::{Undecodable, header, members, string, time, to_microseconds, uuid, version_header};
use super::status::Status;

/// The worker's message that it has processed a version of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The order.
    pub order_id: OrderId,
    /// The version that was processed; `None` in an ACK from a worker that knows no versions.
    pub version: Option<Version>,
    /// How it ended.
    pub status: AckStatus,
    /// When, by the worker's clock.
    pub processed_at: Timestamp,
}

/// The outcome of processing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AckStatus {
    /// A new or updated order was processed.
    Processed,
    /// Any other change was applied.
    Updated,
    /// Processing failed for good; the order says why.
    Failed,
}

impl AckStatus {
    /// The status of the ACK for an event of this status that did not fail.
    #[must_use]
    pub fn of_event(status: Status) -> AckStatus {
        match status {
            Status::New | Status::Processing => AckStatus::Processed,
            Status::Done | Status::Failed | Status::Cancelled | Status::Deleted => AckStatus::Updated,
        }
    }
}

#[derive(Serialize)]
struct AckOut {
    order_id: String,
    status: AckStatus,
    processed_at: Timestamp,
}

impl Ack {
    /// The JSON value on the wire.
    ///
    /// # Errors
    /// Never; the signature is `serde_json`'s.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&AckOut {
            order_id: self.order_id.to_string(),
            status: self.status,
            processed_at: self.processed_at,
        })
    }

    /// Our headers, names and values.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        self.version.map(|version| (header::ORDER_VERSION, version.to_string())).into_iter().collect()
    }

    /// Reads a record's value and headers; ours may be missing.
    ///
    /// # Errors
    /// [`Undecodable`] saying what is wrong.
    pub fn decode<'h>(
        value: &[u8],
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
    ) -> Result<Ack, Undecodable> {
        let [order_id, status, processed_at] = members(value, ["order_id", "status", "processed_at"])?;
        let order_id = uuid("order_id", &string("order_id", order_id)?.unwrap_or_default(), OrderId::parse)?;
        let status = match string("status", status)?.unwrap_or_default().as_str() {
            "processed" => AckStatus::Processed,
            "updated" => AckStatus::Updated,
            "failed" => AckStatus::Failed,
            name => return Err(Undecodable::because(format!("status {name:?} is not known"))),
        };
        let processed_at = time("processed_at", processed_at)?
            .map(to_microseconds)
            .ok_or_else(|| Undecodable::because("processed_at is missing".to_owned()))?;
        Ok(Ack { order_id, version: version_header(headers)?, status, processed_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "0196f1c8-7b1e-7000-8000-00000000002a";

    #[test]
    fn a_reason_stays_short_however_long_the_record_is() {
        let long = "x".repeat(2 * 1024 * 1024);
        let ack =
            format!(r#"{{"order_id":"{ORDER}","status":"{long}","processed_at":"1970-01-01T00:00:00Z"}}"#);
        let reason = Ack::decode(ack.as_bytes(), []).unwrap_err().0;
        assert!(reason.len() < 1000, "{} bytes: {reason:.80}", reason.len());
    }

    #[test]
    fn new_and_updated_orders_are_acked_as_processed_and_all_others_as_updated() {
        for status in Status::ALL {
            let processed = matches!(status, Status::New | Status::Processing);
            let expected = if processed { AckStatus::Processed } else { AckStatus::Updated };
            assert_eq!(AckStatus::of_event(status), expected, "{status}");
        }
    }
}
