//! The sources of a payload's amount: `amount` itself, and the sum over `items`. Both are read in one pass over the
//! text, because the worker does this for every order; other members are skipped, and no tree of values is built. A
//! second, slower reader is for payloads that another service or an earlier version has stored, with values that a
//! checked payload cannot contain; both must give the same sum. An item without a price adds nothing and is not an
//! error.

use std::fmt;

use bigdecimal::{BigDecimal, One, Zero};
use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::decimal::{ParsedNumber, read_value};
use super::json::{MemberIndex, pick};
use super::total::Total;

/// The sum over the items, or the name of a number in it that is too long.
type Sum = Result<Total, &'static str>;

/// `amount` as it is written, where there is one, and the sum over `items`. Of a member given twice the last one
/// counts.
///
/// # Errors
/// `serde_json`'s own where the text is not JSON, or a member's name has half of a surrogate pair.
pub(super) fn read(payload: &str) -> serde_json::Result<(Option<&RawValue>, Sum)> {
    in_one_pass(payload).or_else(|_| piece_by_piece(payload))
}

/// The fast path, for all checked payloads. Fails on two JSON values that a checked payload cannot contain: a number
/// outside the range of a double, and a string with half of a surrogate pair.
fn in_one_pass(payload: &str) -> serde_json::Result<(Option<&RawValue>, Sum)> {
    let mut json = serde_json::Deserializer::from_str(payload);
    let parts = if payload.trim_ascii_start().starts_with('{') {
        json.deserialize_map(Parts)?
    } else {
        IgnoredAny::deserialize(&mut json)?;
        (None, Ok(Total::default()))
    };
    json.end()?;
    Ok(parts)
}

/// The slow path: reads all JSON that PostgreSQL can hold, as raw text first.
fn piece_by_piece(payload: &str) -> serde_json::Result<(Option<&RawValue>, Sum)> {
    let [amount, items] = pick(payload, ["amount", "items"])?;
    let items = items.and_then(|items| serde_json::from_str::<Vec<&RawValue>>(items.get()).ok());
    let mut sum = Ok(Total::default());
    for item in items.unwrap_or_default() {
        let [price, qty] = pick(item.get(), ["price", "qty"])?;
        add(&mut sum, price, qty);
    }
    Ok((amount, sum))
}

struct Parts;

impl<'de> Visitor<'de> for Parts {
    type Value = (Option<&'de RawValue>, Sum);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut amount, mut sum) = (None, Ok(Total::default()));
        while let Some(index) = map.next_key_seed(MemberIndex(&["amount", "items"]))? {
            match index {
                Some(0) => amount = Some(map.next_value()?),
                Some(_) => {
                    sum = Ok(Total::default());
                    map.next_value_seed(Adding { sum: &mut sum, level: Level::Items })?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok((amount, sum))
    }
}

/// The level of a value in the payload.
enum Level {
    /// It is `items`: of an array, each element is an item.
    Items,
    /// It is an item: an object may have a price.
    Item,
}

/// Adds a value to the sum. A value without a price adds nothing.
struct Adding<'s> {
    sum: &'s mut Sum,
    level: Level,
}

/// Adds the cost of an item.
fn add(sum: &mut Sum, price: Option<&RawValue>, qty: Option<&RawValue>) {
    let Ok(total) = sum else { return };
    let price = match price.map_or(ParsedNumber::NotANumber, read_value) {
        ParsedNumber::Number(value) => value,
        ParsedNumber::TooLong => return *sum = Err("payload.items[].price"),
        ParsedNumber::NotANumber => return,
    };
    let qty = match qty.map_or(ParsedNumber::NotANumber, read_value) {
        ParsedNumber::Number(value) if !value.is_zero() => value,
        ParsedNumber::TooLong => return *sum = Err("payload.items[].qty"),
        ParsedNumber::Number(_) | ParsedNumber::NotANumber => BigDecimal::one(),
    };
    total.add(price, qty);
}

impl<'de> DeserializeSeed<'de> for Adding<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Adding<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        match self.level {
            Level::Items => {
                while seq.next_element_seed(Adding { sum: self.sum, level: Level::Item })?.is_some() {}
            }
            Level::Item => while seq.next_element::<IgnoredAny>()?.is_some() {},
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut parts = [None; 2];
        while let Some(index) = map.next_key_seed(MemberIndex(&["price", "qty"]))? {
            match index {
                Some(index) => parts[index] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if let Level::Item = self.level {
            add(self.sum, parts[0], parts[1]);
        }
        Ok(())
    }
}
