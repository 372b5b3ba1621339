//! `GET /orders`: lists of orders, with the filter of the query, and pages with links to each other. A list always ends
//! with a page without a cursor; a page before it may be short or empty, because the store examines a limited number of
//! orders for each. The body always has the next cursor; links beyond 3 KiB are left out, because proxies such as nginx
//! fail at a larger head. A bound in time is rounded up to microseconds, in which orders are dated. A long page is
//! written on a blocking thread.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use hyper::header::{HeaderValue, LINK};
use hyper::{HeaderMap, StatusCode, Uri};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::order_body::{self, OrderView};
use super::prefer::Preferences;
use super::query::Parameters;
use super::response::{hold, json as json_response};
use crate::api::blocking::write;
use crate::api::caller::Caller;
use crate::api::openapi::parameters::{Prefer, limit, parameters, query};
use crate::api::openapi::problems::problems;
use crate::api::openapi::responses::{applied, header, json as body, responses, saying};
use crate::api::openapi::schema::{ANY_UUID, USER, any_text, statuses, text, time as time_schema};
use crate::api::problem::{INTERNAL, INVALID, MISDIRECTED_REQUEST, OVERLOADED, Problem, STORE_UNAVAILABLE};
use crate::api::problem_body::to_json;
use crate::api::state::ApiState;
use crate::order::{BadListCursor, Filter, Invalid, ListCursor, Status, UserId};
use crate::service::Service;
use crate::service::turns::Turn;

const STATUSES: &str = "one of new, processing, done, failed, cancelled, deleted";
const TIME: &str = "an RFC 3339 time with its offset, such as 2026-01-31T12:00:00Z";

/// A page of orders.
#[derive(Serialize, ToSchema)]
#[schema(as = Orders)]
pub(super) struct ListBody<'a> {
    /// The newest first.
    orders: Vec<OrderView<'a>>,
    /// The cursor of the next page. Absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next_cursor: Option<&'a str>,
}

/// List orders
///
/// A page of the orders that fit the query, the newest first. The store examines a limited number of orders for each
/// page, so a page may be short or empty and still have a `next_cursor`: the list ends with the page that has none.
#[utoipa::path(
    get,
    path = "/orders",
    tag = "orders",
    params(ListQuery, Prefer),
    responses(Listed, ListProblems)
)]
pub(super) async fn list_orders(
    State(api): State<Arc<ApiState>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let query = Parameters::of(&uri);
    let (filter, after, limit) = (filter(query)?, after(query)?, query.limit()?);
    let list = move |service: Arc<Service>| async move { service.list(&filter, after, limit as usize).await };
    let preferences = Preferences::read(&headers);
    let until = preferences.reads_until(&api.service);
    let (guard, page) = api.read(&caller, Turn::Page, until, list).await?;
    let next_cursor = page.next.map(|cursor| cursor.to_string());
    let size = page.orders.iter().map(|order| order.payload.as_str().len()).sum();
    let cursor = next_cursor.clone();
    let body = write(size, move || {
        let orders = page.orders.iter().map(OrderView::of).collect();
        to_json(&ListBody { orders, next_cursor: cursor.as_deref() })
    });
    let mut response = json_response(StatusCode::OK, body.await?);
    hold(&mut response, guard);
    preferences.confirm_read(&mut response, api.service.longest_wait());
    let links = links(query, next_cursor.as_deref()).map(HeaderValue::try_from);
    if let Some(Ok(links)) = links {
        response.headers_mut().insert(LINK, links);
    }
    Ok(response)
}

/// The most bytes of links: proxies such as nginx allow 4 KiB for all headers of a response, and fail beyond.
const LINK_LIMIT: usize = 3 << 10;

/// The links to other pages of the same list (RFC 8288), as far as they fit; the link to the next page takes precedence
/// over the one to the first. The body has the next cursor in any case.
fn links(query: Parameters<'_>, next_cursor: Option<&str>) -> Option<String> {
    let link = |cursor, rel: &str| format!("</orders{}>; rel=\"{rel}\"", query.with_cursor(cursor));
    let (first, next) = (link(None, "first"), next_cursor.map(|cursor| link(Some(cursor), "next")));
    let both = next.as_ref().map(|next| format!("{first}, {next}"));
    let choices = if next.is_some() { [both, next] } else { [Some(first), None] };
    choices.into_iter().flatten().find(|links| links.len() <= LINK_LIMIT)
}

/// The filter of a list.
fn filter(query: Parameters<'_>) -> Result<Filter, Invalid> {
    let user_id = query.parsed("user_id", "the owner's UUID", UserId::parse)?;
    let status = query.parsed("status", STATUSES, Status::parse)?;
    // A payload can hold neither an empty id nor one with a NUL.
    let has_one = |text: &str| (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned());
    let external_id = query.parsed("external_id", "the id in the payload, or leave it out", has_one)?;
    if external_id.is_some() && user_id.is_none() {
        return Err(Invalid::new("external_id", "it belongs to a user; send user_id, too"));
    }
    let created_from = query.parsed("created_after", TIME, time)?;
    let created_before = query.parsed("created_before", TIME, time)?;
    let with_deleted = query.parsed("show_deleted", "true or false", |text| text.parse().ok())?;
    let with_deleted = with_deleted.unwrap_or(false) || status == Some(Status::Deleted);
    Ok(Filter { user_id, status, external_id, created_from, created_before, with_deleted })
}

fn after(query: Parameters<'_>) -> Result<Option<ListCursor>, Invalid> {
    let Some(cursor) = query.text("cursor")? else { return Ok(None) };
    cursor.parse().map(Some).map_err(|error: BadListCursor| Invalid::new("cursor", error.to_string()))
}

/// Reads a time. Orders are dated in microseconds, so a bound between two of them is rounded up to the later one.
fn time(text: &str) -> Option<Timestamp> {
    // The plus of an offset is a space in a query unless it was percent-encoded.
    let text = match text.rsplit_once(' ') {
        Some((time, offset)) if time.len() > "2026-01-31".len() => format!("{time}+{offset}"),
        _ => text.to_owned(),
    };
    // RFC 3339 has years of four digits; the parser accepts more, and some stores accept fewer.
    let has_a_plain_year =
        text.as_bytes().get(4) == Some(&b'-') && text.as_bytes()[..4].iter().all(u8::is_ascii_digit);
    let time: Timestamp = has_a_plain_year.then(|| text.parse().ok())??;
    let micros = time.as_microsecond();
    let later = Timestamp::from_microsecond(micros).ok()? < time;
    Timestamp::from_microsecond(micros + i64::from(later)).ok()
}

parameters! {
    /// The filter and the page of a list.
    ListQuery:
        query("user_id", "Only orders of this user.", text(ANY_UUID), USER),
        query("status", "Only orders with this status.", statuses(), "done"),
        query(
            "external_id", "Only orders with this external id. Needs `user_id`.",
            any_text().min_length(Some(1)), "A-1"
        ),
        query("created_after", "Only orders accepted at this time or later.", time_schema(), "2025-10-09T08:53:20Z"),
        query("created_before", "Only orders accepted before this time.", time_schema(), "2100-01-01T00:00:00Z"),
        query(
            "show_deleted", "Whether deleted orders are listed, too. They always are with `status=deleted`.",
            ObjectBuilder::new().schema_type(Type::Boolean), false
        ),
        limit(),
        query(
            "cursor", "The `next_cursor` of an earlier page, unchanged.", text("^[0-9a-f]{48}$"),
            "00064f8dd1f0a3c00196f1c87b1e7000800000000000002a"
        );
}

responses! {
    /// A page of orders.
    Listed: "200" => saying("A page of orders.")
        .content("application/json", body::<ListBody>(example()))
        .header("Link", header(
            "The first page, and the next one (RFC 8288); absent where it would exceed 3 KiB.",
            any_text(), "</orders>; rel=\"first\""
        ))
        .header("Preference-Applied", applied());
}

problems! {
    /// The problems of listing orders.
    ListProblems: INVALID, MISDIRECTED_REQUEST, INTERNAL, OVERLOADED, STORE_UNAVAILABLE;
}

/// An example for the document.
fn example() -> Value {
    json!({"orders": [order_body::example()], "next_cursor": "00064f8dd1f0a3c00196f1c87b1e7000800000000000002a"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_left_out_where_they_would_be_too_long() {
        let rels = |length: usize, next| {
            let uri: Uri = format!("/orders?external_id={}", "x".repeat(length)).parse().unwrap();
            let links = links(Parameters::of(&uri), next).unwrap_or_default();
            assert!(links.len() <= LINK_LIMIT, "{length}");
            links.split("; rel=").skip(1).map(|rel| rel[1..5].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(rels(1, None), ["firs"]);
        assert_eq!(rels(1, Some("0")), ["firs", "next"]);
        assert_eq!(rels(2_000, Some("0")), ["next"]);
        assert_eq!(rels(2_000, None), ["firs"]);
        assert_eq!(rels(4_000, Some("0")).len() + rels(4_000, None).len(), 0);
    }

    #[test]
    fn a_time_has_an_offset_with_its_plus_encoded_or_not() {
        let noon: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        for text in [
            "2026-01-31T12:00:00Z",
            "2026-01-31T12:00:00.000000Z",
            "2026-01-31T14:00:00+02:00",
            "2026-01-31T14:00:00 02:00",
            "2026-01-31 14:00:00 02:00",
            "2026-01-31 12:00:00Z",
            "2026-01-31T11:59:59.9999991Z",
        ] {
            assert_eq!(time(text), Some(noon), "{text}");
        }
        for text in [
            "",
            "now",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "1769860800",
            "-002026-01-31T12:00:00Z",
            "12026-01-31T12:00:00Z",
            "2026-02-30T12:00:00Z",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
        let before_all: Timestamp = "1969-12-31T23:59:59.999999Z".parse().unwrap();
        assert_eq!(time("1969-12-31T23:59:59.9999981Z"), Some(before_all));
        assert_eq!(time("9999-12-30T22:00:00.9999999Z"), None);
    }
}
