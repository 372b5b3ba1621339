//! A request to create, update or delete an order, with its fields as they were written, and the rules of the fields.
//! Both protocols and each item of a batch use it, so that a field means the same everywhere. The result is a command
//! of the domain, or the first field that breaks its rule.

use std::borrow::Cow;

use crate::order::{Command, Invalid, OrderId, Payload, PayloadError, Put, UserId, Version, needs_user};

/// The legal values of `status`, for messages.
pub(super) const STATUSES: &str = "\"deleted\" to delete an existing order, \"new\", \"\" or nothing";

/// A request to create, update or delete an order, with its fields as they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Submission<'a> {
    /// `""` and `"0"` mean a new order.
    pub order_id: Option<Cow<'a, str>>,
    /// A UUID.
    pub user_id: Option<Cow<'a, str>>,
    /// `"deleted"` deletes; `""` and `"new"` have no effect.
    pub status: Option<Cow<'a, str>>,
    /// JSON text.
    pub payload: Option<Cow<'a, str>>,
    /// JSON text that takes precedence over `payload`; `""` counts as absent.
    pub payload_json: Option<Cow<'a, str>>,
    /// The version that the order must have to be changed.
    pub version: Option<Version>,
}

impl Submission<'_> {
    /// Requires one of these versions, as a header does. Without a version in the body, the first is required; an empty
    /// list requires nothing.
    ///
    /// # Errors
    /// [`Invalid`] where the body names another version.
    pub fn require(&mut self, versions: &[Version]) -> Result<(), Invalid> {
        match (versions.first(), self.version) {
            (Some(_), Some(named)) if !versions.contains(&named) => {
                Err(Invalid::new("version", "it differs from the version in If-Match; send one of the two"))
            }
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
                    "a new order has no version yet; leave out version and If-Match",
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

    /// Applies the rules of the fields to a request that names the order in its path, and sets only its content.
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
            // The error names a line and a column, which are those of the field's text.
            PayloadError::Json(error) => Invalid::new(field, format!("{error} of the {field}")),
            error => Invalid::new(field, error.to_string()),
        })
    }
}

fn not_a_uuid(field: &'static str, text: &str) -> Invalid {
    Invalid::new(
        field,
        format!("{} is not a UUID; send one like 0196f1c8-7b1e-7000-8000-000000000000", quote(text)),
    )
}

/// A text of the caller, in quotes and short enough for a message.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
