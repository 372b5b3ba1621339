//! The responses of operations that are not problems: the builders of their bodies and headers, with which a handler
//! declares its own responses. Each body and header has an example, and a header has the same words wherever it is
//! sent. The builders only describe: the handler that sends a header must keep to its pattern. Nothing here may import
//! a handler.

use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::content::Content;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{ContentBuilder, RefOr};

use super::schema::{ORDER, any_text, reference, text};

/// Declares responses, each set as a type that an operation can name.
macro_rules! responses {
    ($($(#[$doc:meta])* $vis:vis $name:ident: $($status:literal => $response:expr),+;)+) => {$(
        $(#[$doc])*
        $vis struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::response::Response>,
            > {
                [$(($status.to_owned(), utoipa::openapi::RefOr::T($response.build()))),+].into()
            }
        }
    )+};
}
pub(in crate::api) use responses;

/// A response with that description.
pub(in crate::api) fn saying(description: &str) -> ResponseBuilder {
    ResponseBuilder::new().description(description)
}

/// A JSON body of that type, with an example.
pub(in crate::api) fn json<T: ToSchema>(example: Value) -> Content {
    ContentBuilder::new().schema(Some(reference::<T>())).example(Some(example)).build()
}

/// A text, with an example.
pub(in crate::api) fn plain(example: &str) -> Content {
    let schema = ObjectBuilder::new().schema_type(Type::String);
    ContentBuilder::new().schema(Some(schema)).example(Some(example.into())).build()
}

/// `Preference-Applied`.
pub(in crate::api) fn applied() -> Header {
    header("The preferences that were applied; absent where there were none.", any_text(), "wait=5")
}

/// A header, with an example.
pub(in crate::api) fn header(
    description: &str,
    schema: impl Into<RefOr<Schema>>,
    example: impl Into<Value>,
) -> Header {
    HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(example.into()))
        .build()
}

/// `X-Request-Id`.
pub(in crate::api) fn request_id() -> Header {
    header("The id of this request, which is also in the log.", text("^[!-~]{1,128}$"), "checkout-7")
}

/// `X-Content-Type-Options`.
pub(in crate::api) fn no_sniff() -> Header {
    header("The body has the type in `Content-Type`.", text("^nosniff$"), "nosniff")
}

/// `Retry-After`.
pub(in crate::api) fn retry_after() -> Header {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    header("The seconds to wait before the next try.", seconds, 1)
}

/// `Vary`.
pub(in crate::api) fn vary() -> Header {
    header("The request headers on which the form of the response depends.", any_text(), "Accept")
}

/// `Accept-Encoding`.
pub(in crate::api) fn accept_encoding() -> Header {
    header("The supported encoding of a request's body.", text("^identity$"), "identity")
}

/// `Location`.
pub(in crate::api) fn location() -> Header {
    let reference = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("uri-reference".to_owned())));
    header("The address of the order.", reference, format!("/orders/{ORDER}"))
}

/// `ETag`.
pub(in crate::api) fn etag(example: &str) -> Header {
    header("The tag of this content, for conditional requests.", text("^\"[^\"]*\"$"), example)
}

/// `Cache-Control`.
pub(in crate::api) fn cache_control(example: &str) -> Header {
    header(
        "The response may be cached, and must be revalidated each time.",
        ObjectBuilder::new().schema_type(Type::String),
        example,
    )
}

/// The response to a caller that already has the content.
pub(in crate::api) fn known() -> ResponseBuilder {
    saying("Not modified: `If-None-Match` names the current content.").header("ETag", etag("\"v1\""))
}
