//! The length of a payload's numbers when they are written out. PostgreSQL's `jsonb` does not keep exponents: it
//! returns `1e-9000` as 9,002 characters, so seven bytes on the wire could become megabytes in every answer. So numbers
//! with an exponent are counted by their digits and their exponent, for every store alike, before the payload is
//! stored. Long ones are counted by their digits, because `jsonb` stores thousands of zeros in a dozen bytes, and a
//! page's limit counts stored bytes.
//!
//! Most payloads are short and have usual numbers, and are not counted at all. Else it is one pass over the bytes. The
//! JSON pointer of a number is computed only when it is refused.

use thiserror::Error;

use super::pointer::{end_of_string, pointer};

/// How many digits the long numbers of a payload, and those with exponents, may have together, written out. An accepted
/// payload can grow by at most this in a store, so it counts as a part of the largest event (see
/// `bus/kafka/client.rs`).
pub const WRITTEN_OUT: usize = 256 * 1024;

/// A number of more digits is long. Shorter ones take a few times the bytes in a text that they take in a `jsonb`.
const LONG: usize = 24;

/// How many digits a number may have behind its point, as many as PostgreSQL's `numeric` holds.
const BEHIND_POINT: usize = 16_383;

/// The longest text, in bytes, whose numbers need not be counted where all of them are usual.
pub(super) const SHORT: usize = 8 << 10;

/// Whether a number is neither zero nor far from one. However such a number is spelled in n characters, it has at most
/// n + 15 digits behind its point and an exponent of at most 2n + 15, for its digits make up for its exponent. A text
/// of [`SHORT`] bytes that has no other fractions stays below both limits.
pub(super) fn is_usual(number: f64) -> bool {
    (1e-15..1e15).contains(&number.abs())
}

/// Why the numbers of a payload are too long.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum NumberError {
    /// The number at that JSON pointer has more digits behind its point than PostgreSQL's `numeric` holds.
    #[error(
        "{} has more than 16,383 digits behind its point when it is written out; round it, or send it as a string",
        named(.0)
    )]
    TooFine(String),
    /// With the number at that JSON pointer, the numbers with exponents and the long ones have more digits than
    /// [`WRITTEN_OUT`].
    #[error(
        "{} brings the long numbers to more than 262,144 digits when they are written out; send fewer or \
         smaller ones, or send them as strings",
        named(.0)
    )]
    TooLong(String),
}

/// A number by its JSON pointer.
fn named(pointer: &str) -> String {
    match pointer {
        "" => "the number".to_owned(),
        _ => format!("the number at {pointer}"),
    }
}

/// Checks the numbers of a text that is known to be JSON.
///
/// # Errors
/// [`NumberError::TooFine`] and [`NumberError::TooLong`], with the JSON pointer of the first number above a limit.
pub(super) fn check(json: &str) -> Result<(), NumberError> {
    let bytes = json.as_bytes();
    let (mut at, mut written) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let (number, end) = Number::at(bytes, at);
                if number.behind_point() > BEHIND_POINT {
                    return Err(NumberError::TooFine(pointer(json, at)));
                }
                written = written.saturating_add(number.written());
                if written > WRITTEN_OUT {
                    return Err(NumberError::TooLong(pointer(json, at)));
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// A number by the sizes of its parts.
struct Number {
    digits: usize,
    fraction: usize,
    exponent: Option<(bool, usize)>,
}

impl Number {
    /// The number that begins at `start`, and the index of its end.
    fn at(bytes: &[u8], start: usize) -> (Number, usize) {
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut at = start + usize::from(bytes[start] == b'-');
        let whole = digits(at);
        at += whole;
        let fraction = if bytes.get(at) == Some(&b'.') { digits(at + 1) } else { 0 };
        at += fraction + usize::from(fraction > 0);
        let mut exponent = None;
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let is_negative = bytes.get(at + 1) == Some(&b'-');
            at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let end = at + digits(at);
            let size = bytes[at..end].iter().fold(0_usize, |size, digit| {
                size.saturating_mul(10).saturating_add(usize::from(digit - b'0'))
            });
            exponent = Some((is_negative, size));
            at = end;
        }
        // Always advances, for any bytes.
        (Number { digits: whole + fraction, fraction, exponent }, at.max(start + 1))
    }

    /// How many digits are behind the point when the number is written without an exponent.
    fn behind_point(&self) -> usize {
        match self.exponent {
            None => self.fraction,
            Some((true, size)) => self.fraction.saturating_add(size),
            Some((false, size)) => self.fraction.saturating_sub(size),
        }
    }

    /// The digits that it counts. A number without an exponent is written as it is, and counts where it is long.
    fn written(&self) -> usize {
        match self.exponent {
            Some((_, size)) => self.digits.saturating_add(size),
            None if self.digits > LONG => self.digits,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        check(json).expect_err(json).to_string()
    }

    #[test]
    fn a_number_counts_by_its_digits_and_its_exponent_where_it_has_one_or_is_long() {
        for (text, written, behind) in [
            ("0", 0, 0),
            ("-12.50", 0, 2),
            ("123456789012345678901234", 0, 0),
            ("0.123456789012345678901234", 25, 24),
            ("1e3", 4, 0),
            ("-1.5E+300", 302, 0),
            ("1e-16383", 16_384, 16_383),
            ("0e-16000", 16_001, 16_000),
            ("12.345e2", 7, 1),
            ("1e99999999999999999999999", usize::MAX, 0),
            ("1e-99999999999999999999999", usize::MAX, usize::MAX),
        ] {
            let (number, end) = Number::at(text.as_bytes(), 0);
            assert_eq!(
                (number.written(), number.behind_point(), end),
                (written, behind, text.len()),
                "{text}"
            );
        }
    }

    #[test]
    fn as_many_digits_as_fit_are_accepted_and_one_more_is_not() {
        let fits = ["1e-16383"; WRITTEN_OUT / 16_384].join(",");
        assert!(check(&format!("[{fits},7,-0.5]")).is_ok());
        let error = refused(&format!("[{fits},7,1e0]"));
        assert!(error.starts_with("the number at /17 brings") && error.contains("262,144 digits"), "{error}");
    }

    #[test]
    fn more_digits_behind_the_point_than_a_numeric_holds_are_refused_in_any_spelling() {
        for json in ["1e-16384", "0e-16384", "-0.1e-16383", "123e-99999999999"] {
            assert!(refused(json).starts_with("the number has more than 16,383 digits behind"), "{json}");
        }
        assert!(check(&format!("0.{}", "1".repeat(BEHIND_POINT))).is_ok());
        assert!(check(&format!("0.{}", "1".repeat(BEHIND_POINT + 1))).is_err());
        assert!(check(&format!("0.{}e1", "1".repeat(BEHIND_POINT + 1))).is_ok());
    }

    #[test]
    fn usual_numbers_of_a_short_text_are_below_the_limits_however_they_are_spelled() {
        let zeros = "0".repeat(4_000);
        let short = vec!["1e1"; SHORT / 4 - 1].join(",");
        for json in [
            format!("[1{zeros}e-4000]"),
            format!("[0.{zeros}1e4001]"),
            format!("[0.{zeros}1e3987,-1{zeros}e-3986]"),
            format!("[{short}]"),
        ] {
            let numbers: Vec<f64> = serde_json::from_str(&json).unwrap();
            assert!(json.len() <= SHORT + 16 && numbers.iter().any(|number| is_usual(*number)), "{json:.20}");
            assert!(check(&json).is_ok(), "{json:.20}");
        }
        for number in [0.0, -0.0, 1e-16, 1e15, -1e300] {
            assert!(!is_usual(number), "{number}");
        }
    }

    #[test]
    fn digits_inside_a_string_are_not_a_number() {
        let text = r#""1e-99999 \" 1e-99999""#;
        assert!(check(&format!("{{{text}:[{text}]}}")).is_ok());
    }

    #[test]
    fn an_error_names_the_number_by_its_json_pointer() {
        for (json, named) in [
            ("1e-20000", "the number has"),
            ("[1,[2,3],{}, 1e-20000]", "at /3 has"),
            (r#"{"items":[{"price":1},{"price":"x","qty":[0,{"a":1e-20000}]}]}"#, "at /items/1/qty/1/a has"),
            (r#"{"a/b":{"~":1e-20000}}"#, "at /a~1b/~0 has"),
            (r#"{"\u0416\"":1e-20000}"#, "at /Ж\" has"),
            (r#"{"":{"x":"","":1e-20000}}"#, "at // has"),
            (r#"{"a":"b","c":1e-20000}"#, "at /c has"),
            (r#"{"x":[{"y":"z"}],"1e5":-1e-20000}"#, "at /1e5 has"),
        ] {
            let error = refused(json);
            assert!(error.contains(named), "{json}: {error}");
        }
        let long = refused(&format!(r#"{{"{}":1e-20000}}"#, "Ж".repeat(100_000)));
        assert!(long.len() < 500 && long.contains("..."), "{long}");
    }
}
