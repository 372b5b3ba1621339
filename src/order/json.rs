//! Reads JSON text without changing a digit of it: a check that every store can hold the text as it is, and a way to
//! pick a few members of an object as raw text. Both rely on `serde_json`'s parser: for its limit of 127 levels, the
//! range of numbers, and errors with line and column. Neither builds a tree of values, because the text itself is
//! stored. Of a member given twice the last one counts, as in PostgreSQL's `jsonb`.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::numbers;

/// Checks a JSON text as far as a store cares: well formed, nested no deeper than 127 levels (128 with an
/// object around it), numbers within the range of a double, and no string with a NUL or a lone
/// surrogate, which PostgreSQL's `jsonb` cannot hold.
///
/// # Errors
/// `serde_json`'s own, with line and column.
pub(super) fn check(text: &str) -> serde_json::Result<Checked> {
    let mut json = serde_json::Deserializer::from_str(text);
    let counts = Cell::new(false);
    let check = Check { is_long: text.len() > numbers::SHORT, counts: &counts };
    let id = match text.starts_with('{') {
        true => json.deserialize_map(Members(check))?,
        false => check.deserialize(&mut json).map(|()| Id::None)?,
    };
    json.end()?;
    Ok(Checked { counts: counts.get(), id })
}

/// The result of a check.
pub(super) struct Checked {
    /// Whether its numbers have to be counted.
    pub(super) counts: bool,
    /// Its member `id`, where it is an object. Of a member given twice the last one counts.
    pub(super) id: Id,
}

/// The `id` of an object.
pub(super) enum Id {
    /// A string.
    Text(Arc<str>),
    /// A number, whose digits the check does not see.
    Number,
    /// Something else, or nothing.
    None,
}

/// The members of that name of a JSON object, as raw text, in the order of `names`. Of a member given twice the last
/// one counts. All `None` where the text is JSON but not an object.
///
/// # Errors
/// `serde_json`'s own where the text is not JSON, with line and column.
pub fn pick<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> serde_json::Result<[Option<&'a RawValue>; N]> {
    let mut json = serde_json::Deserializer::from_str(text);
    let picked = if text.trim_ascii_start().starts_with('{') {
        json.deserialize_map(Pick { names })?
    } else {
        IgnoredAny::deserialize(&mut json)?;
        [None; N]
    };
    json.end()?;
    Ok(picked)
}

/// Walks a value and records only whether its numbers have to be counted.
#[derive(Clone, Copy)]
struct Check<'c> {
    /// Whether the text is so long that every number with a fraction or an exponent matters.
    is_long: bool,
    counts: &'c Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check<'_> {
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
    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        if self.is_long || !numbers::is_usual(number) {
            self.counts.set(true);
        }
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if text.contains('\0') {
            Err(E::custom("a string holds \\u0000, which cannot be stored"))
        } else {
            Ok(())
        }
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(self)?.is_some() {
            map.next_value_seed(self)?;
        }
        Ok(())
    }
}

/// An object that is checked member by member, to see its `id`.
struct Members<'c>(Check<'c>);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Id, A::Error> {
        let Members(check) = self;
        let mut id = Id::None;
        while let Some(is_id) = map.next_key_seed(Name(check))? {
            match is_id {
                true => id = map.next_value_seed(IdValue(check))?,
                false => map.next_value_seed(check)?,
            }
        }
        Ok(id)
    }
}

/// A member's name, and whether it is `id`.
struct Name<'c>(Check<'c>);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }
    fn visit_str<E: Error>(self, name: &str) -> Result<bool, E> {
        self.0.visit_str(name).map(|()| name == "id")
    }
}

/// The value of an `id`, checked as every other.
struct IdValue<'c>(Check<'c>);

impl<'de> DeserializeSeed<'de> for IdValue<'_> {
    type Value = Id;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Id, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for IdValue<'_> {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Id, E> {
        Ok(Id::None)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Id, E> {
        Ok(Id::Number)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Id, E> {
        Ok(Id::Number)
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<Id, E> {
        self.0.visit_f64(number).map(|()| Id::Number)
    }
    fn visit_unit<E>(self) -> Result<Id, E> {
        Ok(Id::None)
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Id, E> {
        self.0.visit_str(text).map(|()| Id::Text(text.into()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Id, A::Error> {
        self.0.visit_seq(seq).map(|()| Id::None)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Id, A::Error> {
        self.0.visit_map(map).map(|()| Id::None)
    }
}

struct Pick<'n, const N: usize> {
    names: [&'n str; N],
}

impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut picked = [None; N];
        while let Some(index) = map.next_key_seed(MemberIndex(&self.names))? {
            match index {
                Some(index) => picked[index] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(picked)
    }
}

/// The index of a member's name in a list of names, if it is one of them.
pub(super) struct MemberIndex<'n>(pub(super) &'n [&'n str]);

impl<'de> DeserializeSeed<'de> for MemberIndex<'_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberIndex<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }
    fn visit_str<E>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}
