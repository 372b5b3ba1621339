//! Query strings, read strictly: a parameter that is given twice or cannot be decoded is an error, where ready-made
//! readers would use the last one or insert a replacement character. Unknown names are ignored, except in a deletion,
//! where one may have been meant as a condition.

use std::borrow::Cow;

use hyper::Uri;
use percent_encoding::{AsciiSet, CONTROLS, PercentEncode, percent_decode_str, utf8_percent_encode};

use crate::order::Invalid;

/// The query of a URL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    /// The query of that URI.
    pub(super) fn of(uri: &'a Uri) -> Parameters<'a> {
        Parameters(uri.query().unwrap_or_default())
    }

    /// The query, if it has only these names.
    ///
    /// # Errors
    /// [`Invalid`] with the first other name.
    pub(super) fn only(self, names: &[&str]) -> Result<Parameters<'a>, Invalid> {
        let is_known = |key: &str| decode(key).is_some_and(|key| names.contains(&&*key));
        match self.pairs().find(|(key, _)| !is_known(key)) {
            None => Ok(self),
            Some((other, _)) => {
                let other: String = other.chars().take(SHOWN).collect();
                let fix = format!("{other:?} is not a parameter here; send {}", names.join(", "));
                Err(Invalid::new("query", fix))
            }
        }
    }

    /// A parameter's value; `+` stands for a space.
    ///
    /// # Errors
    /// [`Invalid`] where it is given more than once, or is not UTF-8 in percent-encoding.
    pub(super) fn text(self, name: &'static str) -> Result<Option<Cow<'a, str>>, Invalid> {
        let mut given = self.pairs().filter(|(key, _)| decode(key).is_some_and(|key| key == name));
        let Some((_, value)) = given.next() else { return Ok(None) };
        if given.next().is_some() {
            return Err(Invalid::new(name, "it is given more than once; send it once"));
        }
        let value = decode(value).ok_or_else(|| Invalid::new(name, "send UTF-8, percent-encoded"))?;
        Ok(Some(value))
    }

    /// A parameter's value, parsed. `wanted` describes a legal value for the error.
    ///
    /// # Errors
    /// As [`Parameters::text`], and where it cannot be read.
    pub(super) fn parsed<T>(
        self,
        name: &'static str,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Invalid> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        read(&text).map(Some).ok_or_else(|| Invalid::new(name, format!("send {wanted}")))
    }

    /// The number of entries of a page.
    ///
    /// # Errors
    /// As [`Parameters::parsed`].
    pub(super) fn limit(self) -> Result<u32, Invalid> {
        let read = |text: &str| text.parse().ok().filter(|limit| (1..=MOST).contains(limit));
        Ok(self.parsed("limit", &format!("a whole number from 1 to {MOST}"), read)?.unwrap_or(USUAL))
    }

    /// The same query with another cursor, or without one, for a URL: with its question mark unless it is empty.
    pub(super) fn with_cursor(self, cursor: Option<&str>) -> String {
        let others = self.pairs().filter(|(key, _)| decode(key).is_none_or(|key| key != "cursor"));
        let mut parts: Vec<String> =
            others.map(|(key, value)| format!("{}={}", plain(key), plain(value))).collect();
        parts.extend(cursor.map(|cursor| format!("cursor={cursor}")));
        if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
    }

    /// Names and values as they are written.
    fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| part.split_once('=').unwrap_or((part, "")))
    }
}

/// The most entries of a page, and the default.
const MOST: u32 = 200;
const USUAL: u32 = 50;

/// The most characters of an unknown name that an error quotes.
const SHOWN: usize = 40;

/// The decoded text of a name or a value in a query; `None` where it is not UTF-8, or a percent sign has no digits.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    // Spaces are replaced before decoding, because an encoded plus is a plus.
    let text = text.replace('+', " ");
    let is_encoded =
        |rest: &str| rest.get(..2).is_some_and(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()));
    // The decoder accepts a percent sign without digits.
    if !text.split('%').skip(1).all(is_encoded) {
        return None;
    }
    percent_decode_str(&text).decode_utf8().ok().map(|decoded| Cow::Owned(decoded.into_owned()))
}

/// Characters that a query in a URL cannot hold, or that would end a link in a header.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b',')
    .add(b';');

/// A part of a query for a URL. Characters that the client should have percent-encoded are encoded.
fn plain(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, ENCODED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_decoded_and_a_name_may_be_encoded() {
        let query = Parameters("a=1&%62=%D0%97+%2B%26&&c&d=x=y&other=%FF");
        let text = |name| query.text(name).unwrap();
        assert_eq!(text("a").as_deref(), Some("1"));
        assert_eq!(text("b").as_deref(), Some("З +&"));
        assert_eq!(text("c").as_deref(), Some(""));
        assert_eq!(text("d").as_deref(), Some("x=y"));
        assert_eq!(text("e"), None);
    }

    #[test]
    fn a_parameter_that_is_given_twice_or_broken_is_rejected_by_name() {
        for query in ["a=1&a=1", "a=1&%61=1", "a&a", "a=%", "a=%4", "a=%zz", "a=%+1", "a=%FF", "a=%C3%28"] {
            assert_eq!(Parameters(query).text("a").unwrap_err().field, "a", "{query}");
        }
    }

    #[test]
    fn an_unknown_name_is_rejected_where_it_could_have_been_a_filter() {
        let only = |query| Parameters(query).only(&["user_id", "limit"]);
        for query in ["", "&", "user_id=1", "%75ser_id=1&limit=2", "limit"] {
            assert!(only(query).is_ok(), "{query}");
        }
        for query in ["userid=1", "user_id=1&lim\"it=2", "=1", "%FF=1", "User_Id=1"] {
            let error = only(query).err().unwrap().to_string();
            assert!(error.starts_with("query: ") && error.ends_with("send user_id, limit"), "{error}");
        }
    }

    #[test]
    fn a_limit_is_within_bounds() {
        for (query, limit) in [("", 50), ("limit=1", 1), ("limit=200", 200)] {
            assert_eq!(Parameters(query).limit(), Ok(limit), "{query}");
        }
        for query in ["limit=0", "limit=201", "limit=", "limit", "limit=-1", "limit=1.5", "limit=99999999999"]
        {
            assert_eq!(Parameters(query).limit().unwrap_err().field, "limit", "{query}");
        }
    }

    #[test]
    fn a_link_keeps_the_query_and_changes_the_cursor() {
        let with = |query, cursor| Parameters(query).with_cursor(cursor);
        assert_eq!(with("", None), "");
        assert_eq!(with("cursor=1", None), "");
        assert_eq!(with("", Some("2")), "?cursor=2");
        assert_eq!(with("a=%2B+x&cursor=1&curso%72=3&b", Some("2")), "?a=%2B+x&b=&cursor=2");
        assert_eq!(with("a=\"ä\",<b>;", Some("2")), "?a=%22%C3%A4%22%2C%3Cb%3E%3B&cursor=2");
    }
}
