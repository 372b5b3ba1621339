//! The answers in the OpenAPI document that are no problems, with their headers and an example of each.

use std::collections::BTreeMap;

use serde_json::{Value, json as value};
use utoipa::openapi::content::Content;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{ContentBuilder, RefOr};
use utoipa::{IntoResponses, ToSchema};

use super::parameters::{ORDER, USER, text};
use super::problems::reference;
use crate::api::health::{HealthBody, ReadyBody};
use crate::api::problem::Kind;
use crate::api::view::{OrderBody, SubmittedBody};

/// Declares answers, each set as a type that an operation can name.
macro_rules! responses {
    ($($(#[$doc:meta])* $name:ident: $($status:literal => $response:expr),+;)+) => {$(
        $(#[$doc])*
        pub(in crate::api) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$(($status.to_owned(), RefOr::T($response.build()))),+].into()
            }
        }
    )+};
}

responses! {
    /// A command that was accepted.
    Submitted:
        "200" => saying("The order was updated, or deleted.")
            .content("application/json", json::<SubmittedBody>(submitted("updated"))),
        "201" => saying("The order was created.")
            .content("application/json", json::<SubmittedBody>(submitted("created")))
            .header("Location", location()),
        "202" => saying(
            "The order is stored and will be processed; the worker was not done within the time that the caller waits.",
        )
            .content("application/json", json::<SubmittedBody>(submitted("accepted")))
            .header("Location", location())
            .header("Retry-After", retry_after());

    /// An order.
    Found: "200" => saying("The order.").content("application/json", json::<OrderBody>(order()));

    /// The process answers.
    Live: "200" => saying("The process answers.").content("application/json", json::<HealthBody>(value!({"status": "ok"})));

    /// The process answers, in one of two forms.
    Health: "200" => saying("The process answers.")
        .content("application/json", json::<HealthBody>(value!({"status": "ok"})))
        .content("text/plain", plain("ok"));

    /// Whether orders are taken.
    Ready:
        "200" => saying("Orders are taken. `degraded`: something is away that only makes it slower.")
            .content("application/json", json::<ReadyBody>(value!({"status": "ready", "store": "ok", "bus": "ok"}))),
        "503" => saying("No orders are taken: the store is away, or the process is about to stop.").content(
            "application/json",
            json::<ReadyBody>(value!({"status": "not ready", "store": "not available", "bus": "ok"})),
        );

    /// A kind of problem.
    ProblemPage: "200" => saying("The kind of problem.").content("application/json", json::<Kind>(kind()));

    /// A document.
    Document: "200" => served("The document.").content("application/json", any()), "304" => known();

    /// The page.
    Page: "200" => served("The page.").content("text/html", plain("<!doctype html>")), "304" => known();

    /// A file of the page.
    File:
        "200" => served("The file.")
            .header("Content-Encoding", header("`gzip`, where the file is large.", text("^gzip$"), "gzip"))
            .content("text/css", plain("body { margin: 0; }"))
            .content("text/javascript", plain("SwaggerUIBundle({});"))
            .content("image/png", ContentBuilder::new().build()),
        "304" => known();
}

fn saying(description: &str) -> ResponseBuilder {
    ResponseBuilder::new().description(description)
}

/// A JSON body of that type, with an example.
pub(super) fn json<T: ToSchema>(example: Value) -> Content {
    ContentBuilder::new().schema(Some(reference::<T>())).example(Some(example)).build()
}

fn plain(example: &str) -> Content {
    let schema = ObjectBuilder::new().schema_type(Type::String);
    ContentBuilder::new().schema(Some(schema)).example(Some(example.into())).build()
}

/// Any JSON object.
fn any() -> Content {
    let schema = ObjectBuilder::new().schema_type(Type::Object);
    ContentBuilder::new()
        .schema(Some(schema))
        .example(Some(value!({"info": {"title": "OrderStream"}})))
        .build()
}

fn submitted(status: &str) -> Value {
    value!({"order_id": ORDER, "status": status})
}

fn order() -> Value {
    value!({"order": {
        "order_id": ORDER,
        "user_id": USER,
        "amount": 19.80,
        "status": "done",
        "payload": {"id": "A-1", "items": [{"price": 9.90, "qty": 2}]},
        "created_at": "2025-10-09T08:53:20.123456Z",
        "updated_at": "2025-10-09T08:53:20.131072Z",
        "bucket": 2,
        "version": 1,
    }})
}

fn kind() -> Value {
    serde_json::to_value(crate::api::problem::ORDER_NOT_FOUND).unwrap_or_default()
}

/// What the edge says of itself: the content that a browser may keep.
fn served(description: &str) -> ResponseBuilder {
    saying(description).header("ETag", etag()).header("Cache-Control", cache_control("no-cache")).header(
        "Content-Security-Policy",
        header(
            "What the content may do in a browser.",
            ObjectBuilder::new().schema_type(Type::String),
            "default-src 'none'",
        ),
    )
}

fn known() -> ResponseBuilder {
    saying("`If-None-Match` names the content as it is.").header("ETag", etag())
}

fn header(description: &str, schema: impl Into<RefOr<Schema>>, example: impl Into<Value>) -> Header {
    HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(example.into()))
        .build()
}

pub(super) fn request_id() -> Header {
    header("The id of this request, under which the log knows it.", text("^[!-~]{1,128}$"), "checkout-7")
}

pub(super) fn retry_after() -> Header {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    header("How many seconds to wait before the next try.", seconds, 1)
}

fn location() -> Header {
    let reference = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("uri-reference".to_owned())));
    header("Where the order is.", reference, format!("/orders/{ORDER}"))
}

fn etag() -> Header {
    header("Which content this is.", text("^\"[^\"]*\"$"), "\"6e4f0a3e5d0c5a0f9d3a1b2c3d4e5f60\"")
}

fn cache_control(example: &str) -> Header {
    header(
        "It may be kept, and is to be asked about each time.",
        ObjectBuilder::new().schema_type(Type::String),
        example,
    )
}
