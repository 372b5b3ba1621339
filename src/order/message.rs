//! The two messages on the bus: the event that an accepted command causes, and the ACK that the worker sends
//! back. The JSON values are an old contract with other services and hold exactly its fields, in its order;
//! what is ours travels in headers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{OrderId, Payload, Status, UserId, Version};

/// The names of our record headers.
pub mod header {
    /// Identifies the event: `<order_id>/<version>`.
    pub const EVENT_ID: &str = "event-id";
    /// The version of the order that the event or the ACK is about, in decimal digits.
    pub const ORDER_VERSION: &str = "order-version";
}

/// What an accepted command tells the worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The order; `None` in an event from outside that asks for a new one.
    pub order_id: Option<OrderId>,
    /// The order's version after the command; `None` in an event from a service that knows no versions.
    pub version: Option<Version>,
    /// The order's owner; always known for our own events.
    pub user_id: Option<UserId>,
    /// The order's content.
    pub payload: Payload,
    /// What happened: `new`, `processing` (updated) or `deleted`; from outside any status may come.
    pub status: Status,
    /// When it happened, by the sender's clock.
    pub timestamp: Timestamp,
}

/// Why a record's bytes are no event or no ACK.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Undecodable(pub String);

#[derive(Serialize)]
struct EventOut<'a> {
    order_id: &'a str,
    external_id: &'a str,
    user_id: &'a str,
    payload: &'a RawValue,
    status: &'a str,
    timestamp: Timestamp,
}

#[derive(Deserialize)]
struct EventIn<'a> {
    #[serde(default)]
    order_id: String,
    #[serde(default)]
    user_id: String,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    status: String,
    #[serde(default)]
    timestamp: Option<Timestamp>,
}

impl Event {
    /// The JSON value on the wire.
    ///
    /// # Errors
    /// Never for a [`Payload`] that was parsed; `serde_json`'s own otherwise.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&EventOut {
            order_id: &self.order_id.map_or_else(String::new, |id| id.to_string()),
            external_id: self.payload.external_id(),
            user_id: &self.user_id.map_or_else(String::new, |id| id.to_string()),
            payload: serde_json::from_str(self.payload.as_str())?,
            status: self.status.as_str(),
            timestamp: self.timestamp,
        })
    }

    /// Our headers, names and values.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        match (self.order_id, self.version) {
            (Some(order_id), Some(version)) => vec![
                (header::EVENT_ID, format!("{order_id}/{version}")),
                (header::ORDER_VERSION, version.to_string()),
            ],
            _ => Vec::new(),
        }
    }

    /// Reads a record's value and headers. Unknown fields and headers are ignored and ours may be missing; a
    /// record without a `timestamp` took place at `received`.
    ///
    /// # Errors
    /// [`Undecodable`] saying what no worker could make sense of.
    pub fn decode<'h>(
        value: &[u8],
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
        received: Timestamp,
    ) -> Result<Event, Undecodable> {
        let text = utf8(value)?;
        let wire: EventIn<'_> = parse_object(text)?;
        let order_id = match wire.order_id.as_str() {
            "" | "0" => None,
            id => Some(
                OrderId::parse(id).ok_or_else(|| Undecodable(format!("order_id {id:?} is not a UUID")))?,
            ),
        };
        let user_id = match wire.user_id.as_str() {
            "" => None,
            id => {
                Some(UserId::parse(id).ok_or_else(|| Undecodable(format!("user_id {id:?} is not a UUID")))?)
            }
        };
        let status = match wire.status.as_str() {
            "" => Status::New,
            name => {
                Status::parse(name).ok_or_else(|| Undecodable(format!("status {name:?} is not known")))?
            }
        };
        if order_id.is_none() && (user_id.is_none() || wire.payload.is_none()) {
            return Err(Undecodable(
                "an event that creates an order needs a user_id and a payload".to_owned(),
            ));
        }
        let payload = Payload::parse(wire.payload.map_or("null", RawValue::get))
            .map_err(|error| Undecodable(format!("payload: {error}")))?;
        let timestamp = to_microseconds(wire.timestamp.unwrap_or(received));
        Ok(Event { order_id, version: version_header(headers)?, user_id, payload, status, timestamp })
    }
}

/// What the worker answers: this version of the order has been dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The order.
    pub order_id: OrderId,
    /// The version that was dealt with; `None` in an ACK from a worker that knows no versions.
    pub version: Option<Version>,
    /// How it ended.
    pub status: AckStatus,
    /// When, by the worker's clock.
    pub processed_at: Timestamp,
}

/// How the worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckStatus {
    /// A new or updated order was processed.
    Processed,
    /// Any other change was taken over.
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

#[derive(Serialize, Deserialize)]
struct AckWire {
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
        serde_json::to_vec(&AckWire {
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
        let wire: AckWire = parse_object(utf8(value)?)?;
        let order_id = OrderId::parse(&wire.order_id)
            .ok_or_else(|| Undecodable(format!("order_id {:?} is not a UUID", wire.order_id)))?;
        let processed_at = to_microseconds(wire.processed_at);
        Ok(Ack { order_id, version: version_header(headers)?, status: wire.status, processed_at })
    }
}

fn utf8(value: &[u8]) -> Result<&str, Undecodable> {
    std::str::from_utf8(value).map_err(|error| Undecodable(format!("the value is not UTF-8: {error}")))
}

/// A derived struct also reads itself from a JSON array; no sender means that.
fn parse_object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Undecodable> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Undecodable("the value is not a JSON object".to_owned()));
    }
    serde_json::from_str(text).map_err(|error| Undecodable(error.to_string()))
}

fn version_header<'h>(
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
) -> Result<Option<Version>, Undecodable> {
    let Some((_, value)) = headers.into_iter().find(|(name, _)| *name == header::ORDER_VERSION) else {
        return Ok(None);
    };
    let version = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
    version
        .filter(|version| *version > 0)
        .map(Some)
        .ok_or_else(|| Undecodable(format!("header {} is not a version", header::ORDER_VERSION)))
}

/// Stores keep microseconds; a finer time would differ between an answer and a later read.
fn to_microseconds(timestamp: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(timestamp.as_microsecond()).unwrap_or(timestamp)
}
