//! Entity tags, and the conditions that callers make of them (RFC 9110, sections 8.8.3 and 13). A tag says which
//! version of an order was seen, and, while the worker has not finished that version, the order's status: the same
//! version looks different before and after. Once something else has changed the row, a tag names the time of that
//! change, too. A condition to write is about the version alone.

use std::fmt;
use std::str;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};

use crate::order::{Invalid, Order, Status, Version};
use crate::service::{Change, Progress, Receipt};

/// A version that no order has: a tag that the service did not write counts as it.
const NO_VERSION: Version = 0;

/// The tag of an order as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    version: Version,
    /// The order's status, unless the worker has finished its version and nothing else has changed it since.
    status: Option<Status>,
    /// When something else changed it last, in microseconds.
    touched_at: Option<i64>,
}

impl Tag {
    /// The tag of an order as it is shown.
    pub(super) fn of_order(order: &Order) -> Tag {
        let settled = !order.is_pending() && matches!(order.status, Status::Done | Status::Deleted);
        Tag {
            version: order.version,
            status: (!settled || order.touched).then_some(order.status),
            touched_at: order.touched.then(|| order.updated_at.as_microsecond()),
        }
    }

    /// The tag of the order as the command left it.
    pub(super) fn of_receipt(receipt: &Receipt) -> Tag {
        let status = match (receipt.progress, receipt.change) {
            (Progress::Processed, _) => None,
            (Progress::Failed, _) => Some(Status::Failed),
            (Progress::Pending | Progress::NotAwaited, Change::Created) => Some(Status::New),
            (Progress::Pending | Progress::NotAwaited, Change::Updated) => Some(Status::Processing),
            (Progress::Pending | Progress::NotAwaited, Change::Deleted) => Some(Status::Deleted),
        };
        Tag { version: receipt.version, status, touched_at: None }
    }

    /// Reads a tag of ours, without its quotes. Only the very octets that we write are one.
    fn read(opaque: &[u8]) -> Option<Tag> {
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
        // Digits, letters and signs between two quotes.
        HeaderValue::try_from(self.to_string()).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
    }

    /// Whether `If-None-Match` names this tag: the caller has what it would get. Weak tags count, too.
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

/// The condition of `If-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// That it exists.
    Any,
    /// That it has one of these versions.
    OneOf(Vec<Version>),
}

impl IfMatch {
    /// Reads the header, where there is one. A weak tag counts as what it was before a proxy on the way weakened it.
    ///
    /// # Errors
    /// [`Invalid`] where it is neither `*` nor a list of tags.
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<IfMatch>, Invalid> {
        let mut values = headers.get_all(IF_MATCH).iter().map(HeaderValue::as_bytes).peekable();
        let Some(first) = values.peek() else { return Ok(None) };
        let refused = || Invalid::new("If-Match", "send ETags as they were, such as \"v1\", or * alone");
        if first.trim_ascii() == b"*" {
            return if values.count() == 1 { Ok(Some(IfMatch::Any)) } else { Err(refused()) };
        }
        let (mut versions, mut is_empty) = (Vec::with_capacity(1), true);
        for tag in values.flat_map(Tags) {
            let version = Tag::read(tag.map_err(|_: BadTag| refused())?).map(|tag| tag.version);
            versions.extend(version.filter(|version| !versions.contains(version)));
            is_empty = false;
        }
        if is_empty {
            return Err(refused());
        }
        if versions.is_empty() {
            versions.push(NO_VERSION);
        }
        Ok(Some(IfMatch::OneOf(versions)))
    }

    /// The versions that it allows, the newest first; none where any will do.
    pub(super) fn versions(self) -> Vec<Version> {
        match self {
            IfMatch::Any => Vec::new(),
            IfMatch::OneOf(mut versions) => {
                versions.sort_unstable_by(|one, other| other.cmp(one));
                versions
            }
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

/// Bytes that are not an entity tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BadTag;

/// The opaque parts of the tags in a list, weak ones or not. Ends behind the first that is not a tag.
struct Tags<'a>(&'a [u8]);

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
        // Behind the quote stands the end, or a comma.
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

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
            .collect()
    }

    fn tag(version: Version, status: Option<Status>, touched_at: Option<i64>) -> Tag {
        Tag { version, status, touched_at }
    }

    #[test]
    fn if_match_is_a_list_of_tags_and_counts_by_their_versions() {
        for (values, versions) in [
            (&[r#""v7""#][..], &[7][..]),
            (&[r#" "v7-processing" "#], &[7]),
            (&[r#""v7-done.1760000000123456""#], &[7]),
            (&[r#"W/"v7""#], &[7]),
            (&[r#""v7", W/"v8" ,"v7-new""#], &[7, 8]),
            (&[r#""v7""#, r#""x,y", "v9""#], &[7, 9]),
            (&[r#","v7",,"#], &[7]),
            (&[r#""v7","v8""#], &[7, 8]),
            (&[r#""abc""#], &[0]),
            (&[r#""""#], &[0]),
            (&[r#""v""#], &[0]),
            (&[r#""v07""#], &[0]),
            (&[r#""V7""#], &[0]),
            (&[r#""v+7""#], &[0]),
            (&[r#""v7-Done""#], &[0]),
            (&[r#""v7-shipped""#], &[0]),
            (&[r#""v7-done.""#], &[0]),
            (&[r#""v7-done.01""#], &[0]),
            (&[r#"" v7""#], &[0]),
            (&["\"v7\u{e4}\""], &[0]),
            (&[r#""v99999999999999999999""#], &[0]),
        ] {
            let read = IfMatch::read(&headers(IF_MATCH, values));
            assert_eq!(read, Ok(Some(IfMatch::OneOf(versions.to_vec()))), "{values:?}");
        }
        assert_eq!(IfMatch::read(&headers(IF_MATCH, &[" * "])), Ok(Some(IfMatch::Any)));
        assert_eq!(IfMatch::read(&HeaderMap::new()), Ok(None));
        for values in [
            &["v7"][..],
            &[""],
            &[","],
            &[r#""v7"#],
            &["7"],
            &["*", "*"],
            &["*", r#""v7""#],
            &[r#""v7""#, "*"],
            &[r#""v7" "v8""#],
            &[r#""v7"x"#],
            &[r#"w/"v7""#],
            &[r#"W/ "v7""#],
        ] {
            assert_eq!(
                IfMatch::read(&headers(IF_MATCH, values)).unwrap_err().field,
                "If-Match",
                "{values:?}"
            );
        }
    }

    #[test]
    fn if_none_match_takes_lists_and_weak_tags_and_compares_octets() {
        let tag = tag(7, Some(Status::New), None);
        assert_eq!(tag.to_string(), r#""v7-new""#);
        for text in ["*", r#""v7-new""#, r#"W/"v7-new""#, r#""a", "v7-new""#, "\"\u{e4},\", \"v7-new\""] {
            assert!(tag.is_known_to(&headers(IF_NONE_MATCH, &[text])), "{text}");
        }
        for text in ["", r#""v7""#, r#""v7-done""#, "v7-new", r#""v7-New""#, r#""v07-new""#, r#"",v7-new,""#]
        {
            assert!(!tag.is_known_to(&headers(IF_NONE_MATCH, &[text])), "{text}");
        }
        assert!(tag.is_known_to(&headers(IF_NONE_MATCH, &[r#""a""#, r#""v7-new""#])));
        assert_eq!(must_not_exist(&headers(IF_NONE_MATCH, &["*"])), Ok(true));
        assert!(must_not_exist(&headers(IF_NONE_MATCH, &[r#""v1""#])).is_err());
    }

    #[test]
    fn a_tag_is_read_as_it_is_written() {
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
