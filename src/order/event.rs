//! The event that an accepted command causes, as a record on the bus. Other services send events, too, so each field is
//! checked, and the fields that only this service sends may be missing: they are headers, because the JSON value is an
//! old contract. The payload is written as the text that it is, digit for digit. An event of an existing order may have
//! a payload that a new order must not have, because an earlier version has accepted it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::id::{OrderId, UserId, Version};
use super::payload::Payload;
use super::record::{Undecodable, header, members, string, time, to_microseconds, uuid, version_header};
use super::status::Status;

/// The message that an accepted command sends to the worker.
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
    /// The order's status: `new`, `processing` (updated) or `deleted`; other services may send any status.
    pub status: Status,
    /// When it happened, by the sender's clock.
    pub timestamp: Timestamp,
}

#[derive(Serialize)]
struct EventOut<'a> {
    order_id: &'a str,
    external_id: &'a str,
    user_id: &'a str,
    payload: &'a RawValue,
    status: &'a str,
    timestamp: Timestamp,
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
    /// record without a `timestamp` counts as sent at `received`.
    ///
    /// # Errors
    /// [`Undecodable`] with the reason.
    pub fn decode<'h>(
        value: &[u8],
        headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
        received: Timestamp,
    ) -> Result<Event, Undecodable> {
        let [order_id, user_id, payload, status, timestamp] =
            members(value, ["order_id", "user_id", "payload", "status", "timestamp"])?;
        let order_id = match string("order_id", order_id)? {
            Some(id) if id != "0" => Some(uuid("order_id", &id, OrderId::parse)?),
            _ => None,
        };
        let user_id = match string("user_id", user_id)? {
            Some(id) => Some(uuid("user_id", &id, UserId::parse)?),
            None => None,
        };
        let status = match string("status", status)? {
            Some(name) => Status::parse(&name)
                .ok_or_else(|| Undecodable::because(format!("status {name:?} is not known")))?,
            None => Status::New,
        };
        let payload = payload.map(RawValue::get).filter(|json| *json != "null");
        if order_id.is_none() && (user_id.is_none() || payload.is_none()) {
            return Err(Undecodable::because(
                "an event that creates an order needs a user_id and a payload".to_owned(),
            ));
        }
        // Of an existing order only the amount is read, or nothing, and an earlier version may have accepted its
        // payload.
        let parse = match (order_id, status) {
            (None, _) => Payload::parse,
            (Some(_), Status::Cancelled | Status::Deleted) => Payload::of_gone_order,
            (Some(_), _) => Payload::of_order,
        };
        let payload = parse(payload.unwrap_or("null"))
            .map_err(|error| Undecodable::because(format!("payload: {error}")))?;
        let timestamp = to_microseconds(time("timestamp", timestamp)?.unwrap_or(received));
        Ok(Event { order_id, version: version_header(headers)?, user_id, payload, status, timestamp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "0196f1c8-7b1e-7000-8000-00000000002a";
    const USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";

    fn at(microsecond: i64) -> Timestamp {
        Timestamp::from_microsecond(microsecond).unwrap()
    }

    fn event(value: &str) -> Result<Event, Undecodable> {
        Event::decode(value.as_bytes(), [], at(7))
    }

    fn versioned(version: &[u8]) -> Result<Option<Version>, Undecodable> {
        let value = format!(r#"{{"order_id":"{ORDER}","payload":{{}}}}"#);
        let headers = [("traceparent", b"00-1".as_slice()), (header::ORDER_VERSION, version)];
        Event::decode(value.as_bytes(), headers, at(7)).map(|event| event.version)
    }

    #[test]
    fn a_field_that_is_missing_null_or_empty_means_the_same() {
        let bare = event(&format!(r#"{{"order_id":"{ORDER}"}}"#)).unwrap();
        assert_eq!((bare.user_id, bare.status, bare.timestamp), (None, Status::New, at(7)));
        assert_eq!(bare.payload.as_str(), "null");
        for fields in [
            r#""user_id":null,"status":null,"timestamp":null,"payload":null"#,
            r#""user_id":"","status":"","external_id":null"#,
        ] {
            assert_eq!(event(&format!(r#"{{"order_id":"{ORDER}",{fields}}}"#)).as_ref(), Ok(&bare));
        }
        for id in ["", r#""order_id":null,"#, r#""order_id":"","#, r#""order_id":"0","#] {
            let creates = event(&format!(r#"{{{id}"user_id":"{USER}","payload":{{}}}}"#)).unwrap();
            assert_eq!(creates.order_id, None, "{id}");
        }
    }

    #[test]
    fn an_event_that_creates_needs_a_user_and_a_payload() {
        for value in [
            "{}".to_owned(),
            format!(r#"{{"order_id":"0","user_id":"{USER}"}}"#),
            format!(r#"{{"order_id":"0","user_id":"{USER}","payload":null}}"#),
            r#"{"order_id":"0","payload":{}}"#.to_owned(),
            r#"{"order_id":"0","user_id":"","payload":{}}"#.to_owned(),
        ] {
            assert!(event(&value).unwrap_err().0.contains("needs a user_id and a payload"), "{value}");
        }
    }

    #[test]
    fn of_a_field_given_twice_the_last_counts() {
        let value = format!(r#"{{"order_id":7,"status":"new","order_id":"{ORDER}","status":"deleted"}}"#);
        let event = event(&value).unwrap();
        assert_eq!((event.order_id, event.status), (OrderId::parse(ORDER), Status::Deleted));
    }

    #[test]
    fn the_version_comes_from_its_header_and_must_be_one() {
        assert_eq!(versioned(b"1"), Ok(Some(1)));
        assert_eq!(versioned(b"9223372036854775807"), Ok(Some(i64::MAX)));
        for wrong in ["", "0", "-1", "1.0", "x", "9223372036854775808", " 1"] {
            let reason = versioned(wrong.as_bytes()).unwrap_err().0;
            assert!(reason.contains(header::ORDER_VERSION), "{wrong}: {reason}");
        }
        assert!(versioned(b"\xff").is_err());
    }

    #[test]
    fn our_headers_name_the_event_and_its_version_where_there_is_one() {
        let mut event = event(&format!(r#"{{"order_id":"{ORDER}"}}"#)).unwrap();
        assert_eq!(event.headers(), []);
        event.version = Some(12);
        let id = format!("{ORDER}/12");
        assert_eq!(event.headers(), [(header::EVENT_ID, id), (header::ORDER_VERSION, "12".to_owned())]);
    }

    #[test]
    fn times_are_kept_to_the_microsecond_and_any_offset_is_understood() {
        for (text, microsecond) in [
            ("1970-01-01T00:00:01.123456789Z", 1_123_456),
            ("1970-01-01T03:00:01.5+03:00", 1_500_000),
            ("1970-01-01T00:00:01Z", 1_000_000),
        ] {
            let value = format!(r#"{{"order_id":"{ORDER}","timestamp":"{text}"}}"#);
            assert_eq!(event(&value).unwrap().timestamp, at(microsecond), "{text}");
        }
    }

    #[test]
    fn a_reason_stays_short_however_long_the_record_is() {
        let long = "x".repeat(2 * 1024 * 1024);
        for value in [
            format!(r#"{{"order_id":"{long}"}}"#),
            format!(r#"{{"order_id":"{ORDER}","user_id":"{long}"}}"#),
            format!(r#"{{"order_id":"{ORDER}","status":"{long}"}}"#),
            format!(r#"{{"order_id":"{ORDER}","timestamp":"{long}"}}"#),
            format!(r#"{{"order_id":"{}"}}"#, "Ж".repeat(1000)),
        ] {
            let reason = event(&value).unwrap_err().0;
            assert!(reason.len() < 1000, "{} bytes: {reason:.80}", reason.len());
        }
    }
}
