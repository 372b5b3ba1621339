//! A request: a command, and the idempotency key that makes it safe to repeat. The store keeps the key with the
//! command's outcome, in one transaction, so that a repeated request gets the replayed outcome. A key is stored as two
//! digests of 16 bytes: one of its text within its scope (the user, or else the order), and one of the command's
//! content, which shows whether the key was used for another command. Stores keep digests across releases, so the way
//! in which they are made must never change.

use thiserror::Error;
use uuid::Uuid;

use super::canonical;
use super::command::Command;
use super::id::Version;

/// Namespaces of the digests, so that a digest is never equal to one of another kind or to an id: of the keys of a
/// user, of the keys of requests that name an order and no user, and of contents.
const KEYS: Uuid = Uuid::from_u128(0x6f72_6465_7273_7472_6561_6d2e_6b65_7973);
const ORDER_KEYS: Uuid = Uuid::from_u128(0x6f72_6465_7273_7472_6561_6d2e_6f6b_6579);
const CONTENTS: Uuid = Uuid::from_u128(0x6f72_6465_7273_7472_6561_6d2e_636f_6e74);

/// The longest text of a key, in bytes.
const LONGEST: usize = 255;

/// A command on its way to the store.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandRequest {
    /// The command.
    pub command: Command,
    /// The idempotency key, which makes it safe to repeat.
    pub key: Option<Key>,
}

impl CommandRequest {
    /// The same request, under the same key, with that version as its precondition. A creation does not have one.
    #[must_use]
    pub fn for_version(&self, version: Version) -> CommandRequest {
        let mut request = self.clone();
        match &mut request.command {
            Command::Create { .. } => {}
            Command::Update { if_version, .. } | Command::Delete { if_version, .. } => {
                *if_version = Some(version);
            }
        }
        request
    }
}

impl From<Command> for CommandRequest {
    /// A command without a key.
    fn from(command: Command) -> CommandRequest {
        CommandRequest { command, key: None }
    }
}

/// The key of a request, as stores keep it: digests (SHA-1, in the form of UUIDv5, RFC 9562), so that it is short for a
/// text and content of any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Of the key's text and of its scope: the user, or the order.
    pub digest: [u8; 16],
    /// Of the command's content, without the id of an order that it creates. Equal JSON has equal digests.
    pub content: [u8; 16],
}

/// The text of a key, as callers write it: 1 to 255 characters of printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyText(String);

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("send 1 to {LONGEST} characters of printable ASCII, for instance a UUID made for this request")]
pub struct BadKey;

impl KeyText {
    /// Reads a key. One in double quotes, as RFC 9651 writes a string, is the same as one without.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn parse(text: &str) -> Result<KeyText, BadKey> {
        let text = text.trim_matches([' ', '\t']);
        let text = match text.strip_prefix('"').map(|rest| rest.strip_suffix('"').ok_or(BadKey)) {
            None => text.to_owned(),
            Some(quoted) => unescape(quoted?)?,
        };
        let is_legal = |byte: u8| (b' '..=b'~').contains(&byte);
        match (1..=LONGEST).contains(&text.len()) && text.bytes().all(is_legal) {
            true => Ok(KeyText(text)),
            false => Err(BadKey),
        }
    }

    /// The key of one item of a list that was sent under this key.
    #[must_use]
    pub fn item(&self, index: usize) -> KeyText {
        // A key that a caller sends cannot contain a line break.
        KeyText(format!("{}\n{index}", self.0))
    }

    /// The key of a command. Its scope is the user that the request names, else the order that it names: callers who
    /// name no user do not share keys, unless they change the same order.
    #[must_use]
    pub fn of(&self, command: &Command) -> Key {
        let (namespace, scope) = match command {
            Command::Create { user_id, .. }
            | Command::Update { user_id: Some(user_id), .. }
            | Command::Delete { user_id: Some(user_id), .. } => (KEYS, user_id.as_bytes()),
            Command::Update { order_id, user_id: None, .. }
            | Command::Delete { order_id, user_id: None, .. } => (ORDER_KEYS, order_id.as_bytes()),
        };
        let digest = Uuid::new_v5(&namespace, &[scope, self.0.as_bytes()].concat());
        Key { digest: digest.into_bytes(), content: content(command) }
    }
}

/// The inside of a quoted string: a backslash may only be before a quote or a backslash.
fn unescape(quoted: &str) -> Result<String, BadKey> {
    let (mut text, mut rest) = (String::with_capacity(quoted.len()), quoted.chars());
    while let Some(c) = rest.next() {
        match c {
            '"' => return Err(BadKey),
            '\\' => text.push(rest.next().filter(|c| matches!(c, '"' | '\\')).ok_or(BadKey)?),
            c => text.push(c),
        }
    }
    Ok(text)
}

/// A digest of a command's content.
fn content(command: &Command) -> [u8; 16] {
    // Each of a fixed length, and then the payload: different commands have different texts.
    let (kind, order_id, if_version, payload) = match command {
        Command::Create { payload, .. } => (b'c', None, None, Some(payload)),
        Command::Update { order_id, payload, if_version, .. } => {
            (b'u', Some(order_id), *if_version, Some(payload))
        }
        Command::Delete { order_id, if_version, .. } => (b'd', Some(order_id), *if_version, None),
    };
    let mut text = vec![kind];
    text.extend(order_id.map_or([0; 16], |id| *id.as_bytes()));
    // Versions are never negative.
    text.extend(if_version.unwrap_or(-1).to_be_bytes());
    if let Some(payload) = payload {
        canonical::append(payload.as_str(), &mut text);
    }
    Uuid::new_v5(&CONTENTS, &text).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::id::{OrderId, UserId};
    use crate::order::payload::Payload;

    fn key(text: &str) -> Result<String, BadKey> {
        KeyText::parse(text).map(|key| key.0)
    }

    #[test]
    fn a_key_is_printable_ascii_with_quotes_or_without() {
        for (text, read) in [
            ("a", "a"),
            (" 8e03978e-40d5-43dd-bc93-6894a57f9324\t", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            (r#""a b""#, "a b"),
            (r#""a\"\\b""#, r#"a"\b"#),
            ("a b", "a b"),
            (r#"a"b"#, r#"a"b"#),
        ] {
            assert_eq!(key(text).as_deref(), Ok(read), "{text}");
        }
        let longest = "k".repeat(255);
        assert_eq!(key(&longest), Ok(longest.clone()));
        for text in [
            "",
            " ",
            r#""""#,
            r#""a"#,
            r#"""#,
            r#""a"b""#,
            r#""a\n""#,
            "a\n",
            "é",
            "a\u{7f}",
            &format!("{longest}k"),
        ] {
            assert_eq!(key(text), Err(BadKey), "{text:?}");
        }
    }

    #[test]
    fn equal_requests_have_equal_keys_and_any_difference_shows() {
        let user = |n: u8| UserId::from_bytes([n; 16]);
        let create = |n: u8, text: &str| Command::Create {
            order_id: OrderId::generate(),
            user_id: user(n),
            payload: Payload::parse(text).unwrap(),
        };
        let text = KeyText::parse("k").unwrap();
        let key = text.of(&create(1, "[1]"));
        assert_eq!(text.of(&create(1, "[1]")), key);
        let other = text.of(&create(1, "[2]"));
        assert!(other.digest == key.digest && other.content != key.content);
        assert_ne!(text.of(&create(2, "[1]")).digest, key.digest);
        assert_ne!(KeyText::parse("l").unwrap().of(&create(1, "[1]")).digest, key.digest);
        assert_ne!(text.item(0).of(&create(1, "[1]")).digest, key.digest);
        assert_ne!(text.item(0), text.item(1));

        let equal = text.of(&create(1, "[1.0 , {\"b\":\"\\u0041\",\"a\":2}]"));
        assert_eq!(text.of(&create(1, r#"[1,{"a":20e-1,"b":"A"}]"#)), equal);

        let order_id = OrderId::generate();
        let delete = |user_id, if_version| text.of(&Command::Delete { order_id, user_id, if_version });
        let update = Command::Update {
            order_id,
            user_id: None,
            payload: Payload::parse("1").unwrap(),
            if_version: None,
        };
        let mut contents = vec![key.content, text.of(&update).content];
        contents.extend([None, Some(0), Some(7)].map(|version| delete(None, version).content));
        let count = contents.len();
        contents.sort_unstable();
        contents.dedup();
        assert_eq!(contents.len(), count);
        assert_eq!(delete(None, None).content, delete(Some(user(1)), None).content);
        assert_ne!(delete(None, None).digest, delete(Some(user(1)), None).digest);
        let other = Command::Delete { order_id: OrderId::generate(), user_id: None, if_version: None };
        assert_ne!(text.of(&other).digest, delete(None, None).digest);
        let same_bytes = UserId::from_bytes(*order_id.as_bytes());
        assert_ne!(delete(Some(same_bytes), None).digest, delete(None, None).digest);
    }
}
