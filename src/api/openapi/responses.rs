//! The answers in the OpenAPI document that are no problems, with their headers and an example of each.

use std::collections::BTreeMap;

use serde_json::{Value, json as value};
use utoipa::openapi::content::Content;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{ContentBuilder, RefOr};
use utoipa::{IntoResponses, ToSchema};

use crate::api::http::follow_orders::GapBody;
use crate::api::http::get_history::{HistoryBody, StepBody};
use crate::api::http::health::{HealthBody, ReadyBody};
use crate::api::http::list_orders::ListBody;
use crate::api::http::order_body::{OrderBody, SubmittedBody};
use crate::api::http::submit_batch::BatchBody;
use crate::api::openapi::parameters::{ORDER, USER, text};
use crate::api::openapi::problems::{problem, reference};
use crate::api::problem::{DeletedBody, Kind, ORDER_NOT_FOUND, ProblemBody};
use crate::error::Error;

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
        "200" => changed("The order was updated, or deleted.", "updated"),
        "201" => changed("The order was created.", "created").header("Location", location()),
        "202" => pending();

    /// A change of an order that exists.
    Changed: "200" => changed("The order is deleted.", "deleted"), "202" => pending();

    /// An order that has the content that was sent.
    Put:
        "200" => put("The order was updated.", "updated"),
        "201" => put("The order was created.", "created").header("Location", location()),
        "202" => put(PENDING, "accepted").header("Location", location()).header("Retry-After", retry_after());

    /// What became of many commands.
    Batch: "207" => saying("What became of each item, in their order.")
        .content("application/json", json::<BatchBody>(batch()))
        .header("Preference-Applied", applied());

    /// An order.
    Found:
        "200" => found().header("Preference-Applied", applied()),
        "304" => known().header("Preference-Applied", applied());

    /// A page of orders.
    Listed: "200" => saying("A page of orders.")
        .content("application/json", json::<ListBody>(list()))
        .header("Link", header("The first page, and the next one (RFC 8288); absent where it would be over 3 KiB.", any_text(), "</orders>; rel=\"first\""))
        .header("Preference-Applied", applied());

    /// A page of a history.
    Told: "200" => saying("A page of the order's history.")
        .content("application/json", json::<HistoryBody>(history()))
        .header("Preference-Applied", applied());

    /// A stream of steps.
    Stream: "200" => saying(
        "Server-sent events: `event: order`, with the step as `data` and its place as `id`. A comment comes at once, with \
         the time to wait before coming back (`retry`), and every 15 seconds while nothing happens; where no event comes \
         at once, the first comment goes with the `id` of the place where the stream begins. `event: gap`, with a `Gap` \
         as `data`, comes where steps are no longer kept that the client has not had: first, behind `Last-Event-ID`, or \
         later, where it was too slow; or where the history has not come to the client's place, as after a backup was \
         restored.",
    )
        .content("text/event-stream", stream())
        .header("Cache-Control", header("It is never kept.", any_text(), "no-store"));

    /// The process answers.
    Live: "200" => saying("The process answers.").content("application/json", json::<HealthBody>(value!({"status": "ok"})));

    /// The process answers, in one of two forms.
    Health: "200" => saying("The process answers.")
        .content("application/json", json::<HealthBody>(value!({"status": "ok"})))
        .content("text/plain", plain("ok"))
        .header("Vary", vary());

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
pub(in crate::api) fn json<T: ToSchema>(example: Value) -> Content {
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
    value!({
        "order_id": ORDER,
        "user_id": USER,
        "amount": 19.80,
        "status": "done",
        "payload": {"id": "A-1", "items": [{"price": 9.90, "qty": 2}]},
        "created_at": "2025-10-09T08:53:20.123456Z",
        "updated_at": "2025-10-09T08:53:20.131072Z",
        "bucket": 2,
        "version": 1,
    })
}

fn list() -> Value {
    value!({"orders": [order()], "next_cursor": "00064f8dd1f0a3c00196f1c87b1e7000800000000000002a"})
}

fn history() -> Value {
    let outcome = value!({"at": "2025-10-09T08:53:20.131072Z", "status": "done", "amount": 19.80});
    let entry = value!({
        "version": 1, "at": "2025-10-09T08:53:20.123456Z", "by": "create", "status": "new", "outcome": outcome,
    });
    value!({"order_id": ORDER, "history": [entry]})
}

fn batch() -> Value {
    let created = value!({"status": 201, "version": 1, "body": submitted("created")});
    let refused = value!({"status": 404, "body": problem(Error::NotFound { order_id: None })});
    value!({"results": [created, refused]})
}

/// Events as they come, one step in each.
fn stream() -> Content {
    let example = format!(
        ":\nretry: 1742\n\nid: 1742-17\nevent: order\ndata: {{\"order_id\":\"{ORDER}\",\"user_id\":\"{USER}\",\"version\":1,\
         \"status\":\"new\",\"by\":\"create\",\"at\":\"2025-10-09T08:53:20.123456Z\"}}\n\n"
    );
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("Each `data` is a `Step`, or a `Gap`."));
    ContentBuilder::new().schema(Some(schema)).example(Some(example.into())).build()
}

const PENDING: &str = "The order is stored and will be processed; the worker was not done within the time that the caller waits.";

/// An answer to a change.
fn changed(description: &str, status: &str) -> ResponseBuilder {
    put(description, status).header("ETag", etag("\"v1\"")).header(
        "Idempotency-Replayed",
        header("`true` where the request was accepted before, under the same key.", text("^true$"), "true"),
    )
}

fn pending() -> ResponseBuilder {
    changed(PENDING, "accepted").header("Location", location()).header("Retry-After", retry_after())
}

/// An answer to a change that has no key, and no tag: what is stored is not what was sent.
fn put(description: &str, status: &str) -> ResponseBuilder {
    saying(description)
        .content("application/json", json::<SubmittedBody>(submitted(status)))
        .header("Preference-Applied", applied())
}

fn found() -> ResponseBuilder {
    saying("The order.")
        .content("application/json", json::<OrderBody>(value!({"order": order()})))
        .header("ETag", etag("\"v1\""))
        .header("Cache-Control", cache_control("private, no-cache"))
        .header(
            "Last-Modified",
            header("When the order was last changed.", any_text(), "Thu, 09 Oct 2025 08:53:20 GMT"),
        )
}

fn applied() -> Header {
    header("The preferences that were honoured, where there were any.", any_text(), "wait=5")
}

fn any_text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn kind() -> Value {
    serde_json::to_value(ORDER_NOT_FOUND).unwrap_or_default()
}

/// What the edge says of itself: the content that a browser may keep.
fn served(description: &str) -> ResponseBuilder {
    saying(description)
        .header("ETag", etag("\"6e4f0a3e5d0c5a0f9d3a1b2c3d4e5f60\""))
        .header("Cache-Control", cache_control("no-cache"))
        .header(
            "Content-Security-Policy",
            header(
                "What the content may do in a browser.",
                ObjectBuilder::new().schema_type(Type::String),
                "default-src 'none'",
            ),
        )
}

fn known() -> ResponseBuilder {
    saying("The caller has it already, as `If-None-Match` says.").header("ETag", etag("\"v1\""))
}

fn header(description: &str, schema: impl Into<RefOr<Schema>>, example: impl Into<Value>) -> Header {
    HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(example.into()))
        .build()
}

pub(in crate::api) fn request_id() -> Header {
    header("The id of this request, under which the log knows it.", text("^[!-~]{1,128}$"), "checkout-7")
}

pub(in crate::api) fn no_sniff() -> Header {
    header("The body is what `Content-Type` says.", text("^nosniff$"), "nosniff")
}

pub(in crate::api) fn retry_after() -> Header {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    header("How many seconds to wait before the next try.", seconds, 1)
}

pub(in crate::api) fn vary() -> Header {
    header("The request headers that the form of the answer depends on.", any_text(), "Accept")
}

pub(in crate::api) fn accept_encoding() -> Header {
    header("The encoding that a request's body may have.", text("^identity$"), "identity")
}

fn location() -> Header {
    let reference = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("uri-reference".to_owned())));
    header("Where the order is.", reference, format!("/orders/{ORDER}"))
}

fn etag(example: &str) -> Header {
    header("Which content this is.", text("^\"[^\"]*\"$"), example)
}

fn cache_control(example: &str) -> Header {
    header(
        "It may be kept, and is to be asked about each time.",
        ObjectBuilder::new().schema_type(Type::String),
        example,
    )
}

/// The schemas that answers refer to, and the step of a stream.
pub(in crate::api) fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    fn add<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into(), T::schema()));
        T::schemas(schemas);
    }
    add::<SubmittedBody>(schemas);
    add::<BatchBody>(schemas);
    add::<OrderBody>(schemas);
    add::<ListBody>(schemas);
    add::<HistoryBody>(schemas);
    add::<StepBody>(schemas);
    add::<GapBody>(schemas);
    add::<HealthBody>(schemas);
    add::<ReadyBody>(schemas);
    add::<Kind>(schemas);
    add::<ProblemBody>(schemas);
    add::<DeletedBody>(schemas);
}
