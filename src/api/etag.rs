//! Entity tags, and the conditions that callers make of them (RFC 9110, sections 8.8.3 and 13). A tag says which version of
//! an order was seen, and, while the worker has not finished that version, where the order stood: the same version looks
//! different before and after. A condition to write is about the version alone.

use std::fmt;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};

use crate::order::{Invalid, Order, Status, Version};
use crate::service::{Change, Progress, Receipt};

/// A version that no order has: what a tag of somebody else's counts as.
const NO_VERSION: Version = 0;

/// The tag of an order as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    version: Version,
    /// Where the order stands, unless the worker has finished its version.
    unsettled: Option<Status>,
}

impl Tag {
    pub(super) fn of_order(order: &Order) -> Tag {
        let settled = !order.is_pending() && matches!(order.status, Status::Done | Status::Deleted);
        Tag { version: order.version, unsettled: (!settled).then_some(order.status) }
    }

    /// The tag of the order as the command left it.
    pub(super) fn of_receipt(receipt: &Receipt) -> Tag {
        let unsettled = match (receipt.progress, receipt.change) {
            (Progress::Processed, _) => None,
            (Progress::Failed, _) => Some(Status::Failed),
            (Progress::Pending | Progress::NotAwaited, Change::Created) => Some(Status::New),
            (Progress::Pending | Progress::NotAwaited, Change::Updated) => Some(Status::Processing),
            (Progress::Pending | Progress::NotAwaited, Change::Deleted) => Some(Status::Deleted),
        };
        Tag { version: receipt.version, unsettled }
    }

    pub(super) fn to_header(self) -> HeaderValue {
        // Digits and letters between two quotes.
        HeaderValue::try_from(self.to_string()).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
    }

    /// Whether `If-None-Match` names this tag: the caller has what it would get.
    pub(super) fn is_known_to(self, headers: &HeaderMap) -> bool {
        let own = self.to_string();
        headers.get_all(IF_NONE_MATCH).iter().any(|value| {
            let text = value.to_str().unwrap_or("");
            text.trim() == "*" || tags(text).any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == own)
        })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unsettled {
            None => write!(f, "\"v{}\"", self.version),
            Some(status) => write!(f, "\"v{}-{status}\"", self.version),
        }
    }
}

/// What `If-Match` asks of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// That it exists.
    Any,
    /// That it has this version.
    Version(Version),
}

impl IfMatch {
    /// Reads the header, where there is one.
    ///
    /// # Errors
    /// [`Invalid`] where it is no single tag.
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<IfMatch>, Invalid> {
        let Some(text) = single(headers, &IF_MATCH, "If-Match")? else { return Ok(None) };
        let refused = || Invalid::new("If-Match", "send one ETag as it was, such as \"v1\", or *");
        if text == "*" {
            return Ok(Some(IfMatch::Any));
        }
        let mut named = tags(text);
        let tag = named.next().ok_or_else(refused)?;
        if named.next().is_some() {
            return Err(Invalid::new(
                "If-Match",
                "several ETags are one too many; send the one that was seen last",
            ));
        }
        let bare = tag.strip_prefix("W/").unwrap_or(tag);
        let opaque = bare.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or_else(refused)?;
        if opaque.contains('"') {
            return Err(refused());
        }
        // A weak tag matches nothing here, and neither does one that is not ours.
        let is_weak = tag.len() != bare.len();
        Ok(Some(IfMatch::Version(if is_weak { NO_VERSION } else { version(opaque).unwrap_or(NO_VERSION) })))
    }

    /// The version that it asks for; `None` where any will do.
    pub(super) fn version(self) -> Option<Version> {
        match self {
            IfMatch::Any => None,
            IfMatch::Version(version) => Some(version),
        }
    }
}

/// Whether `If-None-Match: *` asks that the order must not exist.
///
/// # Errors
/// [`Invalid`] where the header says anything else.
pub(super) fn must_not_exist(headers: &HeaderMap) -> Result<bool, Invalid> {
    match single(headers, &IF_NONE_MATCH, "If-None-Match")? {
        None => Ok(false),
        Some("*") => Ok(true),
        Some(_) => {
            Err(Invalid::new("If-None-Match", "of a write, only * is understood: the order must not exist"))
        }
    }
}

/// The text of a header that may be there once.
pub(super) fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'h str>, Invalid> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Invalid::new(shown, "send this header once"));
    }
    let text = value.to_str().map_err(|_| Invalid::new(shown, "send printable ASCII"))?;
    Ok(Some(text.trim_matches([' ', '\t'])))
}

/// The members of a list of tags. None of ours holds a comma.
fn tags(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(|tag| tag.trim_matches([' ', '\t'])).filter(|tag| !tag.is_empty())
}

/// The version in a tag of ours.
fn version(opaque: &str) -> Option<Version> {
    let rest = opaque.strip_prefix('v')?;
    let (digits, status) = match rest.split_once('-') {
        Some((digits, status)) => (digits, Some(status)),
        None => (rest, None),
    };
    let is_ours = digits.bytes().all(|byte| byte.is_ascii_digit())
        && status.is_none_or(|status| Status::parse(status).is_some());
    is_ours.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn if_match_is_one_tag_and_counts_by_its_version() {
        for (text, read) in [
            ("*", IfMatch::Any),
            (r#""v7""#, IfMatch::Version(7)),
            (r#" "v7-processing" "#, IfMatch::Version(7)),
            (r#"W/"v7""#, IfMatch::Version(0)),
            (r#""abc""#, IfMatch::Version(0)),
            (r#""v""#, IfMatch::Version(0)),
            (r#""v7-shipped""#, IfMatch::Version(0)),
            (r#""v99999999999999999999""#, IfMatch::Version(0)),
        ] {
            assert_eq!(IfMatch::read(&headers(IF_MATCH, &[text])), Ok(Some(read)), "{text}");
        }
        assert_eq!(IfMatch::read(&HeaderMap::new()), Ok(None));
        for values in [&["v7"][..], &[""], &[r#""v7"#], &[r#""v7", "v8""#], &[r#""v7""#, r#""v7""#], &["7"]] {
            assert_eq!(
                IfMatch::read(&headers(IF_MATCH, values)).unwrap_err().field,
                "If-Match",
                "{values:?}"
            );
        }
    }

    #[test]
    fn if_none_match_takes_lists_and_weak_tags() {
        let tag = Tag { version: 7, unsettled: Some(Status::New) };
        assert_eq!(tag.to_string(), r#""v7-new""#);
        for text in ["*", r#""v7-new""#, r#"W/"v7-new""#, r#""a", "v7-new""#] {
            assert!(tag.is_known_to(&headers(IF_NONE_MATCH, &[text])), "{text}");
        }
        for text in ["", r#""v7""#, r#""v7-done""#, "v7-new"] {
            assert!(!tag.is_known_to(&headers(IF_NONE_MATCH, &[text])), "{text}");
        }
        assert!(tag.is_known_to(&headers(IF_NONE_MATCH, &[r#""a""#, r#""v7-new""#])));
        assert_eq!(must_not_exist(&headers(IF_NONE_MATCH, &["*"])), Ok(true));
        assert!(must_not_exist(&headers(IF_NONE_MATCH, &[r#""v1""#])).is_err());
    }
}
