//! Texts as parts of URIs (RFC 3986): the bytes that need no encoding, and a text as a relative reference. A reference
//! must never name a scheme, a host or a fragment: a colon in the first segment, a second slash at the beginning, a `#`
//! and a `%` are percent-encoded. A text that needs no encoding is borrowed. The normalization of paths in `http` uses
//! the same unreserved bytes.

use std::borrow::Cow;

use percent_encoding::percent_encode_byte;

/// Whether a byte means the same with and without encoding, everywhere in a URI (section 2.3).
pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// A text as a reference (section 4.1) that is one path. Characters that such a path cannot hold are percent-encoded.
pub(super) fn reference(text: &str) -> Cow<'_, str> {
    let first_segment = text.find(['/', '?']).unwrap_or(text.len());
    let is_plain = |(at, byte): (usize, u8)| match byte {
        // In the first segment a colon would end the name of a scheme.
        b':' => at > first_segment,
        // Two slashes at the beginning would announce a host.
        b'/' => !(at == 1 && text.starts_with('/')),
        _ => is_unreserved(byte) || b"!$&'()*+,;=@?".contains(&byte),
    };
    if text.bytes().enumerate().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for (at, byte) in text.bytes().enumerate() {
        match is_plain((at, byte)) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(percent_encode_byte(byte)),
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
mod tests {
    use hyper::Uri;

    use super::*;

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
