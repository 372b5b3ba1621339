//! The parameters of operations, most of them request headers: the builders, and the parameters of several operations.
//! A parameter that only one handler reads is declared in that handler's file. One in the path is required, others are
//! optional unless `required` says otherwise. The builders only describe: a pattern must fit what the handlers accept,
//! and `scripts/schemathesis` sends values of both kinds to a running server.

use serde_json::Value;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{RefOr, Required};

use super::schema::{ANY_UUID, ORDER, USER, any_text, text, whole};

/// A parameter; one in the path is required.
pub(in crate::api) fn parameter(
    name: &str,
    location: ParameterIn,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
    example: impl Into<Value>,
) -> Parameter {
    let required = if location == ParameterIn::Path { Required::True } else { Required::False };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(location)
        .required(required)
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(example.into()))
        .build()
}

/// An optional request header.
pub(in crate::api) fn header(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
    example: &str,
) -> Parameter {
    parameter(name, ParameterIn::Header, description, schema, example)
}

/// An optional parameter in the query.
pub(in crate::api) fn query(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
    example: impl Into<Value>,
) -> Parameter {
    parameter(name, ParameterIn::Query, description, schema, example)
}

/// The same parameter as a required one.
pub(in crate::api) fn required(mut parameter: Parameter) -> Parameter {
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

    /// `user_id` in the query, where it is required.
    pub(in crate::api) UserInQuery: required(query(
        "user_id", "The owner, in any spelling of the UUID.", text(ANY_UUID), USER
    ));

    /// `Idempotency-Key`.
    pub(in crate::api) IdempotencyKey: header(
        "Idempotency-Key",
        "Makes it safe to send the request again: 1 to 255 characters of printable ASCII, with or without quotes, for \
         instance a UUID made for this request. A repetition of the request gets the outcome of the first one.",
        text(r#"^([!#-~]([ -~]{0,253}[!-~])?|"([ !#-\[\]-~]|\\["\\]){1,255}")$"#),
        "8e03978e-40d5-43dd-bc93-6894a57f9324"
    );

    /// `If-Match`.
    pub(in crate::api) IfMatch: header(
        "If-Match",
        "`ETag`s, one of which must name the order's version, or `*`. A weak tag (`W/`) counts as a strong one. A new \
         order matches none.",
        text(r#"^(\*|(W/)?"[ !#-~]*"( *, *(W/)?"[ !#-~]*")*)$"#), "\"v1\""
    );

    /// `If-None-Match` of a read.
    pub(in crate::api) IfNoneMatch: header(
        "If-None-Match",
        "`ETag`s of earlier responses. Where one of them is still current, the response is a 304 without a body.",
        any_text(), "\"v7-new\""
    );

    /// `Prefer`.
    pub(in crate::api) Prefer: header(
        "Prefer",
        "Preferences (RFC 7240). `wait=N`: wait for the worker N seconds at most. `respond-async`: do not wait. \
         `return=representation`: include the order in the response to a change. Others are ignored.",
        any_text(), "wait=5"
    );

    /// `X-Request-Id`.
    pub(in crate::api) RequestId: header(
        "X-Request-Id",
        "An id for this request, of 1 to 128 visible ASCII characters. Where it is missing or another text, the \
         service makes one.",
        any_text(), "checkout-7"
    );
}

/// `limit` in the query.
pub(in crate::api) fn limit() -> Parameter {
    query("limit", "The most entries of the page; 50 by default.", whole(1, 200), 50)
}
