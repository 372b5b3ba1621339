//! The messages that other services receive and send: their fields, in their order, and the effect of a record from
//! outside on an order.

use jiff::Timestamp;
use orderstream::bus::Record;

use crate::clients::STRANGER;
use crate::clients::USER;
use crate::clients::answers::{create, member, members, names, order, time};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;

fn text(record: &Record) -> &str {
    str::from_utf8(&record.value).expect("a record of text")
}

/// A record as a service without our headers sends it.
fn outside(value: String) -> Record {
    Record { key: None, headers: Vec::new(), value: value.into_bytes() }
}

pub(super) async fn events_and_acks_have_their_fields_in_their_order<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":1.50,"id":"A-1"}"#).await;
    for fields in [r#""payload":{"amount":2}"#, r#""status":"deleted""#] {
        let answer = app.client().post("/orders", format!(r#"{{"order_id":"{id}",{fields}}}"#)).await;
        assert_eq!(answer.status, 200);
    }
    let traffic = app.finish().await;
    let (events, acks) = (traffic.events_of(&id), traffic.acks_of(&id));
    for (event, status) in events.iter().zip(["new", "processing", "deleted"]) {
        let event = text(event);
        assert_eq!(names(event), ["order_id", "external_id", "user_id", "payload", "status", "timestamp"]);
        assert_eq!(member(event, "order_id"), id);
        assert_eq!(member(event, "user_id"), USER);
        assert_eq!(member(event, "status"), status);
        time(&member(event, "timestamp"));
    }
    let first = text(&events[0]);
    assert_eq!(member(first, "external_id"), "A-1");
    assert_eq!(member(&member(first, "payload"), "amount"), "1.50");
    assert_eq!(member(text(&events[1]), "external_id"), "", "present, though the payload has none");
    for (ack, status) in acks.iter().zip(["processed", "processed", "updated"]) {
        let ack = text(ack);
        assert_eq!(names(ack), ["order_id", "status", "processed_at"]);
        assert_eq!(member(ack, "order_id"), id);
        assert_eq!(member(ack, "status"), status);
        time(&member(ack, "processed_at"));
    }
    assert_eq!((events.len(), acks.len()), (3, 3));
}

pub(super) async fn an_external_id_in_an_event_is_the_text_of_the_payloads_id<B: Backend>() {
    let app = B::start(Setup::new()).await;
    for (payload, external_id) in [
        (r#"{"id":"a/b \"c\""}"#, r#""a/b \"c\"""#),
        (r#"{"id":1000000}"#, "\"1000000\""),
        (r#"{"id":12345678901234567890}"#, "\"12345678901234567890\""),
        (r#"{"id":true}"#, "\"\""),
        (r#"{"id":{"id":"inner"}}"#, "\"\""),
        ("[]", "\"\""),
    ] {
        let id = create(app.client(), payload).await;
        let event = app.events(&id, 1).await.remove(0);
        assert_eq!(members(text(&event))[1], ("external_id".to_owned(), external_id.to_owned()), "{payload}");
    }
    app.finish().await;
}

pub(super) async fn an_event_without_an_id_creates_one_order_however_often_delivered<B: Backend>() {
    let mut app = B::start(Setup::new()).await;
    for (external_id, order_id) in [("E-1", r#""order_id":"0","#), ("E-2", r#""order_id":"","#), ("E-3", "")]
    {
        let value = format!(
            r#"{{{order_id}"external_id":"","user_id":"{STRANGER}","payload":{{"id":"{external_id}","amount":4}},
                "status":"new","timestamp":"2026-01-02T03:04:05Z","of another service":1}}"#
        );
        app.feed(outside(value), 2).await;
        let path = format!("/orders/by-external/{external_id}?user_id={STRANGER}");
        let found = app.client().get(&path).await;
        assert_eq!(found.status, 200, "{found:?}");
        let shown = member(found.text(), "order");
        assert_eq!((member(&shown, "status").as_str(), member(&shown, "amount").as_str()), ("done", "4"));
        let id = member(&shown, "order_id");
        let acks = app.acks(&id, 2).await;
        assert_eq!(acks.len(), 2, "both deliveries are about this one order");
        assert!(acks.iter().all(|ack| member(text(ack), "status") == "processed"));
        // The order is like any other: a caller can delete it.
        let delete = format!(r#"{{"order_id":"{id}","status":"deleted"}}"#);
        assert_eq!(app.client().post("/orders", delete).await.status, 200);
        assert_eq!(member(&order(app.client(), &id).await, "version"), "2");
    }
    app.finish().await;
}

pub(super) async fn an_event_may_cancel_an_order<B: Backend>() {
    let mut app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":6}"#).await;
    let now = Timestamp::now();
    let value = format!(
        r#"{{"order_id":"{id}","user_id":"{USER}","payload":{{}},"status":"cancelled","timestamp":"{now}"}}"#
    );
    app.feed(outside(value), 2).await;
    let shown = order(app.client(), &id).await;
    assert_eq!((member(&shown, "status").as_str(), member(&shown, "amount").as_str()), ("cancelled", "6"));
    let ack = app.acks(&id, 2).await.pop().expect("an ACK");
    assert_eq!(member(text(&ack), "status"), "updated");
    app.finish().await;
}

pub(super) async fn an_event_of_a_service_without_versions_is_processed<B: Backend>() {
    let mut app = B::start(Setup::new().settings(|settings| settings.ack_wait = false)).await;
    app.stop_worker().await;
    let id = create(app.client(), r#"{"amount":6}"#).await;
    let event = app.events(&id, 1).await.remove(0);
    app.start_worker().await;
    app.feed(Record { headers: Vec::new(), ..event }, 1).await;
    app.acks(&id, 2).await;
    let shown = order(app.client(), &id).await;
    assert_eq!((member(&shown, "status").as_str(), member(&shown, "amount").as_str()), ("done", "6"));
    app.finish().await;
}
