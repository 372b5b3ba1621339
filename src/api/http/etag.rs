//! Entity tags (RFC 9110, section 8.8.3). A tag holds the version of an order and, until the worker has finished that
//! version, the order's status: the same version differs before and after. Once another program has changed the row,
//! the tag holds the time of that change, too. Two different contents must never have the same tag.

use std::fmt;
use std::str;

use hyper::HeaderMap;
use hyper::header::{HeaderValue, IF_NONE_MATCH};

use crate::order::{Order, Status, Version};
use crate::service::{Change, CommandReceipt, ProcessingState};

/// The tag of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) version: Version,
    /// The order's status, unless the worker has finished its version and no other program has changed it since.
    status: Option<Status>,
    /// The time of the last change by another program, in microseconds.
    touched_at: Option<i64>,
}

impl Tag {
    /// The tag of an order.
    pub(super) fn of_order(order: &Order) -> Tag {
        let settled = !order.is_pending() && matches!(order.status, Status::Done | Status::Deleted);
        Tag {
            version: order.version,
            status: (!settled || order.touched).then_some(order.status),
            touched_at: order.touched.then(|| order.updated_at.as_microsecond()),
        }
    }

    /// The tag of the order after the command.
    pub(super) fn of_receipt(receipt: &CommandReceipt) -> Tag {
        let status = match (receipt.progress, receipt.change) {
            (ProcessingState::Processed, _) => None,
            (ProcessingState::Failed, _) => Some(Status::Failed),
            (ProcessingState::Pending | ProcessingState::NotAwaited, Change::Created) => Some(Status::New),
            (ProcessingState::Pending | ProcessingState::NotAwaited, Change::Updated) => {
                Some(Status::Processing)
            }
            (ProcessingState::Pending | ProcessingState::NotAwaited, Change::Deleted) => {
                Some(Status::Deleted)
            }
        };
        Tag { version: receipt.version, status, touched_at: None }
    }

    /// Reads a tag of ours, without its quotes. Only the exact octets that we write count.
    pub(super) fn read(opaque: &[u8]) -> Option<Tag> {
        let text = str::from_utf8(opaque).ok()?;
        let (rest, touched_at) = match text.split_once('.') {
            Some((rest, micros)) => (rest, Some(micros.parse().ok()?)),
            None => (text, None),
        };
        let (version, status) = match rest.split_once('-') {
            Some((version, status)) => (version, Some(Status::parse(status)?)),
            None => (rest, None),
        };
        let tag = Tag { version: version.strip_prefix('v')?.parse().ok()?, status, touched_at };
        (tag.to_string().as_bytes() == [b"\"", opaque, b"\""].concat()).then_some(tag)
    }

    /// The value of the header `ETag`.
    pub(super) fn to_header(self) -> HeaderValue {
        // The tag consists of digits, letters and signs between two quotes.
        HeaderValue::try_from(self.to_string()).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
    }

    /// Whether `If-None-Match` names this tag, so that the caller already has the content. Weak tags count, too.
    pub(super) fn is_known_to(self, headers: &HeaderMap) -> bool {
        if !headers.contains_key(IF_NONE_MATCH) {
            return false;
        }
        let own = self.to_string();
        let own = own.trim_matches('"').as_bytes();
        let mut values = headers.get_all(IF_NONE_MATCH).iter().map(HeaderValue::as_bytes);
        values.any(|value| value.trim_ascii() == b"*" || Tags(value).any(|tag| tag == Ok(own)))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"v{}", self.version)?;
        if let Some(status) = self.status {
            write!(f, "-{status}")?;
        }
        if let Some(touched_at) = self.touched_at {
            write!(f, ".{touched_at}")?;
        }
        f.write_str("\"")
    }
}

/// Bytes that are not an entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadTag;

/// The opaque parts of the tags in a list, weak or not. Ends after the first item that is not a tag.
pub(super) struct Tags<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = Result<&'a [u8], BadTag>;

    fn next(&mut self) -> Option<Result<&'a [u8], BadTag>> {
        let is_between = |byte: &u8| matches!(byte, b' ' | b'\t' | b',');
        let start = self.0.iter().position(|byte| !is_between(byte))?;
        let rest = &self.0[start..];
        self.0 = &[];
        let opaque = rest.strip_prefix(b"W/").unwrap_or(rest).strip_prefix(b"\"");
        let opaque = opaque.and_then(|rest| Some(rest.split_at(rest.iter().position(|byte| *byte == b'"')?)));
        let Some((opaque, rest)) = opaque else { return Some(Err(BadTag)) };
        // The end or a comma must follow the quote.
        match rest[1..].trim_ascii_start() {
            [] => {}
            [b',', ..] => self.0 = &rest[1..],
            _ => return Some(Err(BadTag)),
        }
        Some(Ok(opaque))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (IF_NONE_MATCH, HeaderValue::from_bytes(value.as_bytes()).unwrap()))
            .collect()
    }

    fn tag(version: Version, status: Option<Status>, touched_at: Option<i64>) -> Tag {
        Tag { version, status, touched_at }
    }

    #[test]
    fn if_none_match_takes_lists_and_weak_tags_and_compares_octets() {
        let tag = tag(7, Some(Status::New), None);
        assert_eq!(tag.to_string(), r#""v7-new""#);
        for text in ["*", r#""v7-new""#, r#"W/"v7-new""#, r#""a", "v7-new""#, "\"\u{e4},\", \"v7-new\""] {
            assert!(tag.is_known_to(&headers(&[text])), "{text}");
        }
        for text in ["", r#""v7""#, r#""v7-done""#, "v7-new", r#""v7-New""#, r#""v07-new""#, r#"",v7-new,""#]
        {
            assert!(!tag.is_known_to(&headers(&[text])), "{text}");
        }
        assert!(tag.is_known_to(&headers(&[r#""a""#, r#""v7-new""#])));
    }

    #[test]
    fn a_tag_that_is_written_can_be_read() {
        for (tag, text) in [
            (tag(7, None, None), r#""v7""#),
            (tag(7, Some(Status::Done), Some(1_760_000_000_123_456)), r#""v7-done.1760000000123456""#),
            (tag(1, Some(Status::New), Some(-5)), r#""v1-new.-5""#),
        ] {
            assert_eq!(tag.to_string(), text);
            assert_eq!(Tag::read(text.trim_matches('"').as_bytes()), Some(tag));
        }
    }
}
