//! The payload: the content of an order, any JSON value, kept as the text that the caller sent. It is parsed once, when
//! it arrives, for its external id and its limits, and copied from there on. No digit of it must change. Clones share
//! one text, because commands, events and orders hold the same payload. New payloads pass the strictest check; a reader
//! of existing orders must not refuse what an earlier version has accepted.

use std::sync::Arc;

use serde_json::value::RawValue;
use thiserror::Error;

use super::json::{self, Checked, Id};
use super::numbers::{self, NumberError};

/// A JSON text that every store can hold, and the external id in it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    text: Arc<str>,
    external_id: Arc<str>,
}

/// Why a text is not a payload.
#[derive(Debug, Error)]
pub enum PayloadError {
    /// The message of `serde_json`, with line and column counted from the payload's start.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Its numbers are too long when they are written out.
    #[error(transparent)]
    Numbers(#[from] NumberError),
}

impl Payload {
    /// Checks a JSON text and takes a copy of it, without the white space around it.
    ///
    /// # Errors
    /// [`PayloadError`] where the text is not JSON, is nested deeper than 127 levels, holds a number beyond
    /// the range of a double, a string with a NUL or a lone surrogate, or numbers that are too long when they are
    /// written out without exponents.
    pub fn parse(text: &str) -> Result<Payload, PayloadError> {
        let (payload, counts) = Payload::read(text)?;
        if counts {
            numbers::check(payload.as_str())?;
        }
        Ok(payload)
    }

    /// A payload of an existing order, with numbers of any length: earlier versions accepted those.
    ///
    /// # Errors
    /// [`PayloadError::Json`], as [`Payload::parse`].
    pub fn of_order(text: &str) -> Result<Payload, PayloadError> {
        Ok(Payload::read(text)?.0)
    }

    /// A payload of a deleted or cancelled order, which is not processed: any JSON that PostgreSQL can hold, also
    /// values that a new payload must not have, such as a number outside the range of a double.
    ///
    /// # Errors
    /// [`PayloadError::Json`] where it is not JSON, or a member's name has half of a surrogate pair.
    pub fn of_gone_order(text: &str) -> Result<Payload, PayloadError> {
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        let [id] = json::pick(text, ["id"])?;
        let id = id.map(RawValue::get).unwrap_or_default();
        let external_id = match id.as_bytes().first() {
            Some(b'"') => serde_json::from_str(id).unwrap_or_default(),
            Some(b'-' | b'0'..=b'9') => id.to_owned(),
            _ => String::new(),
        };
        Ok(Payload { text: text.into(), external_id: external_id.into() })
    }

    /// Reads a payload, and answers whether its numbers have to be counted.
    fn read(text: &str) -> Result<(Payload, bool), PayloadError> {
        // Not `trim_ascii`: a form feed is not white space in JSON.
        let trimmed = text.trim_matches([' ', '\t', '\n', '\r']);
        let Checked { counts, id } = json::check(trimmed)?;
        let external_id = match id {
            Id::Text(text) => text,
            Id::Number => {
                let [number] = json::pick(trimmed, ["id"])?;
                number.map(RawValue::get).unwrap_or_default().into()
            }
            Id::None => Arc::default(),
        };
        Ok((Payload { text: trimmed.into(), external_id }, counts))
    }

    /// A payload that was parsed before it was stored.
    #[must_use]
    pub fn from_store(text: &str, external_id: &str) -> Payload {
        Payload { text: text.into(), external_id: external_id.into() }
    }

    /// The JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The id that the caller's own system gave the order, from `payload.id`: a string as it is, a number as
    /// its own JSON text, `""` for anything else.
    #[must_use]
    pub fn external_id(&self) -> &str {
        &self.external_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_kept_digit_for_digit() {
        let text = r#"{"id":12345678901234567890,"price":0.1,"n":-0,"big":1e300, "id2":1.10}"#;
        let payload = Payload::parse(&format!("  {text}\n")).unwrap();
        assert_eq!(payload.as_str(), text);
        assert_eq!(payload.external_id(), "12345678901234567890");
    }

    #[test]
    fn numbers_too_long_when_written_out_are_refused_in_new_payloads_and_read_in_old_ones() {
        for text in ["1e-16384".to_owned(), format!("[{}]", ["1e308"; 1000].join(","))] {
            assert!(Payload::parse(&text).is_err(), "{text:.20}");
            assert_eq!(Payload::of_order(&text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn any_json_of_a_deleted_order_is_read() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for (text, id) in [
            (r#"{"id":"a\u0041","n":1e400}"#, "aA"),
            (r#"{"id":1e400}"#, "1e400"),
            (r#"{"id":"\ud800"}"#, ""),
            (r#"{"id":null,"n":1e400}"#, ""),
            (&deep, ""),
            (&format!(r#"{{"n":{deep},"id":"deep"}}"#), "deep"),
        ] {
            let payload = Payload::of_gone_order(text).expect(text);
            assert_eq!((payload.as_str(), payload.external_id()), (text, id));
        }
        for text in ["", "{", "[1,]", "1e400 x", "{\"n\":1e400"] {
            assert!(Payload::of_gone_order(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_largest_double_is_read_as_postgres_writes_it() {
        let digits = format!("17976931348623157{}", "0".repeat(292));
        for text in ["1.7976931348623157e308", "-1.7976931348623157e308", &digits] {
            assert!(Payload::parse(text).is_ok(), "{text}");
        }
        // Slightly more is beyond the range.
        assert!(Payload::parse("1.7976931348623159e308").is_err());
    }

    #[test]
    fn the_external_id_is_a_string_or_the_text_of_a_number() {
        for (text, id) in [
            (r#"{"id":"a/b %"}"#, "a/b %"),
            (r#"{"id":1000000}"#, "1000000"),
            (r#"{"id":-1.50}"#, "-1.50"),
            (r#"{"id":"first","id":"last"}"#, "last"),
            (r#"{"id":"\u0416"}"#, "Ж"),
            (r#"{"i\u0064":"escaped"}"#, "escaped"),
            (r#"{"id":1,"id":"x","id":0.5e3}"#, "0.5e3"),
            (r#"{"id":"first","id":false}"#, ""),
            (r#"{"id":true}"#, ""),
            (r#"{"id":null}"#, ""),
            (r#"{"id":{}}"#, ""),
            (r#"{"x":{"id":"inner"}}"#, ""),
            ("[1]", ""),
            ("7", ""),
        ] {
            assert_eq!(Payload::parse(text).unwrap().external_id(), id, "{text}");
        }
    }

    #[test]
    fn a_text_that_a_store_cannot_hold_is_refused_with_line_and_column() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\":1} x",
            "1e400",
            r#"{"a":"\u0000"}"#,
            r#"{"\u0000":1}"#,
            r#"["\ud800"]"#,
            "\u{feff}{}",
            "nul",
            "01",
            "{'a':1}",
            "\u{c}{}",
            "{}\u{c}",
            "\u{a0}{}",
        ] {
            let error = Payload::parse(text).unwrap_err().to_string();
            assert!(error.contains("line 1 column"), "{text}: {error}");
        }
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Payload::parse(&nested(127)).is_ok());
        for depth in [128, 10_000] {
            assert!(Payload::parse(&nested(depth)).unwrap_err().to_string().contains("recursion limit"));
        }
    }
}
