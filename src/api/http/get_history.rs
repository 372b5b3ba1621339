//! `GET /orders/{order_id}/history`: one entry for each accepted command and each event of another service, with its
//! outcome. The store keeps commands and outcomes as separate history events; only this file pairs them. It relies on
//! the order of the events, by version and offset: an outcome belongs to the last entry of its version that has none.
//! Where that entry is on an earlier page or no longer kept, the outcome is an entry of its own, and is never left out.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use hyper::{HeaderMap, StatusCode, Uri};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::history_event_body::{by, causes};
use super::order_body::number;
use super::path::{Segment, order_id_of};
use super::prefer::Preferences;
use super::query::Parameters;
use super::response::json as json_response;
use crate::api::caller::Caller;
use crate::api::openapi::parameters::{OrderInPath, Prefer, limit, parameters, query};
use crate::api::openapi::problems::problems;
use crate::api::openapi::responses::{applied, json as body, responses, saying};
use crate::api::openapi::schema::{ORDER, any_number, statuses, text};
use crate::api::problem::{
    HISTORY_OFF, INTERNAL, INVALID, MISDIRECTED_REQUEST, ORDER_NOT_FOUND, ORDER_UNREADABLE, OVERLOADED,
    Problem, STORE_UNAVAILABLE,
};
use crate::api::problem_body::to_json;
use crate::api::state::ApiState;
use crate::order::{Cause, HistoryCursor, HistoryEvent, Version};
use crate::service::Service;
use crate::service::turns::Turn;

/// A page of an order's history.
#[derive(Serialize, ToSchema)]
#[schema(as = History)]
pub(super) struct HistoryBody<'a> {
    #[schema(format = "uuid")]
    order_id: String,
    /// The oldest first.
    history: Vec<Entry<'a>>,
    /// The cursor of the next page. Absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_cursor: Option<String>,
}

/// A requested change. An event of another service is applied at once: it is its own outcome.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryEntry)]
struct Entry<'a> {
    #[schema(value_type = i64)]
    version: Version,
    // These three are not known where the request's history event has been dropped or is on another page.
    /// When the change was accepted. Absent, like the next two, where only the outcome is still kept, or the request is
    /// on the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    at: Option<Timestamp>,
    /// The cause of the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = causes, required = false)]
    by: Option<&'static str>,
    /// The status of the order after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = statuses, required = false)]
    status: Option<&'static str>,
    /// The outcome; null where the change is not processed yet, or never will be.
    #[schema(required = true)]
    outcome: Option<Outcome<'a>>,
}

/// The outcome that the worker recorded.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryOutcome)]
struct Outcome<'a> {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The status of the order after it.
    #[schema(schema_with = statuses)]
    status: &'static str,
    /// The amount, where the processing set it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any_number, required = false)]
    amount: Option<Box<RawValue>>,
    /// The reason of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'a str>,
}

/// The legal values of a cursor, for messages.
const CURSOR: &str =
    "a next_cursor of an earlier page unchanged, or leave it out to begin with the oldest version";

/// An order's history
///
/// A page of its versions, the oldest first. Where the oldest history events are no longer kept, a page may be short or
/// empty and still have a `next_cursor`: the history ends with the page that has none. A page covers at most 500
/// history events. The next page continues a version that has more; an outcome there may be without its request.
#[utoipa::path(
    get,
    path = "/orders/{order_id}/history",
    operation_id = "order_history",
    tag = "history",
    params(OrderInPath, HistoryQuery, Prefer),
    responses(HistoryPage, HistoryProblems)
)]
pub(super) async fn get_history(
    State(api): State<Arc<ApiState>>,
    Extension(caller): Extension<Caller>,
    order_id: Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (order_id, query) = (order_id_of(order_id)?, Parameters::of(&uri));
    let after: Option<HistoryCursor> = query.parsed("cursor", CURSOR, |text| text.parse().ok())?;
    let (after, limit) = (after.unwrap_or_default(), query.limit()?);
    let read = move |service: Arc<Service>| async move { service.history(order_id, after, limit).await };
    let preferences = Preferences::read(&headers);
    let until = preferences.reads_until(&api.service);
    let (_, page) = api.read(&caller, Turn::Order, until, read).await?;
    let body = HistoryBody {
        order_id: order_id.to_string(),
        history: entries(&page.events),
        next_cursor: page.next.map(|cursor| cursor.to_string()),
    };
    let mut response = json_response(StatusCode::OK, to_json(&body));
    preferences.confirm_read(&mut response, api.service.longest_wait());
    Ok(response)
}

/// Pairs each outcome with its change.
fn entries(events: &[HistoryEvent]) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::with_capacity(events.len());
    for event in events {
        let own = Entry {
            version: event.version,
            at: Some(event.at),
            by: Some(by(event)),
            status: Some(event.status.as_str()),
            outcome: None,
        };
        match event.cause {
            Cause::Command => entries.push(own),
            Cause::Event => entries.push(Entry { outcome: Some(outcome(event)), ..own }),
            Cause::Worker => {
                let is_its =
                    |entry: &&mut Entry<'_>| entry.version == event.version && entry.outcome.is_none();
                match entries.iter_mut().rfind(is_its) {
                    Some(entry) => entry.outcome = Some(outcome(event)),
                    None => {
                        let outcome = Some(outcome(event));
                        entries.push(Entry { at: None, by: None, status: None, outcome, ..own });
                    }
                }
            }
        }
    }
    entries
}

fn outcome(event: &HistoryEvent) -> Outcome<'_> {
    Outcome {
        at: event.at,
        status: event.status.as_str(),
        amount: event.amount.as_ref().map(number),
        reason: event.reason.as_deref(),
    }
}

parameters! {
    /// The page of the history.
    HistoryQuery:
        limit(),
        query(
            "cursor", "The `next_cursor` of an earlier page, unchanged.",
            text(r"^[0-9]{1,18}(\.[0-9]{1,18}-[0-9]{1,18})?$"), "50"
        );
}

responses! {
    /// A page of a history.
    HistoryPage: "200" => saying("A page of the order's history.")
        .content("application/json", body::<HistoryBody>(example()))
        .header("Preference-Applied", applied());
}

problems! {
    /// The problems of reading or following the history of an order.
    pub(super) HistoryProblems: INVALID, ORDER_NOT_FOUND, HISTORY_OFF, MISDIRECTED_REQUEST, INTERNAL, ORDER_UNREADABLE,
        OVERLOADED, STORE_UNAVAILABLE;
}

/// An example for the document.
fn example() -> Value {
    let outcome = json!({"at": "2025-10-09T08:53:20.131072Z", "status": "done", "amount": 19.80});
    let entry = json!({
        "version": 1, "at": "2025-10-09T08:53:20.123456Z", "by": "create", "status": "new", "outcome": outcome,
    });
    json!({"order_id": ORDER, "history": [entry]})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Amount, HistoryOffset, OrderId, Status, UserId};

    fn shown(events: &[(Version, Cause, Status)]) -> String {
        let event = |(version, cause, status): &(Version, Cause, Status)| HistoryEvent {
            offset: HistoryOffset::default(),
            order_id: OrderId::generate(),
            user_id: UserId::from_bytes([1; 16]),
            version: *version,
            at: Timestamp::UNIX_EPOCH,
            cause: *cause,
            status: *status,
            amount: (*cause != Cause::Command).then(|| Amount::parse("1.50").unwrap()),
            reason: None,
        };
        let events: Vec<HistoryEvent> = events.iter().map(event).collect();
        let text = String::from_utf8(to_json(&entries(&events))).unwrap();
        text.replace(r#""at":"1970-01-01T00:00:00Z","#, "")
    }

    #[test]
    fn an_outcome_is_paired_with_its_change() {
        use {Cause::*, Status::*};
        assert_eq!(shown(&[]), "[]");
        assert_eq!(
            shown(&[
                (1, Command, New),
                (1, Event, Cancelled),
                (1, Worker, Cancelled),
                (2, Command, Processing)
            ]),
            r#"[{"version":1,"by":"create","status":"new","outcome":{"status":"cancelled","amount":1.50}},"#
                .to_owned()
                + r#"{"version":1,"by":"event","status":"cancelled","outcome":{"status":"cancelled","amount":1.50}},"#
                + r#"{"version":2,"by":"update","status":"processing","outcome":null}]"#
        );
    }

    #[test]
    fn an_outcome_whose_request_is_no_longer_kept_is_an_entry_of_its_own() {
        use {Cause::*, Status::*};
        assert_eq!(
            shown(&[(3, Worker, Done), (4, Command, Deleted)]),
            r#"[{"version":3,"outcome":{"status":"done","amount":1.50}},"#.to_owned()
                + r#"{"version":4,"by":"delete","status":"deleted","outcome":null}]"#
        );
    }
}
