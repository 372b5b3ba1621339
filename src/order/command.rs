//! What a caller may ask for: create, update or delete an order. A [`Submission`] is the request as it was
//! written; a [`Command`] is what it means, with every field parsed. Both protocols pass through here, so
//! the rules of the fields stand in one place.

use std::borrow::Cow;

use serde_json::value::RawValue;
use thiserror::Error;

use super::json::{pick, too_deep};
use super::{OrderId, Payload, PayloadError, UserId, Version};

/// A request that has been understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Make a new order.
    Create {
        /// The new order's id, made by the service.
        order_id: OrderId,
        /// Its owner.
        user_id: UserId,
        /// Its content.
        payload: Payload,
    },
    /// Replace an order's content and have it processed again.
    Update {
        /// The order.
        order_id: OrderId,
        /// Who asks; where given, the order must be theirs.
        user_id: Option<UserId>,
        /// The new content.
        payload: Payload,
        /// The version that the order must have, where that matters. No order has version 0.
        if_version: Option<Version>,
    },
    /// Delete an order for ever. Its content stays readable.
    Delete {
        /// The order.
        order_id: OrderId,
        /// Who asks; where given, the order must be theirs.
        user_id: Option<UserId>,
        /// The version that the order must have, where that matters. No order has version 0.
        if_version: Option<Version>,
    },
}

impl Command {
    /// The order it is about.
    #[must_use]
    pub fn order_id(&self) -> OrderId {
        match self {
            Command::Create { order_id, .. }
            | Command::Update { order_id, .. }
            | Command::Delete { order_id, .. } => *order_id,
        }
    }
}

/// The content that an order is to have, under an id that its caller chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Put {
    /// The order.
    pub order_id: OrderId,
    /// Whose it is; needed where it does not exist yet.
    pub user_id: Option<UserId>,
    /// Its content.
    pub payload: Payload,
    /// The version that the order must have, where that matters; it must exist then.
    pub if_version: Option<Version>,
}

/// A field that breaks its rule: which one, what is wrong with it and what to send instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {detail}")]
pub struct Invalid {
    /// The field's name on the wire, or `body`.
    pub field: &'static str,
    /// What is wrong, and the fix.
    pub detail: String,
}

impl Invalid {
    /// A complaint about one field.
    pub fn new(field: &'static str, detail: impl Into<String>) -> Invalid {
        Invalid { field, detail: detail.into() }
    }
}

/// A request to create, update or delete, field by field as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Submission<'a> {
    /// `""` and `"0"` mean a new order.
    pub order_id: Option<Cow<'a, str>>,
    /// A UUID.
    pub user_id: Option<Cow<'a, str>>,
    /// `"deleted"` deletes; `""` and `"new"` say nothing.
    pub status: Option<Cow<'a, str>>,
    /// JSON text.
    pub payload: Option<Cow<'a, str>>,
    /// JSON text that wins over `payload`; `""` counts as absent.
    pub payload_json: Option<Cow<'a, str>>,
    /// The version that the order must have to be changed.
    pub version: Option<Version>,
}

impl<'a> Submission<'a> {
    /// Reads the fields out of a JSON object. Unknown members are ignored; of one given twice the last counts.
    ///
    /// # Errors
    /// [`Invalid`] where the text is no JSON object or a field is not of its type.
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

    /// Asks for one of these versions, as a header does; for the first, where the body names none. A body that asks for
    /// another one contradicts it. No versions ask for nothing.
    ///
    /// # Errors
    /// [`Invalid`] where the body names another version.
    pub fn require(&mut self, versions: &[Version]) -> Result<(), Invalid> {
        match (versions.first(), self.version) {
            (Some(_), Some(named)) if !versions.contains(&named) => Err(Invalid::new(
                "version",
                "it differs from the one that If-Match names; send one of the two",
            )),
            (first, named) => {
                self.version = named.or(first.copied());
                Ok(())
            }
        }
    }

    /// Applies the rules of the fields. A creation gets a fresh order id here.
    ///
    /// # Errors
    /// [`Invalid`] naming the first field that breaks its rule.
    pub fn into_command(self) -> Result<Command, Invalid> {
        let user_id = self.owner()?;
        let deletes = match self.status.as_deref() {
            None | Some("" | "new") => false,
            Some("deleted") => true,
            Some(other) => {
                return Err(Invalid::new(
                    "status",
                    format!("{} is not accepted; send {STATUSES}", quote(other)),
                ));
            }
        };
        let Some(order_id) = self.order_id.as_deref().filter(|id| !matches!(*id, "" | "0")) else {
            if deletes {
                return Err(Invalid::new("order_id", "a deletion needs the UUID of the order to delete"));
            }
            if self.version.is_some() {
                return Err(Invalid::new(
                    "version",
                    "a new order has none before; leave it out, and If-Match, too",
                ));
            }
            let user_id = user_id.ok_or_else(needs_user)?;
            return Ok(Command::Create { order_id: OrderId::generate(), user_id, payload: self.content()? });
        };
        let order_id = OrderId::parse(order_id).ok_or_else(|| not_a_uuid("order_id", order_id))?;
        let if_version = self.version;
        if deletes {
            return Ok(Command::Delete { order_id, user_id, if_version });
        }
        Ok(Command::Update { order_id, user_id, payload: self.content()?, if_version })
    }

    /// Applies the rules of the fields to a request that names the order by its path, and is about its content alone.
    ///
    /// # Errors
    /// [`Invalid`] naming the first field that breaks its rule.
    pub fn into_put(self, order_id: OrderId) -> Result<Put, Invalid> {
        let named = self.order_id.as_deref().filter(|id| !matches!(*id, "" | "0"));
        if named.is_some_and(|id| OrderId::parse(id) != Some(order_id)) {
            return Err(Invalid::new("order_id", "it differs from the one in the path; leave it out"));
        }
        if !matches!(self.status.as_deref(), None | Some("" | "new")) {
            return Err(Invalid::new("status", "leave it out; to delete the order, send DELETE"));
        }
        let payload = self.content()?;
        Ok(Put { order_id, user_id: self.owner()?, payload, if_version: self.version })
    }

    fn owner(&self) -> Result<Option<UserId>, Invalid> {
        match self.user_id.as_deref() {
            None | Some("") => Ok(None),
            Some(text) => Ok(Some(UserId::parse(text).ok_or_else(|| not_a_uuid("user_id", text))?)),
        }
    }

    fn content(&self) -> Result<Payload, Invalid> {
        let given =
            self.payload_json.as_deref().filter(|text| !text.is_empty()).map(|text| ("payload_json", text));
        let (field, text) = given
            .or(self.payload.as_deref().map(|text| ("payload", text)))
            .filter(|(_, text)| text.trim_ascii() != "null")
            .ok_or_else(|| {
                Invalid::new("payload", "an order needs a payload; send any JSON value but null")
            })?;
        Payload::parse(text).map_err(|error| match error {
            // The place is one in the text.
            PayloadError::Json(error) => Invalid::new(field, format!("{error} of the {field}")),
            error => Invalid::new(field, error.to_string()),
        })
    }
}

/// What a request without a user is told that needs one.
pub(crate) fn needs_user() -> Invalid {
    Invalid::new("user_id", "a new order needs its user's UUID")
}

/// A version as JSON writes it: `2.0` and `2e0` are the number 2, too.
fn whole_number(json: &str) -> Result<Version, Invalid> {
    /// Up to here a float holds every whole number.
    const EXACT: f64 = (1_u64 << 53) as f64;
    let fraction = || json.parse().ok().filter(|float: &f64| float.fract() == 0.0 && float.abs() <= EXACT);
    let version = json.parse().ok().or_else(|| Some(fraction()? as Version));
    version.filter(|version| *version >= 0).ok_or_else(|| {
        Invalid::new("version", format!("{} is no version; send a whole number such as 1", quote(json)))
    })
}

const STATUSES: &str = "\"deleted\" to delete an existing order, \"new\", \"\" or nothing";

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

fn not_a_uuid(field: &'static str, text: &str) -> Invalid {
    Invalid::new(
        field,
        format!("{} is not a UUID; send one like 0196f1c8-7b1e-7000-8000-000000000000", quote(text)),
    )
}

/// What the caller sent, short enough for a message.
fn quote(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_version_is_a_whole_number_however_json_writes_it() {
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
    fn nesting_counts_in_fields_that_nobody_reads_and_not_in_strings() {
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
    fn a_refusal_names_the_field() {
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
