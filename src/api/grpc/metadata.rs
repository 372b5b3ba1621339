//! The metadata of a call: the idempotency key and the version that an order must have, for which the messages have no
//! field. A value that is not understood is always an error, because the caller relies on it: without its key a
//! repetition could make a second order, and without its version a write could overwrite an unseen change. An entry may
//! be given several times, and a key under both of its names, but only with equal values.

use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use crate::order::{Invalid, KeyText, Version};

/// The names of the idempotency key; the second is that of HTTP.
const KEYS: [&str; 2] = ["request_id", "idempotency-key"];

/// The name of the version that an order must have to be changed.
pub(super) const IF_VERSION: &str = "if-version";

/// The idempotency key of a call. Both names must hold the same key.
pub(super) fn key(metadata: &MetadataMap) -> Result<Option<KeyText>, Invalid> {
    let mut found: Option<KeyText> = None;
    for (name, text) in KEYS.into_iter().flat_map(|name| texts(metadata, name).map(move |text| (name, text)))
    {
        let read = text?;
        let key = KeyText::parse(read).map_err(|error| Invalid::new(name, error.to_string()))?;
        if found.as_ref().is_some_and(|found| *found != key) {
            return Err(Invalid::new(name, "it differs from another key of this call; send one key"));
        }
        found = Some(key);
    }
    Ok(found)
}

/// The version that a call requires.
pub(super) fn if_version(metadata: &MetadataMap) -> Result<Option<Version>, Invalid> {
    let mut found = None;
    for text in texts(metadata, IF_VERSION) {
        let version = text?.parse().ok().filter(|version: &Version| *version >= 0);
        let wrong =
            || Invalid::new(IF_VERSION, "send one whole number, the version that the order must have");
        let version = version.ok_or_else(wrong)?;
        if found.is_some_and(|found| found != version) {
            return Err(wrong());
        }
        found = Some(version);
    }
    Ok(found)
}

/// The values of a name, as texts.
fn texts<'a>(
    metadata: &'a MetadataMap,
    name: &'static str,
) -> impl Iterator<Item = Result<&'a str, Invalid>> {
    let text = move |value: &'a AsciiMetadataValue| {
        value.to_str().map_err(|_| Invalid::new(name, "send printable ASCII"))
    };
    metadata.get_all(name).iter().map(text)
}
