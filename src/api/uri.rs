//! URIs as RFC 3986 has them: which characters of a path mean the same encoded and not, and a text as a reference.

use std::borrow::Cow;

use hyper::Uri;
use hyper::http::uri::PathAndQuery;

/// The URI with a path in which only those characters are percent-encoded that mean something else then (section
/// 6.2.2.2); `None` where it is one already.
pub(in crate::api) fn plain(uri: &Uri) -> Option<Uri> {
    let Cow::Owned(path) = decoded(uri.path()) else { return None };
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path_and_query).ok()?);
    Uri::from_parts(parts).ok()
}

/// Decodes the characters that may stand for themselves: the unreserved ones, and the colon, which many clients encode
/// and which delimits nothing in our paths.
fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let (mut plain, mut rest) = (String::with_capacity(path.len()), path);
    while let Some(at) = rest.find('%') {
        let (before, encoded) = rest.split_at(at);
        plain.push_str(before);
        match meant(encoded) {
            Some(character) => {
                plain.push(character);
                rest = &encoded[3..];
            }
            None => {
                plain.push('%');
                rest = &encoded[1..];
            }
        }
    }
    plain.push_str(rest);
    if plain.len() == path.len() { Cow::Borrowed(path) } else { Cow::Owned(plain) }
}

/// The character that three at the beginning stand for, where it may stand for itself.
fn meant(encoded: &str) -> Option<char> {
    let digits = encoded.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    let byte = u8::from_str_radix(digits, 16).ok()?;
    (is_unreserved(byte) || byte == b':').then(|| char::from(byte))
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// A text as a reference (section 4.1) of one path: what such a path cannot hold is percent-encoded.
pub(in crate::api) fn reference(text: &str) -> Cow<'_, str> {
    let first_segment = text.find(['/', '?']).unwrap_or(text.len());
    let stands = |(at, byte): (usize, u8)| match byte {
        // In the first segment it would end the name of a scheme.
        b':' => at > first_segment,
        // Two at the beginning would announce a host.
        b'/' => !(at == 1 && text.starts_with('/')),
        _ => is_unreserved(byte) || b"!$&'()*+,;=@?".contains(&byte),
    };
    if text.bytes().enumerate().all(stands) {
        return Cow::Borrowed(text);
    }
    let encoded = text.bytes().enumerate().map(|(at, byte)| match stands((at, byte)) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    Cow::Owned(encoded.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_means_the_same_is_decoded() {
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
        assert_eq!(plain(&uri).unwrap().to_string(), "http://localhost/a?b=%61");
        assert_eq!(plain(&"/a?b=%61".parse().unwrap()), None);
    }

    #[test]
    fn an_id_is_a_reference_as_it_is_or_encoded() {
        for text in ["7", "a-B_c.9/~!", "checkout-7", "a/b:c", "a?b:c", "/a", "a//b"] {
            assert_eq!(reference(text), text);
        }
        for (text, encoded) in [
            ("a:b", "a%3Ab"),
            ("urn:x/y:z", "urn%3Ax/y:z"),
            ("//host", "/%2Fhost"),
            ("100%", "100%25"),
            ("%41", "%2541"),
            (r#"{a}"<b>\^`|[]#"#, "%7Ba%7D%22%3Cb%3E%5C%5E%60%7C%5B%5D%23"),
        ] {
            assert_eq!(reference(text), encoded);
            assert!(encoded.parse::<Uri>().is_ok() || !encoded.starts_with('/'), "{encoded}");
        }
    }
}
