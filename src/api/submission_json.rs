//! Reads a submission from a JSON object. The payload keeps its text, digit for digit. Unknown members are ignored, of
//! a member given twice the last one counts, and `null` counts as absent. The fields borrow from the body; only a
//! string with escapes is copied. A body that is nested deeper than 128 levels is rejected. This file checks the JSON
//! and the types of the fields; the other rules are those of `submission`.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::submission::{STATUSES, Submission, quote};
use crate::order::{Invalid, Version, pick};

impl<'a> Submission<'a> {
    /// Reads the fields out of a JSON object. Unknown members are ignored; of one given twice the last counts.
    ///
    /// # Errors
    /// [`Invalid`] where the text is not a JSON object or a field is not of its type.
    pub fn from_json(body: &'a str) -> Result<Submission<'a>, Invalid> {
        let [order_id, user_id, status, payload, payload_json, version] =
            pick(body, ["order_id", "user_id", "status", "payload", "payload_json", "version"])
                .map_err(|error| Invalid::new("body", format!("not valid JSON: {error}")))?;
        if !body.trim_ascii_start().starts_with('{') {
            return Err(Invalid::new("body", "send one JSON object"));
        }
        if let Some(place) = too_deep(body) {
            return Err(Invalid::new(
                "body",
                format!("nested deeper than 128 levels at {place}; flatten it"),
            ));
        }
        let order_id = match order_id.map(RawValue::get) {
            Some("0") => None,
            _ => text("order_id", "a UUID to update or delete, or leave it out to create", order_id)?,
        };
        let payload_json = match payload_json.map(RawValue::get) {
            Some(object) if object.starts_with('{') => Some(Cow::Borrowed(object)),
            _ => text("payload_json", "a string that holds JSON, or a JSON object", payload_json)?,
        };
        Ok(Submission {
            order_id,
            user_id: text("user_id", "a UUID string", user_id)?,
            status: text("status", STATUSES, status)?,
            payload: payload.map(RawValue::get).filter(|json| *json != "null").map(Cow::Borrowed),
            payload_json,
            version: version
                .map(RawValue::get)
                .filter(|json| *json != "null")
                .map(whole_number)
                .transpose()?,
        })
    }
}

/// The line and column where a JSON text is nested deeper than 128 levels, for a message. `serde_json` does not count
/// the depth of a value that it skips. Other mistakes in the text do not end the search.
fn too_deep(text: &str) -> Option<String> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let at = text.bytes().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > 128
    })?;
    let line = text[..at].matches('\n').count() + 1;
    let column = at - text[..at].rfind('\n').map_or(0, |end| end + 1) + 1;
    Some(format!("line {line} column {column}"))
}

/// A version as JSON writes it: `2.0` and `2e0` are the number 2, too.
fn whole_number(json: &str) -> Result<Version, Invalid> {
    /// Below this bound a float holds every whole number.
    const EXACT: f64 = (1_u64 << 53) as f64;
    let fraction = || json.parse().ok().filter(|float: &f64| float.fract() == 0.0 && float.abs() <= EXACT);
    let version = json.parse().ok().or_else(|| Some(fraction()? as Version));
    version.filter(|version| *version >= 0).ok_or_else(|| {
        Invalid::new("version", format!("{} is not a version; send a whole number such as 1", quote(json)))
    })
}

/// A member that holds a string; `null` counts as absent.
fn text<'a>(
    field: &'static str,
    wanted: &str,
    raw: Option<&'a RawValue>,
) -> Result<Option<Cow<'a, str>>, Invalid> {
    let Some(json) = raw.map(RawValue::get).filter(|json| *json != "null") else { return Ok(None) };
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Some(Cow::Borrowed(plain))),
        Some(_) => serde_json::from_str::<String>(json)
            .map(|unescaped| Some(Cow::Owned(unescaped)))
            .map_err(|error| Invalid::new(field, format!("{error} of the {field}"))),
        None => Err(Invalid::new(field, format!("{} is not a string; send {wanted}", quote(json)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Command, OrderId, Payload, UserId};

    const USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";

    fn command(body: &str) -> Result<Command, Invalid> {
        Submission::from_json(body)?.into_command()
    }

    fn refused(body: &str) -> &'static str {
        command(body).expect_err(body).field
    }

    #[test]
    fn no_id_an_empty_one_and_zero_create() {
        for id in ["", r#""order_id":null,"#, r#""order_id":"","#, r#""order_id":"0","#, r#""order_id":0,"#] {
            let body = format!(r#"{{{id}"user_id":"{USER}","payload":{{"id":1}},"more":[1]}}"#);
            assert!(matches!(command(&body), Ok(Command::Create { .. })), "{body}");
        }
    }

    #[test]
    fn a_uuid_updates_and_the_status_deletes() {
        let id = OrderId::generate();
        let update = format!(r#"{{"order_id":"urn:uuid:{id}","payload":[1.10]}}"#);
        let payload = Payload::parse("[1.10]").unwrap();
        assert_eq!(
            command(&update),
            Ok(Command::Update { order_id: id, user_id: None, payload, if_version: None })
        );
        let delete = format!(r#"{{"order_id":"{id}","user_id":"{USER}","status":"del\u0065ted"}}"#);
        let user_id = UserId::parse(USER);
        assert_eq!(command(&delete), Ok(Command::Delete { order_id: id, user_id, if_version: None }));
    }

    #[test]
    fn a_version_is_a_whole_number_in_any_spelling_of_json() {
        let version = |json: &str| {
            let body = format!(r#"{{"order_id":"{}","payload":1,"version":{json}}}"#, OrderId::generate());
            match command(&body) {
                Ok(Command::Update { if_version, .. }) => Ok(if_version),
                Ok(other) => panic!("{other:?}"),
                Err(invalid) => Err(invalid.field),
            }
        };
        for (json, number) in
            [("2", 2), ("2.0", 2), ("2e0", 2), ("0.3e1", 3), ("9223372036854775807", i64::MAX)]
        {
            assert_eq!(version(json), Ok(Some(number)), "{json}");
        }
        assert_eq!(version("null"), Ok(None));
        for json in ["-1", "-1.0", "2.5", "1e300", "9223372036854775808", "\"2\"", "[2]", "true"] {
            assert_eq!(version(json), Err("version"), "{json}");
        }
    }

    #[test]
    fn payload_json_wins_unless_it_is_empty() {
        let content = |fields: &str| match command(&format!(r#"{{"user_id":"{USER}",{fields}}}"#)) {
            Ok(Command::Create { payload, .. }) => payload.as_str().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(content(r#""payload":{"a":1},"payload_json":"{\"b\": 2.0}""#), r#"{"b": 2.0}"#);
        assert_eq!(content(r#""payload":{"a":1},"payload_json":{"c":3}"#), r#"{"c":3}"#);
        assert_eq!(content(r#""payload":{"a":1},"payload_json":"""#), r#"{"a":1}"#);
        assert_eq!(content(r#""payload":{"a":1},"payload_json":null"#), r#"{"a":1}"#);
    }

    #[test]
    fn nesting_counts_in_unknown_fields_and_not_in_strings() {
        let unread = |value: &str| format!("{{\"user_id\":\"{USER}\",\"payload\":1,\n\"x\":{value}}}");
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let refusal = command(&unread(&nested(128))).unwrap_err().to_string();
        assert_eq!(refusal, "body: nested deeper than 128 levels at line 2 column 132; flatten it");
        assert!(command(&unread(&nested(127))).is_ok());
        assert!(command(&unread(&format!("[{}]", vec!["[]"; 200].join(",")))).is_ok());
        assert!(command(&unread(&format!(r#""\"{}""#, "[".repeat(200)))).is_ok());
        assert!(command(&unread(&format!(r#"["\\", "{}"]"#, "{".repeat(200)))).is_ok());
    }

    #[test]
    fn a_rejection_names_the_field() {
        let id = OrderId::generate();
        for (body, field) in [
            ("[".to_owned(), "body"),
            ("[]".to_owned(), "body"),
            ("{} x".to_owned(), "body"),
            (String::new(), "body"),
            ("\u{feff}{}".to_owned(), "body"),
            (format!(r#"{{"user_id":"{USER}"}}"#), "payload"),
            (format!(r#"{{"user_id":"{USER}","payload":null}}"#), "payload"),
            (format!(r#"{{"user_id":"{USER}","payload_json":"null"}}"#), "payload"),
            (format!(r#"{{"user_id":"{USER}","payload_json":"{{"}}"#), "payload_json"),
            (format!(r#"{{"user_id":"{USER}","payload_json":[1]}}"#), "payload_json"),
            (format!(r#"{{"user_id":"{USER}","payload":"\ud800"}}"#), "payload"),
            (format!(r#"{{"order_id":"{id}"}}"#), "payload"),
            (format!(r#"{{"order_id":"{id}","payload":1,"status":"done"}}"#), "status"),
            (format!(r#"{{"order_id":"{id}","payload":1,"status":7}}"#), "status"),
            (format!(r#"{{"order_id":"{id}","payload":1,"user_id":"me"}}"#), "user_id"),
            (r#"{"order_id":"abc","payload":1}"#.to_owned(), "order_id"),
            (r#"{"order_id":7,"payload":1}"#.to_owned(), "order_id"),
            (r#"{"payload":1}"#.to_owned(), "user_id"),
            (format!(r#"{{"user_id":"{USER}","status":"deleted"}}"#), "order_id"),
        ] {
            assert_eq!(refused(&body), field, "{body}");
        }
    }
}
