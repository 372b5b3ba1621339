//! The schemas of request bodies. They are exact in both directions: a body that fits one is not rejected for its form,
//! and a body that fits none is rejected. The rules themselves are those of `api::submission`, so a change of a rule
//! needs a change here; `scripts/schemathesis` sends bodies of both kinds to a running server. The examples of the
//! document are here as well. No handler parses a body with these types.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    AllOfBuilder, AnyOfBuilder, ArrayBuilder, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::{PartialSchema, ToSchema};

use crate::api::openapi::schema::{ANY_UUID, ORDER, Schemas, USER, reference, text};
use crate::api::options::MAX_BATCH_COMMANDS;

/// The format of a string that holds JSON; `scripts/schemathesis` generates such strings.
const JSON_TEXT: &str = "json-text";

/// Every JSON type but null.
const NOT_NULL: [Type; 5] = [Type::Object, Type::Array, Type::String, Type::Number, Type::Boolean];

/// Declares a schema as a type that an operation, or another schema, can name.
macro_rules! schemas {
    ($($(#[$doc:meta])* $name:ident ($($part:ident),*): $schema:expr;)+) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::from($schema))
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }

            fn schemas(schemas: &mut Schemas) {
                let _ = &schemas;
                $(
                    schemas.push(($part::name().into(), $part::schema()));
                    $part::schemas(schemas);
                )*
            }
        }
    )+};
}

schemas! {
    /// The body of `POST /orders`.
    Submission (NewOrder, OrderUpdate, OrderDeletion): AnyOfBuilder::new()
        .description(Some("`order_id` and `status` decide whether an order is created, updated or deleted."))
        .item(reference::<NewOrder>())
        .item(reference::<OrderUpdate>())
        .item(reference::<OrderDeletion>());

    /// The body of `PUT /orders/{order_id}`.
    PutOrder (OrderContent): AllOfBuilder::new()
        .description(Some("The new content of the order."))
        .item(object(&[])
            .property("order_id", AnyOfBuilder::new()
                .description(Some("The order of the path, or absent."))
                .item(text(ANY_UUID))
                .item(one_of([Value::Null, json!(""), json!("0"), json!(0)], "")))
            .property("user_id", owner(
                "The owner. Required where the order does not exist yet; an existing order must belong to this user."
            ))
            .property("status", unchanged())
            .property("version", version()))
        .item(reference::<OrderContent>());

    /// The body of `POST /orders:batch`.
    Batch (Submission): object(&["orders"])
        .description(Some("Many requests in one."))
        .property("orders", ArrayBuilder::new()
            .description(Some("Each is a separate request; its result names what is wrong with it."))
            .items(AnyOfBuilder::new()
                .item(reference::<Submission>())
                .item(ObjectBuilder::new().schema_type(SchemaType::AnyValue)))
            .min_items(Some(1))
            .max_items(Some(MAX_BATCH_COMMANDS)));

    /// An order to create.
    NewOrder (OrderContent): AllOfBuilder::new()
        .description(Some("Creates an order."))
        .item(object(&["user_id"])
            .property("order_id", one_of(
                [Value::Null, json!(""), json!("0"), json!(0)], "Absent, or one of these: a new order."
            ))
            .property("user_id", text(ANY_UUID).description(Some("The owner, in any spelling of the UUID.")))
            .property("status", unchanged())
            .property("version", null("A new order has no version yet.")))
        .item(reference::<OrderContent>());

    /// New content for an order.
    OrderUpdate (OrderContent): AllOfBuilder::new()
        .description(Some("Replaces the content of an order, which is processed again."))
        .item(existing(&["order_id"]).property("status", unchanged()))
        .item(reference::<OrderContent>());

    /// An order to delete.
    OrderDeletion (): existing(&["order_id", "status"])
        .description(Some("Deletes an order permanently. Its content stays readable."))
        .property("status", one_of([json!("deleted")], ""))
        .property("payload_json", of_types(&[Type::String, Type::Object, Type::Null], "Ignored."));

    /// The content of an order, in one of two members.
    OrderContent (): AnyOfBuilder::new()
        .description(Some("The content of an order: any JSON value but null, kept digit for digit. No string in it \
            may hold `\\u0000` or a lone surrogate, and it may be nested 127 levels deep. Its numbers with exponents, \
            and those of more than 24 digits, may have 262,144 digits together when \
            they are written out, and no number more than 16,383 after its point."))
        .item(object(&["payload"])
            .property("payload", of_types(&NOT_NULL, "The content. Its `id` becomes the external id; its `amount`, or \
                the `price` and `qty` of its `items`, the amount."))
            .property("payload_json", one_of([Value::Null, json!("")], "Absent, or one of these.")))
        .item(object(&["payload_json"])
            .property("payload_json", AnyOfBuilder::new()
                .description(Some("The content as a JSON text in a string, or as an object. It takes precedence over \
                    `payload`."))
                .item(json_text())
                .item(of_types(&[Type::Object], ""))));
}

fn object(required: &[&str]) -> ObjectBuilder {
    required
        .iter()
        .fold(ObjectBuilder::new().schema_type(Type::Object), |object, name| object.required(*name))
}

/// The members that name an existing order.
fn existing(required: &[&str]) -> ObjectBuilder {
    object(required)
        .property("order_id", text(ANY_UUID).description(Some("The order, in any spelling of its UUID.")))
        .property("user_id", owner("The owner. Where given, the order must belong to this user."))
        .property("version", version())
}

/// An optional user.
fn owner(description: &str) -> AnyOfBuilder {
    AnyOfBuilder::new()
        .description(Some(description))
        .item(text(ANY_UUID))
        .item(one_of([Value::Null, json!("")], ""))
}

fn version() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Integer, Type::Null]))
        .minimum(Some(0))
        .maximum(Some(i64::MAX))
        .description(Some("The version that the order must have; absent: any."))
}

fn one_of<const N: usize>(values: [Value; N], description: &str) -> ObjectBuilder {
    described(ObjectBuilder::new().schema_type(SchemaType::AnyValue).enum_values(Some(values)), description)
}

fn of_types(types: &[Type], description: &str) -> ObjectBuilder {
    let types = match types {
        [one] => SchemaType::Type(one.clone()),
        several => SchemaType::Array(several.to_vec()),
    };
    described(ObjectBuilder::new().schema_type(types), description)
}

fn described(object: ObjectBuilder, description: &str) -> ObjectBuilder {
    object.description((!description.is_empty()).then_some(description))
}

fn null(description: &str) -> ObjectBuilder {
    of_types(&[Type::Null], description)
}

fn unchanged() -> ObjectBuilder {
    one_of([Value::Null, json!(""), json!("new")], "Absent, or one of these.")
}

fn json_text() -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .content_media_type("application/json")
        .format(Some(SchemaFormat::Custom(JSON_TEXT.to_owned())))
}

/// A creation. This and the next functions are the examples of the document.
pub(super) fn new_order() -> Value {
    json!({"user_id": USER, "payload": {"id": "A-1", "items": [{"price": 9.90, "qty": 2}]}})
}

/// An update.
pub(super) fn update() -> Value {
    json!({"order_id": ORDER, "payload": {"id": "A-1", "items": [{"price": 9.90, "qty": 3}]}})
}

/// The content of a `PUT`.
pub(super) fn put() -> Value {
    json!({"user_id": USER, "payload": {"id": "A-1", "amount": 19.80}})
}

/// A batch.
pub(super) fn batch() -> Value {
    json!({"orders": [new_order(), deletion()]})
}

/// A deletion.
pub(super) fn deletion() -> Value {
    json!({"order_id": ORDER, "status": "deleted"})
}
