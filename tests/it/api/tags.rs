//! Entity tags of cancelled orders: a cancelled order is represented differently than before, so it has another tag, as
//! after any other change. A cancellation comes from another service, and does not raise the version.

use orderstream::bus::Record;
use orderstream::order::{OrderId, Status};
use orderstream::store::{Completed, Completion, Precondition};

use crate::clients::USER;
use crate::clients::answers::{create, member};
use crate::harness::app::TestApp;

/// The current tag of an order, with its status, for a client that has the `known` tags already.
async fn shown(app: &TestApp, id: &str, known: &[&str]) -> (String, String) {
    let path = format!("/orders/{id}");
    let answer = app.client.request("GET", &path, &[("if-none-match", &known.join(", "))], "").await;
    assert_eq!(answer.status, 200, "the order has changed since {known:?}: {answer:?}");
    let tag = answer.header("etag").expect("a tag").to_owned();
    let again = app.client.request("GET", &path, &[("if-none-match", &tag)], "").await;
    assert_eq!((again.status, again.header("etag")), (304, Some(&*tag)));
    (tag, member(&member(answer.text(), "order"), "status"))
}

async fn a_cancelled_order_has_another_tag(mut app: TestApp) {
    let id = create(&app.client, r#"{"amount":6}"#).await;
    let (done, status) = shown(&app, &id, &["\"v0\""]).await;
    assert_eq!((done.as_str(), status.as_str()), ("\"v1\"", "done"));
    // Another service cancels the order.
    let event = format!(
        r#"{{"order_id":"{id}","user_id":"{USER}","payload":{{"amount":6}},"status":"cancelled","timestamp":"{}"}}"#,
        jiff::Timestamp::now()
    );
    app.bus.feed(Record { key: None, value: event.into_bytes(), headers: Vec::new() }, 1).await;
    let (touched, status) = shown(&app, &id, &[&done]).await;
    assert!(touched.starts_with("\"v1-cancelled."), "{touched}");
    assert_eq!(status, "cancelled");
    // A caller updates the order, and a worker of another program cancels that version instead of finishing it.
    app.stop_worker().await;
    let update = format!(r#"{{"order_id":"{id}","payload":{{"amount":7}}}}"#);
    let without_wait = [("prefer", "respond-async"), ("content-type", "application/json")];
    assert_eq!(app.client.request("POST", "/orders", &without_wait, update).await.status, 202);
    let (pending, _) = shown(&app, &id, &[&done, &touched]).await;
    assert_eq!(pending, "\"v2-processing\"");
    let completion = Completion {
        order_id: OrderId::parse(&id).expect("an id"),
        precondition: Precondition::Version(2),
        status: Status::Cancelled,
        amount: None,
        reason: None,
    };
    assert_eq!(app.store.complete([completion].into()).await, Ok(vec![Completed::Applied]));
    // A caller that got the answer that version 2 was processed has the tag `v2`: this is another representation.
    let (cancelled, status) = shown(&app, &id, &["\"v2\"", &done, &touched, &pending]).await;
    assert_eq!((cancelled.as_str(), status.as_str()), ("\"v2-cancelled\"", "cancelled"));
    app.finish().await;
}

#[tokio::test]
async fn a_done_order_that_is_cancelled_has_another_tag() {
    a_cancelled_order_has_another_tag(TestApp::embedded().start().await).await;
}

#[tokio::test]
async fn a_done_order_on_postgres_that_is_cancelled_has_another_tag() {
    a_cancelled_order_has_another_tag(TestApp::embedded().start_on_postgres().await).await;
}
