//! Equal requests: a request that is written differently, with another order of members, other white space, escapes and
//! notations of numbers, has the same idempotency key; a request with other content has another key. These are the
//! properties; the contract suite sends such requests to every backend.

use proptest::prelude::*;
use serde_json::{Map, Value};

use orderstream::order::{Command, Key, KeyText, OrderId, Payload, UserId};

/// A JSON value with exact numbers; a `Value` would hold some of them as doubles.
#[derive(Debug, Clone, PartialEq)]
enum Json {
    Word(&'static str),
    /// Digits and an exponent.
    Number(i64, i32),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["null", "true", "false"]).prop_map(Json::Word),
        (any::<i32>(), -30..30).prop_map(|(digits, exponent)| Json::Number(digits.into(), exponent)),
        "[^\\x00]{0,8}".prop_map(Json::Text),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::List),
            prop::collection::btree_map("[^\\x00]{0,4}", inner, 0..6)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

/// Writes a value in one of many ways; the bytes choose.
struct Writer<'a> {
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    text: String,
}

impl Writer<'_> {
    fn choose(&mut self, of: u8) -> u8 {
        self.choices.next().copied().unwrap_or(0) % of
    }

    fn gap(&mut self) {
        let gaps = ["", "", "", " ", "\n\t", "\r"];
        let gap = gaps[usize::from(self.choose(6))];
        self.text.push_str(gap);
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            let must = c < ' ' || c == '"' || c == '\\';
            if must || self.choose(3) == 0 {
                let mut units = [0; 2];
                c.encode_utf16(&mut units)
                    .iter()
                    .for_each(|unit| self.text.push_str(&format!("\\u{unit:04x}")));
            } else {
                self.text.push(c);
            }
        }
        self.text.push('"');
    }

    fn number(&mut self, digits: i64, exponent: i32) {
        let zeros = usize::from(self.choose(4));
        let more = "0".repeat(zeros);
        let written = match self.choose(3) {
            0 => format!("{digits}e{exponent}"),
            1 => format!("{digits}{more}E{}", exponent - zeros as i32),
            _ => format!("{digits}.0{more}e{exponent:+}"),
        };
        self.text.push_str(&written);
    }

    fn value(&mut self, value: &Json) {
        self.gap();
        match value {
            Json::Word(word) => self.text.push_str(word),
            Json::Number(digits, exponent) => self.number(*digits, *exponent),
            Json::Text(text) => self.string(text),
            Json::List(list) => {
                self.text.push('[');
                for (at, value) in list.iter().enumerate() {
                    self.text.push_str(if at > 0 { "," } else { "" });
                    self.value(value);
                }
                self.text.push(']');
            }
            Json::Object(members) => self.object(members),
        }
        self.gap();
    }

    fn object(&mut self, members: &[(String, Json)]) {
        let mut members: Vec<_> = members.iter().collect();
        if !members.is_empty() {
            let turn = usize::from(self.choose(8)) % members.len();
            members.rotate_left(turn);
            // A member that occurs twice counts with its last value.
            if self.choose(4) == 0 {
                self.text.push('{');
                self.string(&members[0].0);
                self.text.push_str(":[1],");
            } else {
                self.text.push('{');
            }
        } else {
            self.text.push('{');
        }
        for (at, (name, value)) in members.into_iter().enumerate() {
            self.text.push_str(if at > 0 { "," } else { "" });
            self.gap();
            self.string(name);
            self.gap();
            self.text.push(':');
            self.value(value);
        }
        self.text.push('}');
    }
}

fn written(value: &Json, choices: &[u8]) -> String {
    let mut writer = Writer { choices: choices.iter().cycle(), text: String::new() };
    writer.value(value);
    writer.text
}

/// The key of a creation with that payload.
fn key(payload: &str) -> Key {
    let payload = Payload::parse(payload).unwrap_or_else(|error| panic!("{error}: {payload}"));
    let command =
        Command::Create { order_id: OrderId::generate(), user_id: UserId::from_bytes([1; 16]), payload };
    KeyText::parse("k").expect("a key").of(&command)
}

/// The value with numbers in one form, so that equal values are equal.
fn plain(value: &Json) -> Value {
    match value {
        Json::Word(word) => serde_json::from_str(word).expect("a word"),
        Json::Number(0, _) => Value::String("number 0".to_owned()),
        Json::Number(digits, exponent) => {
            let (mut digits, mut exponent) = (*digits, *exponent);
            while digits % 10 == 0 {
                (digits, exponent) = (digits / 10, exponent + 1);
            }
            Value::String(format!("number {digits}e{exponent}"))
        }
        Json::Text(text) => Value::String(format!("text {text}")),
        Json::List(list) => Value::Array(list.iter().map(plain).collect()),
        Json::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), plain(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
    }
}

proptest! {
    #[test]
    fn a_payload_in_another_notation_has_the_same_key(
        value in json(),
        one in prop::collection::vec(any::<u8>(), 1..40),
        other in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let texts = [written(&value, &one), written(&value, &other)];
        prop_assert_eq!(key(&texts[0]), key(&texts[1]), "{:?}", texts);
    }

    #[test]
    fn another_payload_has_another_key(
        one in json(),
        other in json(),
        choices in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let equal = key(&written(&one, &choices)).content == key(&written(&other, &choices)).content;
        prop_assert_eq!(equal, plain(&one) == plain(&other));
    }

    #[test]
    fn a_payload_with_one_changed_value_has_another_key(
        value in json(),
        digits in any::<i32>(),
        choices in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let inside = |digits: i64| Json::Object(vec![
            ("a".to_owned(), value.clone()),
            ("b".to_owned(), Json::List(vec![Json::Number(digits, 0)])),
        ]);
        let (one, other) = (inside(digits.into()), inside(i64::from(digits) + 1));
        prop_assert_ne!(key(&written(&one, &choices)).content, key(&written(&other, &choices)).content);
    }
}
