//! Content negotiation (RFC 9110, section 12.5.1): the media type that a caller prefers. Each type has the weight of
//! the most specific range that fits it. A header that cannot be read is ignored, and where no type fits, the caller
//! gets the default: a body in another form is more useful than a 406.

use hyper::HeaderMap;
use hyper::header::ACCEPT;

/// The media type of most responses.
pub(super) const JSON: &str = "application/json";

/// A weight in thousandths, as the RFC writes it.
type Weight = u16;

/// The offer that the caller prefers; the first one where the weights are equal.
pub(super) fn best(headers: &HeaderMap, offers: [&'static str; 2]) -> &'static str {
    let [usual, other] = offers;
    if !headers.contains_key(ACCEPT) {
        return usual;
    }
    if weight(headers, other) > weight(headers, usual) { other } else { usual }
}

/// The weight that the header gives to a media type; 0 where no range fits it.
fn weight(headers: &HeaderMap, media_type: &str) -> Weight {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges = values.flat_map(|text| text.split(',')).filter_map(Range::read);
    let fits = ranges.filter_map(|range| Some((range.specificity(media_type)?, range.weight)));
    fits.max_by_key(|(specificity, _)| *specificity).map_or(0, |(_, weight)| weight)
}

/// A member of the header.
struct Range<'a> {
    media_type: &'a str,
    /// Whether it requires a parameter. Our types have none, so it fits none of them then.
    has_parameters: bool,
    weight: Weight,
}

impl Range<'_> {
    fn read(text: &str) -> Option<Range<'_>> {
        let mut parts = text.split(';').map(|part| part.trim_matches([' ', '\t']));
        let media_type = parts.next().filter(|media_type| media_type.contains('/'))?;
        let mut range = Range { media_type, has_parameters: false, weight: 1000 };
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=')?;
            if name.eq_ignore_ascii_case("q") {
                // Extensions after the weight are obsolete and have no effect.
                range.weight = weight_of(value)?;
                break;
            }
            // All our texts are UTF-8.
            let is_utf8 =
                name.eq_ignore_ascii_case("charset") && value.trim_matches('"').eq_ignore_ascii_case("utf-8");
            range.has_parameters |= !is_utf8;
        }
        Some(range)
    }

    /// How closely it fits a media type; `None` where it does not fit.
    fn specificity(&self, media_type: &str) -> Option<u8> {
        if self.has_parameters {
            return None;
        }
        if self.media_type.eq_ignore_ascii_case(media_type) {
            return Some(2);
        }
        if self.media_type == "*/*" {
            return Some(0);
        }
        let (kind, subtype) = self.media_type.split_once('/')?;
        let own_kind = media_type.split_once('/').map(|(kind, _)| kind)?;
        (subtype == "*" && kind.eq_ignore_ascii_case(own_kind)).then_some(1)
    }
}

/// Reads a weight: 0 or 1, with three decimals at most.
fn weight_of(text: &str) -> Option<Weight> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: Weight = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::api::problem_body::PROBLEM_JSON as PROBLEM;

    fn chosen(values: &[&str]) -> &'static str {
        let header = |value: &&str| (ACCEPT, HeaderValue::from_str(value).unwrap());
        best(&values.iter().map(header).collect(), [JSON, "text/plain"])
    }

    #[test]
    fn the_type_with_the_higher_weight_is_chosen_or_else_the_default() {
        for text in [
            "application/json, text/plain, */*",
            "*/*",
            "",
            "text/html, image/*",
            "text/plain;q=0.5, application/json;q=0.6",
            "text/plain; q=0, */*;q=0.1",
            "text/*;q=0.3, */*;q=0.4, text/plain;q=0.2",
            "text/plain;q=0",
            "text/plain;q=2",
            "text/plain;q=0.1234",
            "text/plain;q",
            "text/plain;format=flowed",
            "text",
        ] {
            assert_eq!(chosen(&[text]), JSON, "{text}");
        }
        for text in [
            "text/plain",
            "TEXT/Plain",
            "text/*",
            "text/plain, application/json;q=0.9",
            "application/json;q=0, */*",
            "application/json;Q=0.001 , text/plain; q=0.01",
            "text/plain;charset=utf-8;q=1.000, application/json;q=0.999",
            "application/*;q=0.5, text/plain",
        ] {
            assert_eq!(chosen(&[text]), "text/plain", "{text}");
        }
        assert_eq!(chosen(&["application/json;q=0.2", "text/plain"]), "text/plain");
        assert_eq!(best(&HeaderMap::new(), [JSON, "text/plain"]), JSON);
    }

    #[test]
    fn a_plain_problem_is_chosen_where_it_is_preferred() {
        let chosen = |text| {
            let header = (ACCEPT, HeaderValue::from_str(text).unwrap());
            best(&HeaderMap::from_iter([header]), [JSON, PROBLEM])
        };
        for text in ["application/problem+json", "application/problem+json, application/json;q=0.9"] {
            assert_eq!(chosen(text), PROBLEM, "{text}");
        }
        for text in ["application/json", "application/*", "application/json, text/plain, */*"] {
            assert_eq!(chosen(text), JSON, "{text}");
        }
    }
}
