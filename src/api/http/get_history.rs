//! The history of an order, one entry for each command that was accepted and each event from outside, with its outcome.

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
    /// Where the next page begins. Absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_cursor: Option<String>,
}

/// A change that was asked for. An event from another service is applied at once: it is its own outcome.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryEntry)]
struct Entry<'a> {
    #[schema(value_type = i64)]
    version: Version,
    // These three are not known where the step of the request has been dropped or is on another page.
    /// When. Absent, like the next two, where only the outcome is still kept, or the request is on the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    at: Option<Timestamp>,
    /// What changed the order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = causes, required = false)]
    by: Option<&'static str>,
    /// The status of the order then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = statuses, required = false)]
    status: Option<&'static str>,
    /// The outcome; null where the change is not processed yet, or will not be.
    #[schema(required = true)]
    outcome: Option<Outcome<'a>>,
}

/// What the worker recorded.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryOutcome)]
struct Outcome<'a> {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The status of the order then.
    #[schema(schema_with = statuses)]
    status: &'static str,
    /// The amount that was set, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = any_number, required = false)]
    amount: Option<Box<RawValue>>,
    /// Why it could not be processed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'a str>,
}

/// The values that a cursor may have.
const CURSOR: &str =
    "a next_cursor of an earlier page as it was, or leave it out to begin with the oldest version";

/// An order's history
///
/// A page of its versions, the oldest first. Where the oldest steps are no longer kept, a page may be short or empty
/// and still have a `next_cursor`: the history ends with the page that has none. A page has at most 500 steps. The next
/// page continues a version that has more; an outcome there may be without its request.
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
    let (_, part) = api.read(&caller, Turn::Order, until, read).await?;
    let body = HistoryBody {
        order_id: order_id.to_string(),
        history: entries(&part.events),
        next_cursor: part.next.map(|cursor| cursor.to_string()),
    };
    let mut response = json_response(StatusCode::OK, to_json(&body));
    preferences.confirm_read(&mut response, api.service.longest_wait());
    Ok(response)
}

/// Puts each outcome beside the change that it is the outcome of.
fn entries(steps: &[HistoryEvent]) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::with_capacity(steps.len());
    for step in steps {
        let own = Entry {
            version: step.version,
            at: Some(step.at),
            by: Some(by(step)),
            status: Some(step.status.as_str()),
            outcome: None,
        };
        match step.cause {
            Cause::Command => entries.push(own),
            Cause::Event => entries.push(Entry { outcome: Some(outcome(step)), ..own }),
            Cause::Worker => {
                let is_its =
                    |entry: &&mut Entry<'_>| entry.version == step.version && entry.outcome.is_none();
                match entries.iter_mut().rfind(is_its) {
                    Some(entry) => entry.outcome = Some(outcome(step)),
                    None => {
                        let outcome = Some(outcome(step));
                        entries.push(Entry { at: None, by: None, status: None, outcome, ..own });
                    }
                }
            }
        }
    }
    entries
}

fn outcome(step: &HistoryEvent) -> Outcome<'_> {
    Outcome {
        at: step.at,
        status: step.status.as_str(),
        amount: step.amount.as_ref().map(number),
        reason: step.reason.as_deref(),
    }
}

parameters! {
    /// Which part of a history is asked for.
    HistoryQuery:
        limit(),
        query(
            "cursor", "The `next_cursor` of an earlier page, as it was.",
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

    fn told(steps: &[(Version, Cause, Status)]) -> String {
        let step = |(version, cause, status): &(Version, Cause, Status)| HistoryEvent {
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
        let steps: Vec<HistoryEvent> = steps.iter().map(step).collect();
        let text = String::from_utf8(to_json(&entries(&steps))).unwrap();
        text.replace(r#""at":"1970-01-01T00:00:00Z","#, "")
    }

    #[test]
    fn an_outcome_stands_with_what_it_is_the_outcome_of() {
        use {Cause::*, Status::*};
        assert_eq!(told(&[]), "[]");
        assert_eq!(
            told(&[
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
    fn an_outcome_whose_request_is_no_longer_kept_stands_alone() {
        use {Cause::*, Status::*};
        assert_eq!(
            told(&[(3, Worker, Done), (4, Command, Deleted)]),
            r#"[{"version":3,"outcome":{"status":"done","amount":1.50}},"#.to_owned()
                + r#"{"version":4,"by":"delete","status":"deleted","outcome":null}]"#
        );
    }
}
