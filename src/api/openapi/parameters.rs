//! The parameters of operations, most of them request headers. Here are the builders and what several operations share;
//! a parameter that one handler reads is declared beside that handler.

use serde_json::Value;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{RefOr, Required};

use super::schema::{ANY_UUID, ORDER, USER, any_text, text, whole};

/// A parameter; one in the path is needed.
pub(in crate::api) fn parameter(
    name: &str,
    place: ParameterIn,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
    example: impl Into<Value>,
) -> Parameter {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(example.into()))
        .build()
}

/// A request header that may be left out.
pub(in crate::api) fn header(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
    example: &str,
) -> Parameter {
    parameter(name, ParameterIn::Header, description, schema, example)
}

/// A parameter in the query that may be left out.
pub(in crate::api) fn query(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
    example: impl Into<Value>,
) -> Parameter {
    parameter(name, ParameterIn::Query, description, schema, example)
}

/// The same parameter, which must be there.
pub(in crate::api) fn needed(mut parameter: Parameter) -> Parameter {
    parameter.required = Required::True;
    parameter
}

/// Declares parameters, one or more as a type that an operation can name.
macro_rules! parameters {
    ($($(#[$doc:meta])* $vis:vis $name:ident: $($parameter:expr),+;)+) => {$(
        $(#[$doc])*
        $vis struct $name;

        impl utoipa::IntoParams for $name {
            fn into_params(
                _: impl Fn() -> Option<utoipa::openapi::path::ParameterIn>,
            ) -> Vec<utoipa::openapi::path::Parameter> {
                vec![$($parameter),+]
            }
        }
    )+};
}
pub(in crate::api) use parameters;

parameters! {
    /// `order_id` in the path.
    pub(in crate::api) OrderInPath: parameter(
        "order_id", ParameterIn::Path, "The order, in any spelling of its UUID.", text(ANY_UUID), ORDER
    );

    /// `user_id` in the query, where it is needed.
    pub(in crate::api) UserInQuery: needed(query(
        "user_id", "The owner, in any spelling of the UUID.", text(ANY_UUID), USER
    ));

    /// `Idempotency-Key`.
    pub(in crate::api) IdempotencyKey: header(
        "Idempotency-Key",
        "Makes it safe to send the request again: 1 to 255 characters of printable ASCII, in quotes or without, for \
         instance a UUID made for this request. The same request is answered with what it did the first time.",
        text(r#"^([!#-~]([ -~]{0,253}[!-~])?|"([ !#-\[\]-~]|\\["\\]){1,255}")$"#),
        "8e03978e-40d5-43dd-bc93-6894a57f9324"
    );

    /// `If-Match`.
    pub(in crate::api) IfMatch: header(
        "If-Match",
        "`ETag`s, one of which is to name the order's version, or `*`. A weak one (`W/`) counts as a strong one. A new \
         order matches nothing.",
        text(r#"^(\*|(W/)?"[ !#-~]*"( *, *(W/)?"[ !#-~]*")*)$"#), "\"v1\""
    );

    /// `If-None-Match` of a read.
    pub(in crate::api) IfNoneMatch: header(
        "If-None-Match",
        "`ETag`s of earlier answers. Where one of them is still current, the response is a 304 without a body.",
        any_text(), "\"v7-new\""
    );

    /// `Prefer`.
    pub(in crate::api) Prefer: header(
        "Prefer",
        "Preferences (RFC 7240). `wait=N`: wait for the worker N seconds at most. `respond-async`: do not wait. \
         `return=representation`: put the order into the answer to a change. Others are ignored.",
        any_text(), "wait=5"
    );

    /// `X-Request-Id`.
    pub(in crate::api) RequestId: header(
        "X-Request-Id",
        "An id for this request, of 1 to 128 visible ASCII characters. Without one, or with another text, the service \
         makes one.",
        any_text(), "checkout-7"
    );
}

/// `limit` in the query.
pub(in crate::api) fn limit() -> Parameter {
    query("limit", "How many entries the page has at most; 50 unless it is given.", whole(1, 200), 50)
}
