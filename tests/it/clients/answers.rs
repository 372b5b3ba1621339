//! Checks for every answer: the shape of a problem and of a time. The members of an object are read as raw text in
//! their order, because a parser of JSON may lose digits and the order.

use std::fmt;

use jiff::Timestamp;
use orderstream::api::problem::TABLE;
use orderstream::order::OrderId;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::clients::http::{Answer, Client};

/// Asserts that an answer is the complete problem of that code, as in the table, and returns its detail.
pub(crate) fn problem(answer: &Answer, code: &str) -> String {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    problem_body(answer, answer.text(), code)
}

/// The same for a problem inside an answer.
pub(crate) fn problem_body(answer: &Answer, text: &str, code: &str) -> String {
    let kind = TABLE.iter().find(|kind| kind.code == code).expect("a code of the table");
    assert_eq!(answer.status, kind.status, "{answer:?}");
    let body: serde_json::Value = serde_json::from_str(text).expect("a problem in JSON");
    assert_eq!(body["type"], format!("/problems/{code}"), "{text}");
    assert_eq!(body["title"], kind.title, "{text}");
    assert_eq!(body["status"], kind.status, "{text}");
    assert_eq!(body["code"], code, "{text}");
    assert_eq!(body["retryable"], kind.retryable, "{text}");
    assert_eq!(body["instance"].as_str(), answer.header("x-request-id"), "{text}");
    assert_eq!(answer.header("retry-after").is_some(), kind.status == 503, "{answer:?}");
    let known =
        ["type", "title", "status", "detail", "instance", "code", "retryable", "order_id", "current_version"];
    let names = members(text).into_iter().map(|(name, _)| name);
    assert_eq!(names.filter(|name| !known.contains(&name.as_str())).count(), 0, "{text}");
    let detail = body["detail"].as_str().expect("a detail").to_owned();
    assert!(!detail.is_empty() && !detail.to_lowercase().contains("sql"), "{text}");
    detail
}

/// An object's members in their order: the name, and the value as it is written.
pub(crate) fn members(text: &str) -> Vec<(String, String)> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, String)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                members.push((name, value.get().to_owned()));
            }
            Ok(members)
        }
    }
    let read = serde_json::Deserializer::from_str(text).deserialize_map(Members);
    read.unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// The names of an object's members, in their order.
pub(crate) fn names(text: &str) -> Vec<String> {
    members(text).into_iter().map(|(name, _)| name).collect()
}

/// A member's value as it is written; a string's without its quotes.
pub(crate) fn member(text: &str, name: &str) -> String {
    let found = members(text).into_iter().find(|(member, _)| member == name);
    let (_, value) = found.unwrap_or_else(|| panic!("no {name} in {text}"));
    serde_json::from_str::<String>(&value).unwrap_or(value)
}

/// The id of the order in an answer.
pub(crate) fn order_id(answer: &Answer) -> OrderId {
    OrderId::parse(&member(answer.text(), "order_id")).expect("an id")
}

/// Asserts that a text is an RFC 3339 time in UTC, and returns it.
pub(crate) fn time(text: &str) -> Timestamp {
    assert!(text.ends_with('Z') && text.contains('T'), "{text}");
    text.parse().unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// The order of that id as the api shows it: the text of the object inside `{"order":...}`.
pub(crate) async fn order(client: &Client, id: &str) -> String {
    let answer = client.get(&format!("/orders/{id}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    assert_eq!(names(answer.text()), ["order"]);
    member(answer.text(), "order")
}

/// Posts a new order of the usual user, and returns its id.
pub(crate) async fn create(client: &Client, payload: &str) -> String {
    let body = format!(r#"{{"user_id":"{}","payload":{payload}}}"#, crate::clients::USER);
    let answer = client.post("/orders", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    member(answer.text(), "order_id")
}
