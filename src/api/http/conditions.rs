//! Conditions that a write does not evaluate. A client that sends one relies on it: a write that ignored it would
//! overwrite a change that the client wants to keep, so the write is rejected, with the name of the header and what to
//! send instead. The same holds for partial content, which would replace the whole. Only `If-Unmodified-Since` beside
//! an evaluated `If-Match` is ignored, as RFC 9110 requires. A handler calls this before it reads the body.

use hyper::HeaderMap;
use hyper::header::{
    CONTENT_RANGE, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};

use crate::order::Invalid;

/// Rejects every condition but those that the write evaluates, and partial content (RFC 9110, section 14.5), which
/// would replace the whole.
///
/// # Errors
/// [`Invalid`] that names the first one.
pub(super) fn only(evaluated: &[HeaderName], headers: &HeaderMap) -> Result<(), Invalid> {
    if !headers.keys().any(|name| name.as_str().starts_with("if-") || name == CONTENT_RANGE) {
        return Ok(());
    }
    let by_tag = match evaluated.contains(&IF_MATCH) {
        true => "send If-Match with the order's ETag, or its version in the body",
        false => "send the version in the body of the item",
    };
    let known = [
        (IF_MATCH, "If-Match", by_tag),
        (IF_NONE_MATCH, "If-None-Match", "it is for reads, and for PUT as *; leave it out, or use PUT"),
        (IF_UNMODIFIED_SINCE, "If-Unmodified-Since", by_tag),
        (IF_MODIFIED_SINCE, "If-Modified-Since", "it is for reads; leave it out"),
        (IF_RANGE, "If-Range", by_tag),
        (CONTENT_RANGE, "Content-Range", "send the whole content without it"),
    ];
    // With an evaluated If-Match, RFC 9110, section 13.1.4, requires that the time is ignored.
    let outranked = evaluated.contains(&IF_MATCH) && headers.contains_key(IF_MATCH);
    for (name, shown, instead) in known {
        let is_fine = evaluated.contains(&name) || (outranked && name == IF_UNMODIFIED_SINCE);
        if !is_fine && headers.contains_key(&name) {
            return Err(Invalid::new(shown, format!("a write does not evaluate it here; {instead}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn a_condition_that_is_not_evaluated_is_named_with_what_to_send_instead() {
        let of = |evaluated: &[HeaderName], names: &[HeaderName]| {
            let headers = names.iter().map(|name| (name.clone(), HeaderValue::from_static("x"))).collect();
            only(evaluated, &headers).err().map_or("", |invalid| invalid.field)
        };
        let put = &[IF_MATCH, IF_NONE_MATCH][..];
        assert_eq!(of(put, &[IF_MATCH, IF_NONE_MATCH, IF_UNMODIFIED_SINCE]), "");
        assert_eq!(of(put, &[IF_NONE_MATCH, IF_UNMODIFIED_SINCE]), "If-Unmodified-Since");
        assert_eq!(of(put, &[IF_MODIFIED_SINCE]), "If-Modified-Since");
        assert_eq!(of(put, &[IF_MATCH, IF_RANGE]), "If-Range");
        assert_eq!(of(put, &[CONTENT_RANGE]), "Content-Range");
        assert_eq!(of(&[IF_MATCH], &[IF_NONE_MATCH]), "If-None-Match");
        assert_eq!(of(&[], &[IF_MATCH]), "If-Match");
        assert_eq!(of(&[], &[IF_MATCH, IF_UNMODIFIED_SINCE]), "If-Match");
        assert_eq!(of(&[], &[]), "");
    }
}
