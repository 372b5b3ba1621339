//! Paths. A path is normalized before the router reads it, so that equal spellings (RFC 3986) reach the same route, and
//! a segment is decoded before a handler reads it. A handler never sees percent-encoding. Before the routing only
//! unreserved characters and the colon are decoded: an encoded slash must stay in its segment, because an external id
//! may hold one. A malformed escape stays as it is. A path without a percent sign is not copied.

use std::borrow::Cow;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use hyper::Uri;
use hyper::http::uri::PathAndQuery;
use percent_encoding::percent_decode;

use crate::api::problem::Problem;
use crate::api::uri::is_unreserved;
use crate::order::{Invalid, OrderId};

/// A path segment, percent-decoded.
pub(super) type Segment = Result<Path<String>, PathRejection>;

/// The order id in a path.
///
/// # Errors
/// [`Invalid`] where the segment is not a UUID, or cannot be decoded.
pub(super) fn order_id_of(segment: Segment) -> Result<OrderId, Problem> {
    let id = OrderId::parse(&segment?);
    Ok(id.ok_or_else(|| Invalid::new("order_id", "not a UUID; the path is /orders/{order_id}"))?)
}

/// The URI with a normalized path, in which only characters are percent-encoded that have another meaning otherwise
/// (section 6.2.2.2); `None` where the path is normalized already.
pub(super) fn normalized(uri: &Uri) -> Option<Uri> {
    let Cow::Owned(path) = decoded(uri.path()) else { return None };
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
    Uri::from_parts(parts).ok()
}

/// Decodes the characters that need no encoding: the unreserved ones, and the colon, which many clients encode and
/// which delimits nothing in our paths.
fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let (mut plain, mut rest) = (String::with_capacity(path.len()), path);
    while let Some(at) = rest.find('%') {
        let (before, encoded) = rest.split_at(at);
        plain.push_str(before);
        // A percent sign without two digits yields itself, which stays encoded.
        let byte = percent_decode(encoded.as_bytes()).next().unwrap_or(b'%');
        let is_plain = is_unreserved(byte) || byte == b':';
        plain.push(if is_plain { char::from(byte) } else { '%' });
        rest = &encoded[if is_plain { 3 } else { 1 }..];
    }
    plain.push_str(rest);
    if plain.len() == path.len() { Cow::Borrowed(path) } else { Cow::Owned(plain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_characters_that_need_no_encoding_are_decoded() {
        for (path, same) in [
            ("/orders%3Abatch", "/orders:batch"),
            ("/%6Frders%2f%2F", "/orders%2f%2F"),
            ("/orders/by-external/a%2Fb%20c%25%41%7e", "/orders/by-external/a%2Fb%20c%25A~"),
            ("/%2541", "/%2541"),
            ("/%4", "/%4"),
            ("/%zz%+1%", "/%zz%+1%"),
            ("/a", "/a"),
            ("/ä%41%ä", "/äA%ä"),
        ] {
            assert_eq!(decoded(path), same);
        }
        let uri: Uri = "http://localhost/%61?b=%61".parse().unwrap();
        assert_eq!(normalized(&uri).unwrap().to_string(), "http://localhost/a?b=%61");
        assert_eq!(normalized(&"/a?b=%61".parse().unwrap()), None);
    }
}
