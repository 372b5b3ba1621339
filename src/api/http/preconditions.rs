//! The preconditions that a write evaluates (RFC 9110, section 13): `If-Match` names versions that the order may have,
//! and `If-None-Match: *` requires that the order does not exist. Only the version of a tag counts for a write, never
//! its status.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};

use super::etag::{BadTag, Tag, Tags};
use crate::order::{Invalid, Version};

/// A version that no order has, for a tag that the service did not write.
const NO_VERSION: Version = 0;

/// The precondition of `If-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// The order exists.
    Any,
    /// The order has one of these versions.
    OneOf(Vec<Version>),
}

impl IfMatch {
    /// Reads the header, where there is one. A weak tag counts as a strong one, because a proxy may have weakened it.
    ///
    /// # Errors
    /// [`Invalid`] where it is neither `*` nor a list of tags.
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<IfMatch>, Invalid> {
        let mut values = headers.get_all(IF_MATCH).iter().map(HeaderValue::as_bytes).peekable();
        let Some(first) = values.peek() else { return Ok(None) };
        let invalid = || Invalid::new("If-Match", "send ETags unchanged, such as \"v1\", or * alone");
        if first.trim_ascii() == b"*" {
            return if values.count() == 1 { Ok(Some(IfMatch::Any)) } else { Err(invalid()) };
        }
        let (mut versions, mut is_empty) = (Vec::with_capacity(1), true);
        for tag in values.flat_map(Tags) {
            let version = Tag::read(tag.map_err(|_: BadTag| invalid())?).map(|tag| tag.version);
            versions.extend(version.filter(|version| !versions.contains(version)));
            is_empty = false;
        }
        if is_empty {
            return Err(invalid());
        }
        if versions.is_empty() {
            versions.push(NO_VERSION);
        }
        Ok(Some(IfMatch::OneOf(versions)))
    }

    /// The versions that it allows, the newest first; empty where it allows any.
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

/// Whether `If-None-Match: *` requires that the order does not exist.
///
/// # Errors
/// [`Invalid`] where the header has another value.
pub(super) fn must_not_exist(headers: &HeaderMap) -> Result<bool, Invalid> {
    match single(headers, &IF_NONE_MATCH, "If-None-Match")? {
        None => Ok(false),
        Some("*") => Ok(true),
        Some(_) => Err(Invalid::new("If-None-Match", "a write supports only *: the order must not exist")),
    }
}

/// The text of a header that may occur once.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap()))
            .collect()
    }

    #[test]
    fn if_match_is_a_list_of_tags_of_which_the_versions_count() {
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
    fn if_none_match_of_a_write_is_a_star_alone() {
        assert_eq!(must_not_exist(&headers(IF_NONE_MATCH, &["*"])), Ok(true));
        assert!(must_not_exist(&headers(IF_NONE_MATCH, &[r#""v1""#])).is_err());
    }
}
