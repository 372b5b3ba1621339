//! The parameters that several operations share, most of them request headers. An operation names the ones that its
//! handler reads.

use serde_json::Value;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Required};

use crate::api::http::order_body::statuses;

/// A text that fits a pattern.
pub(in crate::api) fn text(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))
}

/// Every spelling of a UUID that is read: with or without dashes, braces or `urn:uuid:`, in any case.
pub(in crate::api) const ANY_UUID: &str = "^([0-9A-Fa-f]{32}|([Uu][Rr][Nn]:[Uu][Uu][Ii][Dd]:)?[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-\
    [0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}|\\{[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-\
    [0-9A-Fa-f]{12}\\})$";

/// An order of the examples.
pub(in crate::api) const ORDER: &str = "0196f1c8-7b1e-7000-8000-00000000002a";

/// Its user.
pub(in crate::api) const USER: &str = "7e1a3f6c-55aa-4b11-8f5c-0d8b7c1f2a33";

/// A text without a rule.
fn any_text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A whole number from `least` to `most`.
fn whole(least: i64, most: i64) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most))
}

/// A time of RFC 3339.
fn time() -> ObjectBuilder {
    any_text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
}

fn parameter(
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

fn header(name: &str, description: &str, schema: impl Into<RefOr<Schema>>, example: &str) -> Parameter {
    parameter(name, ParameterIn::Header, description, schema, example)
}

fn query(
    name: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
    example: impl Into<Value>,
) -> Parameter {
    parameter(name, ParameterIn::Query, description, schema, example)
}

fn needed(mut parameter: Parameter) -> Parameter {
    parameter.required = Required::True;
    parameter
}

/// Declares parameters, one or more as a type that an operation can name.
macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident: $($parameter:expr),+;)+) => {$(
        $(#[$doc])*
        pub(in crate::api) struct $name;

        impl IntoParams for $name {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$($parameter),+]
            }
        }
    )+};
}

parameters! {
    /// `order_id` in the path.
    OrderInPath: parameter(
        "order_id", ParameterIn::Path, "The order, in any spelling of its UUID.", text(ANY_UUID), ORDER
    );

    /// `external_id` in the path.
    ExternalIdInPath: parameter(
        "external_id", ParameterIn::Path,
        "The `id` of the payload: a string as it is, a number as its own JSON text. Percent-encoded, it may hold \
         anything.",
        any_text().min_length(Some(1)), "A-1"
    );

    /// `user_id` in the query, where it is needed.
    UserInQuery: needed(query("user_id", "The owner, in any spelling of the UUID.", text(ANY_UUID), USER));

    /// `user_id` in the query of whoever deletes an order.
    OwnerInQuery: query(
        "user_id", "Whoever asks. Where it is given, the order must be theirs.", text(ANY_UUID), USER
    );

    /// What a read waits for.
    MinVersion: query(
        "min_version", "With `Prefer: wait=N`: the version that the worker is to have processed.", whole(0, i64::MAX), 1
    );

    /// Which orders a list is of.
    ListQuery:
        query("user_id", "Those of this user.", text(ANY_UUID), USER),
        query("status", "Those that stand there.", statuses(), "done"),
        query(
            "external_id", "Those with this external id. Together with `user_id` alone.",
            any_text().min_length(Some(1)), "A-1"
        ),
        query("created_after", "Those accepted at that time or later.", time(), "2025-10-09T08:53:20Z"),
        query("created_before", "Those accepted before that time.", time(), "2100-01-01T00:00:00Z"),
        query(
            "show_deleted", "Whether deleted ones are listed, too. With `status=deleted` they are.",
            ObjectBuilder::new().schema_type(Type::Boolean), false
        ),
        limit(),
        query(
            "cursor", "The `next_cursor` of an earlier page, as it was.", text("^[0-9a-f]{48}$"),
            "00064f8dd1f0a3c00196f1c87b1e7000800000000000002a"
        );

    /// Which part of a history is asked for.
    HistoryQuery:
        limit(),
        query(
            "cursor", "The `next_cursor` of an earlier page, as it was.",
            text(r"^[0-9]{1,18}(\.[0-9]{1,18}-[0-9]{1,18})?$"), "50"
        );

    /// `Idempotency-Key`.
    IdempotencyKey: header(
        "Idempotency-Key",
        "Makes it safe to send the request again: 1 to 255 characters of printable ASCII, in quotes or without, for \
         instance a UUID made for this request. The same request is answered with what it did the first time.",
        text(r#"^([!#-~]([ -~]{0,253}[!-~])?|"([ !#-\[\]-~]|\\["\\]){1,255}")$"#), "8e03978e-40d5-43dd-bc93-6894a57f9324"
    );

    /// `If-Match`.
    IfMatch: header(
        "If-Match",
        "`ETag`s, one of which is to name the order's version, or `*`. A weak one (`W/`) counts as a strong one. A new \
         order matches nothing.",
        text(r#"^(\*|(W/)?"[ !#-~]*"( *, *(W/)?"[ !#-~]*")*)$"#), "\"v1\""
    );

    /// `If-None-Match` of a write.
    MustNotExist: header("If-None-Match", "`*`: the order must not exist.", text(r"^\*$"), "*");

    /// `If-None-Match` of a read.
    IfNoneMatch: header(
        "If-None-Match", "`ETag`s of earlier answers. Where one of them still stands, the answer is a 304 without a body.",
        any_text(), "\"v7-new\""
    );

    /// `Prefer`.
    Prefer: header(
        "Prefer",
        "Preferences (RFC 7240). `wait=N`: wait for the worker N seconds at most. `respond-async`: do not wait. \
         `return=representation`: put the order into the answer to a change. Others are passed over.",
        any_text(), "wait=5"
    );

    /// `Last-Event-ID`.
    LastEventId: header(
        "Last-Event-ID", "The `id` of the last event that was seen, to go on from there. An empty one is none.",
        text("^([0-9]{1,18}-[0-9]{1,18})?$"), "1742-17"
    );

    /// `Accept` of whoever asks for bare text.
    Accept: header(
        "Accept", "Bare text where `text/plain` has a higher weight than `application/json`.", any_text(), "text/plain"
    );

    /// `X-Request-Id`.
    RequestId: header(
        "X-Request-Id",
        "An id for this request, of 1 to 128 visible ASCII characters. Without one, or with another text, the service \
         makes one.",
        any_text(), "checkout-7"
    );
}

fn limit() -> Parameter {
    query("limit", "How many entries the page has at most; 50 unless it is given.", whole(1, 200), 50)
}
