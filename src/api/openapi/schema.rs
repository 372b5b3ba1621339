//! Schemas that bodies and parameters share: texts, numbers, the statuses of an order, and the ids of all examples. The
//! statuses come from the domain, so a new one is in the document by itself. The pattern of a UUID must accept the same
//! spellings as the ids of `order`. Nothing here may import an operation.

use utoipa::ToSchema;
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{Ref, RefOr};

use crate::order::Status;

/// Schemas by their names, as the document collects them.
pub(in crate::api) type Schemas = Vec<(String, RefOr<Schema>)>;

/// Every accepted spelling of a UUID: with or without dashes, braces or `urn:uuid:`, in any case.
pub(in crate::api) const ANY_UUID: &str = "^([0-9A-Fa-f]{32}|([Uu][Rr][Nn]:[Uu][Uu][Ii][Dd]:)?[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-\
    [0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}|\\{[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-\
    [0-9A-Fa-f]{12}\\})$";

/// The order of the examples.
pub(in crate::api) const ORDER: &str = "0196f1c8-7b1e-7000-8000-00000000002a";

/// The user of the examples.
pub(in crate::api) const USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";

/// A text that fits a pattern.
pub(in crate::api) fn text(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

/// A text without a rule.
pub(in crate::api) fn any_text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A whole number from `least` to `most`.
pub(in crate::api) fn whole(least: i64, most: i64) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most))
}

/// A time of RFC 3339.
pub(in crate::api) fn time() -> ObjectBuilder {
    any_text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

/// A number without bounds.
pub(in crate::api) fn any_number() -> Object {
    ObjectBuilder::new().schema_type(Type::Number).build()
}

/// Every status of an order.
pub(in crate::api) fn statuses() -> Object {
    word_of(Status::ALL.map(Status::as_str))
}

/// One of some words.
pub(in crate::api) fn word_of<const N: usize>(words: [&str; N]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

/// A reference to the schema of a type.
pub(in crate::api) fn reference<T: ToSchema>() -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(T::name()))
}

/// Adds the schema of a type, and those that it refers to.
pub(in crate::api) fn add<T: ToSchema>(schemas: &mut Schemas) {
    schemas.push((T::name().into(), T::schema()));
    T::schemas(schemas);
}
