//! The parameters that several operations share, most of them request headers. An operation names the ones that its
//! handler reads.

use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{RefOr, Required};

/// A text that fits a pattern.
pub(super) fn text(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

/// Every spelling of a UUID that is read: with or without dashes, braces or `urn:uuid:`, in any case.
pub(super) const ANY_UUID: &str = "^([0-9A-Fa-f]{32}|([Uu][Rr][Nn]:[Uu][Uu][Ii][Dd]:)?[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-\
    [0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}|\\{[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-\
    [0-9A-Fa-f]{12}\\})$";

/// An order of the examples.
pub(super) const ORDER: &str = "0196f1c8-7b1e-7000-8000-00000000002a";

/// Its user.
pub(super) const USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";

fn parameter(
    name: &str,
    place: ParameterIn,
    required: Required,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
    example: &str,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(example.into()))
        .build()
}

/// Declares parameters, each as a type that an operation can name.
macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident: $parameter:expr;)+) => {$(
        $(#[$doc])*
        pub(in crate::api) struct $name;

        impl IntoParams for $name {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$parameter]
            }
        }
    )+};
}

parameters! {
    /// `order_id` in the path.
    OrderInPath: parameter(
        "order_id", ParameterIn::Path, Required::True, "The order, in any spelling of its UUID.", text(ANY_UUID), ORDER,
    );

    /// `user_id` in the query, where it is needed.
    UserInQuery: parameter(
        "user_id", ParameterIn::Query, Required::True, "The order's owner, in any spelling of the UUID.",
        text(ANY_UUID), USER,
    );

    /// `external_id` in the path.
    ExternalIdInPath: parameter(
        "external_id", ParameterIn::Path, Required::True,
        "The `id` of the payload: a string as it is, a number as its own JSON text. Percent-encoded, it may hold anything.",
        ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)), "A-1",
    );

    /// `If-None-Match` of a read.
    IfNoneMatch: parameter(
        "If-None-Match", ParameterIn::Header, Required::False,
        "`ETag`s of earlier answers. Where one of them still stands, the answer is a 304 without a body.",
        ObjectBuilder::new().schema_type(Type::String), "\"an-earlier-etag\"",
    );

    /// `X-Request-Id`.
    RequestId: parameter(
        "X-Request-Id", ParameterIn::Header, Required::False,
        "An id for this request, of 1 to 128 visible ASCII characters. Without one, or with another text, the service \
         makes one.",
        ObjectBuilder::new().schema_type(Type::String), "checkout-7",
    );
}
