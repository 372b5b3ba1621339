//! The parts that the two messages on the bus share: the names of our headers, and how the fields of a record are read.
//! The JSON values are an old contract with other services and must have exactly its fields, in its order; fields of
//! our own are headers.

use jiff::Timestamp;
use serde_json::value::RawValue;
use thiserror::Error;

use super::id::Version;
use super::json::pick;

/// The names of our record headers.
pub mod header {
    /// Identifies the event: `<order_id>/<version>`.
    pub const EVENT_ID: &str = "event-id";
    /// The version of the order that the event or the ACK is about, in decimal digits.
    pub const ORDER_VERSION: &str = "order-version";
    /// The partition of the ACK topic where the sender of an event waits for its ACK, in decimal digits.
    pub const REPLY_PARTITION: &str = "reply-partition";
}

/// Why a record's bytes are not an event or not an ACK.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Undecodable(pub String);

impl Undecodable {
    /// A reason, cut where it quotes too much of the record: it travels in a header of the dead letter, and a
    /// reason as long as the record would make the letter too large to send.
    pub(super) fn because(mut reason: String) -> Undecodable {
        if let Some((end, _)) = reason.char_indices().nth(200) {
            reason.truncate(end);
            reason.push_str("...");
        }
        Undecodable(reason)
    }
}

/// The members of a record's object, as raw text.
pub(super) fn members<'a, const N: usize>(
    value: &'a [u8],
    names: [&str; N],
) -> Result<[Option<&'a RawValue>; N], Undecodable> {
    let text = std::str::from_utf8(value)
        .map_err(|error| Undecodable::because(format!("the value is not UTF-8: {error}")))?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Undecodable::because("the value is not a JSON object".to_owned()));
    }
    pick(text, names).map_err(|error| Undecodable::because(format!("the value is not valid JSON: {error}")))
}

/// A member that holds a string. `null` and `""` count as missing, as in the old contract.
pub(super) fn string(field: &str, raw: Option<&RawValue>) -> Result<Option<String>, Undecodable> {
    let Some(raw) = raw else { return Ok(None) };
    let text: Option<String> = serde_json::from_str(raw.get())
        .map_err(|error| Undecodable::because(format!("{field} is not a string: {error}")))?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// A member that holds a UUID.
pub(super) fn uuid<T>(field: &str, text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Undecodable> {
    parse(text).ok_or_else(|| Undecodable::because(format!("{field} {text:?} is not a UUID")))
}

/// A member that holds a time.
pub(super) fn time(field: &str, raw: Option<&RawValue>) -> Result<Option<Timestamp>, Undecodable> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get())
        .map_err(|error| Undecodable::because(format!("{field} is not an RFC 3339 time: {error}")))
}

/// The version that the headers name.
pub(super) fn version_header<'h>(
    headers: impl IntoIterator<Item = (&'h str, &'h [u8])>,
) -> Result<Option<Version>, Undecodable> {
    let Some((_, value)) = headers.into_iter().find(|(name, _)| *name == header::ORDER_VERSION) else {
        return Ok(None);
    };
    let version = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
    version
        .filter(|version| *version > 0)
        .map(Some)
        .ok_or_else(|| Undecodable::because(format!("header {} is not a version", header::ORDER_VERSION)))
}

/// Stores keep microseconds; a finer time would differ between an answer and a later read.
pub(super) fn to_microseconds(timestamp: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(timestamp.as_microsecond()).unwrap_or(timestamp)
}
