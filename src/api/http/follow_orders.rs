//! Live streams of changes of orders, as server-sent events. The server keeps no state of a stream: each event has its
//! offset in the history as its id, and a client that sends that id back continues after it, on any process. A stream
//! ends when its client disconnects or the process stops.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use futures_util::{Stream, StreamExt};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Uri};
use utoipa::openapi::ContentBuilder;
use utoipa::openapi::content::Content;
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::event_stream::events;
use super::get_history::HistoryProblems;
use super::path::{Segment, order_id_of};
use super::prefer::Preferences;
use super::query::Parameters;
use super::response::Unmetered;
use crate::api::caller::Caller;
use crate::api::openapi::parameters::{OrderInPath, UserInQuery, header, parameters};
use crate::api::openapi::problems::problems;
use crate::api::openapi::responses::{header as response_header, responses, saying};
use crate::api::openapi::schema::{ORDER, USER, any_text, text};
use crate::api::problem::{
    HISTORY_OFF, INTERNAL, INVALID, MISDIRECTED_REQUEST, OVERLOADED, Problem, STORE_UNAVAILABLE,
};
use crate::api::state::ApiState;
use crate::order::{BadHistoryOffset, HistoryOffset, Invalid, UserId};
use crate::service::Service;
use crate::service::quota::{Limit, Permit, Resource};
use crate::service::turns::Turn;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Tells a proxy not to buffer the stream.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Follow an order
///
/// Server-sent events: the order's newest history event and all later ones, or all after `Last-Event-ID`. The stream
/// does not end by itself.
#[utoipa::path(
    get,
    path = "/orders/{order_id}/events",
    tag = "history",
    params(OrderInPath, LastEventId),
    responses(EventStream, HistoryProblems)
)]
pub(super) async fn follow_order(
    State(api): State<Arc<ApiState>>,
    Extension(caller): Extension<Caller>,
    order_id: Segment,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (order_id, after) = (order_id_of(order_id)?, last_event_id(&headers)?);
    let permit = permit(&caller)?;
    let peer = Arc::clone(&caller.peer);
    let follow = move |service: Arc<Service>| async move { service.follow(order_id, after, peer).await };
    let (_, following) =
        api.read(&caller, Turn::Order, Preferences::read(&headers).reads_until(&api.service), follow).await?;
    Ok(response(events(following, api.draining.clone(), permit)))
}

/// Follow a user's orders
///
/// Server-sent events: all history events of the user's orders from now on, or all after `Last-Event-ID`. The stream
/// does not end by itself.
#[utoipa::path(
    get,
    path = "/events",
    operation_id = "follow_user",
    tag = "history",
    params(UserInQuery, LastEventId),
    responses(EventStream, StreamProblems)
)]
pub(super) async fn follow_user_orders(
    State(api): State<Arc<ApiState>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wanted = "the owner's UUID once, as ?user_id=<uuid>";
    let user_id = Parameters::of(&uri).parsed("user_id", wanted, UserId::parse)?;
    let user_id = user_id.ok_or_else(|| Invalid::new("user_id", format!("send {wanted}")))?;
    let after = last_event_id(&headers)?;
    let permit = permit(&caller)?;
    let peer = Arc::clone(&caller.peer);
    let follow = move |service: Arc<Service>| async move { service.follow_user(user_id, after, peer).await };
    let (_, following) =
        api.read(&caller, Turn::Order, Preferences::read(&headers).reads_until(&api.service), follow).await?;
    Ok(response(events(following, api.draining.clone(), permit)))
}

/// The offset after which a client continues. An empty header counts as absent, as in browsers.
fn last_event_id(headers: &HeaderMap) -> Result<Option<HistoryOffset>, Invalid> {
    let mut given = headers.get_all(LAST_EVENT_ID).iter();
    let Some(id) = given.next().filter(|id| !id.is_empty()) else { return Ok(None) };
    let offset = id.to_str().map_err(|_| BadHistoryOffset).and_then(str::parse);
    match (offset, given.next()) {
        (Ok(offset), None) => Ok(Some(offset)),
        _ => Err(Invalid::new("Last-Event-ID", BadHistoryOffset.to_string())),
    }
}

/// The permit to open a stream.
fn permit(caller: &Caller) -> Result<Permit, Problem> {
    let peer = &caller.peer;
    peer.take(Resource::Streams, 1).map_err(|_| {
        let Limit { total, per_peer } = peer.quotas().limit(Resource::Streams);
        Problem::new(
            OVERLOADED,
            format!(
                "{total} streams may be open, {per_peer} of them from one address, and that limit is reached; try again \
                 after the pause in Retry-After"
            ),
        )
    })
}

fn response(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(events.map(Ok::<_, Infallible>)));
    // A stream holds one page of events at most, and the number of streams has its own limit.
    response.extensions_mut().insert(Unmetered);
    for (name, value) in
        [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store"), (UNBUFFERED, "no")]
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

parameters! {
    /// `Last-Event-ID`.
    LastEventId: header(
        "Last-Event-ID",
        "The `id` of the last event that the client has received, to continue after it. An empty one counts as absent.",
        text("^([0-9]{1,18}-[0-9]{1,18})?$"), "1742-17"
    );
}

responses! {
    /// A stream of history events.
    EventStream: "200" => saying(
        "Server-sent events: `event: order`, with a history event as `data` and its offset as `id`. A comment is sent \
         at once, with the time to wait before reconnecting (`retry`), and every 15 seconds without an event; where no event \
         is sent at once, the first comment has the `id` of the offset where the stream begins. `event: gap`, with a \
         `Gap` as `data`, is sent where history events that the client has not received are no longer kept: first, after \
         `Last-Event-ID`, or later, where the client was too slow; or where the history ends before the client's offset, \
         as after the restore of a backup.",
    )
        .content("text/event-stream", stream())
        .header("Cache-Control", response_header("It is never cached.", any_text(), "no-store"));
}

problems! {
    /// The problems of a stream of a user's orders.
    StreamProblems: INVALID, HISTORY_OFF, MISDIRECTED_REQUEST, INTERNAL, OVERLOADED, STORE_UNAVAILABLE;
}

/// The events of a stream, for the document.
fn stream() -> Content {
    let example = format!(
        ":\nretry: 1742\n\nid: 1742-17\nevent: order\ndata: {{\"order_id\":\"{ORDER}\",\"user_id\":\"{USER}\",\"version\":1,\
         \"status\":\"new\",\"by\":\"create\",\"at\":\"2025-10-09T08:53:20.123456Z\"}}\n\n"
    );
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some("Each `data` is a `HistoryEvent`, or a `Gap`."));
    ContentBuilder::new().schema(Some(schema)).example(Some(example.into())).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_id_is_one_that_a_stream_has_sent() {
        let read = |values: &[&'static str]| {
            let values = values.iter().map(|value| (LAST_EVENT_ID, HeaderValue::from_static(value)));
            last_event_id(&values.collect())
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[""]), Ok(None));
        assert_eq!(read(&["7-9"]), Ok(Some(HistoryOffset(7, 9))));
        for values in [&["7"][..], &["7-9-1"], &["x"], &["7-9", "7-9"]] {
            assert_eq!(read(values).unwrap_err().field, "Last-Event-ID", "{values:?}");
        }
    }
}
