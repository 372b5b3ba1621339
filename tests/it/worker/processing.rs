//! A processor that hangs, or fails for a reason that passes or does not: other orders go on, the order is tried again,
//! and callers are told what the store has.

use std::sync::Arc;
use std::time::Duration;

use orderstream::bus::Record;
use orderstream::store::{Outbox, Postponed};

use crate::clients::USER;
use crate::clients::answers::{member, order, order_id};
use crate::harness::app::TestApp;
use crate::harness::bus::Traffic;
use crate::harness::processors::{HangsOnce, Moody};
use crate::harness::schema::Schema;
use crate::harness::wait::until;
use crate::store::conformance::{create as create_in, some_user};

fn creation(payload: &str) -> String {
    format!(r#"{{"user_id":"{USER}","payload":{payload}}}"#)
}

/// The statuses of the ACKs of an order.
fn acks(traffic: &Traffic, id: &str) -> Vec<String> {
    let status = |record: &Record| member(str::from_utf8(&record.value).expect("JSON"), "status");
    traffic.acks_of(id).iter().map(status).collect()
}

#[tokio::test]
async fn calls_that_hang_delay_no_other_order_and_end_at_their_limit() {
    let setup = TestApp::embedded().processor(Moody::failing(0)).settings(|settings| {
        settings.processor_timeout = Duration::from_secs(2);
        settings.processor_retry_for = Duration::ZERO;
    });
    let app = setup.start().await;
    let mut hanging = Vec::new();
    // More than the worker has tasks.
    for _ in 0..5 {
        let answer =
            app.client.request("POST", "/orders", &[("Prefer", "respond-async")], creation(r#"{"hang":1}"#));
        hanging.push(order_id(&answer.await).to_string());
    }
    for _ in 0..20 {
        let answer = app.client.post("/orders", creation(r#"{"amount":1}"#)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    for id in &hanging {
        let traffic = app.journal.until(|traffic| !traffic.acks_of(id).is_empty()).await;
        assert_eq!(acks(&traffic, id), ["failed"]);
        assert!(member(&order(&app.client, id).await, "reason").contains("did not answer within 2s"));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_failure_that_passes_is_tried_again_and_delays_no_other_order() {
    let setup = TestApp::embedded().processor(Moody::failing(7));
    let app = setup.start().await;
    let answer = app.client.request(
        "POST",
        "/orders",
        &[("Prefer", "respond-async")],
        creation(r#"{"passing":1,"amount":7}"#),
    );
    let id = order_id(&answer.await).to_string();
    assert_eq!(app.client.post("/orders", creation(r#"{"amount":1}"#)).await.status, 201);
    assert_eq!(member(&order(&app.client, &id).await, "status"), "new");
    app.journal.until(|traffic| !traffic.acks_of(&id).is_empty()).await;
    let done = order(&app.client, &id).await;
    assert_eq!((member(&done, "status").as_str(), member(&done, "amount").as_str()), ("done", "7"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tens_of_thousands_of_orders_that_fail_for_a_passing_reason_delay_no_other_order() {
    let batch = format!(r#"{{"orders":[{}]}}"#, vec![creation(r#"{"passing":1}"#); 1000].join(","));
    others_go_on_beside(20, "/orders:batch", &batch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_orders_that_fail_for_a_passing_reason_delay_no_other_order() {
    // Together more than the relay holds in memory.
    let large = creation(&format!(r#"{{"passing":1,"text":"{}"}}"#, "x".repeat(900_000)));
    others_go_on_beside(40, "/orders", &large).await;
}

/// Posts that body so many times, with orders that fail for a passing reason, and waits for other orders to be done,
/// with each store; then the reason passes.
async fn others_go_on_beside(times: usize, path: &str, body: &str) {
    for is_embedded in [true, false] {
        let processor = Moody::failing(usize::MAX);
        let setup = TestApp::embedded().processor(Arc::<Moody>::clone(&processor));
        let app = if is_embedded { setup.start().await } else { setup.start_on_postgres().await };
        let count = body.matches("user_id").count();
        for _ in 0..times {
            let hurry = [("Prefer", "respond-async"), ("content-type", "application/json")];
            let answer = app.client.request("POST", path, &hurry, body.to_owned()).await;
            assert_eq!(answer.text().matches(r#""status":"accepted""#).count(), count, "{answer:?}");
        }
        for _ in 0..20 {
            let id = order_id(&app.client.post("/orders", creation(r#"{"amount":1}"#)).await).to_string();
            until("an order", async || {
                (member(&order(&app.client, &id).await, "status") == "done").then_some(())
            })
            .await;
        }
        processor.recover();
        app.idle().await;
        app.finish().await;
    }
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_made_again() {
    let processor = Arc::new(HangsOnce::default());
    let setup = TestApp::embedded().processor(Arc::<HangsOnce>::clone(&processor));
    let app = setup.settings(|settings| settings.processor_timeout = Duration::from_millis(50)).start().await;
    let answer = app.client.post("/orders", creation(r#"{"amount":7}"#)).await;
    let id = order_id(&answer).to_string();
    let traffic = app.journal.until(|traffic| !traffic.acks_of(&id).is_empty()).await;
    assert_eq!(acks(&traffic, &id), ["processed"]);
    let done = order(&app.client, &id).await;
    assert_eq!((member(&done, "status").as_str(), member(&done, "amount").as_str()), ("done", "7"));
    assert_eq!(processor.calls(), 2);
    app.finish().await;
}

#[tokio::test]
async fn an_event_that_comes_late_is_tried_again_all_the_same() {
    let app = TestApp::embedded().processor(Moody::failing(1)).start().await;
    // Much older than an order is tried again for.
    let value = format!(
        r#"{{"order_id":"0","user_id":"{USER}","payload":{{"id":"late","passing":1,"amount":4}},"status":"new",
            "timestamp":"2020-01-02T03:04:05Z"}}"#
    );
    app.bus.feed(Record { key: None, headers: Vec::new(), value: value.into_bytes() }, 1).await;
    let found = app.client.get(&format!("/orders/by-external/late?user_id={USER}")).await;
    let shown = member(found.text(), "order");
    assert_eq!((member(&shown, "status").as_str(), member(&shown, "amount").as_str()), ("done", "4"));
    app.finish().await;
}

#[tokio::test]
async fn an_order_that_is_tried_again_does_not_hold_the_stop_of_its_worker_up() {
    let processor = Moody::failing(usize::MAX);
    let mut app = TestApp::embedded().processor(Arc::<Moody>::clone(&processor)).start().await;
    let hurry = [("Prefer", "respond-async")];
    let answer = app.client.request("POST", "/orders", &hurry, creation(r#"{"passing":1}"#)).await;
    let id = order_id(&answer).to_string();
    app.journal.until(|traffic| !traffic.events_of(&id).is_empty()).await;
    app.stop_worker().await;
    assert_eq!(member(&order(&app.client, &id).await, "status"), "new");
    processor.recover();
    app.start_worker();
    app.idle().await;
    app.finish().await;
}

#[tokio::test]
async fn a_delivery_after_a_recorded_failure_is_acked_as_failed() {
    let app = TestApp::embedded().processor(Moody::failing(1)).start().await;
    let answer = app.client.post("/orders", creation(r#"{"once":1,"amount":7}"#)).await;
    let id = order_id(&answer).to_string();
    let traffic = app.journal.until(|traffic| !traffic.acks_of(&id).is_empty()).await;
    assert_eq!(acks(&traffic, &id), ["failed"]);
    // The processor would succeed now.
    app.bus.feed(traffic.events_of(&id).remove(0), 2).await;
    let traffic = app.journal.until(|traffic| traffic.acks_of(&id).len() == 3).await;
    assert_eq!(acks(&traffic, &id), ["failed", "failed", "failed"]);
    assert_eq!(member(&order(&app.client, &id).await, "status"), "failed");
    app.finish().await;
}

#[tokio::test]
async fn an_order_that_is_postponed_is_found_when_it_is_due_and_not_before() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    let id = create_in(&store, some_user(), "{}").await;
    store.published(&[(id, 1)]).await.unwrap();
    let postponed = Postponed { order_id: id, version: 1, by: Duration::from_secs(60) };
    store.postpone(&[postponed]).await.unwrap();
    // The mark of an earlier publish comes late.
    store.published(&[(id, 1)]).await.unwrap();
    let pending = async || store.pending(jiff::Timestamp::MAX, None, 10).await.unwrap().events.len();
    assert_eq!(pending().await, 0);
    // Also when it is due, until a process claims it.
    schema.execute("UPDATE orders_outbox SET claimed_until = now(), created_at = now()").await;
    store.published(&[(id, 1)]).await.unwrap();
    until("the order", async || (pending().await == 1).then_some(())).await;
    assert_eq!(store.claim(&[(id, 1)]).await.unwrap(), [true]);
    store.published(&[(id, 1)]).await.unwrap();
    assert_eq!(schema.connect().await.query("SELECT 1 FROM orders_outbox", &[]).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_claim_of_a_clock_that_was_ahead_keeps_no_process_away() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    let id = create_in(&store, some_user(), "{}").await;
    schema.execute("UPDATE orders_outbox SET claimed_until = now() + interval '1 hour'").await;
    assert_eq!(store.pending(jiff::Timestamp::MAX, None, 10).await.unwrap().events.len(), 1);
    assert_eq!(store.claim(&[(id, 1)]).await.unwrap(), [true]);
}

#[tokio::test]
async fn an_order_that_fails_for_longer_than_it_is_tried_fails_also_where_the_outbox_kept_it() {
    let setup = TestApp::embedded().processor(Moody::failing(usize::MAX));
    let app = setup
        .settings(|settings| settings.processor_retry_for = Duration::from_secs(16))
        .start_on_postgres()
        .await;
    let hurry = [("Prefer", "respond-async")];
    let answer = app.client.request("POST", "/orders", &hurry, creation(r#"{"passing":1}"#));
    let id = order_id(&answer.await).to_string();
    let postponed = "SELECT order_id::text FROM orders_outbox WHERE claimed_until = created_at";
    until("the outbox to keep it", async || app.query(postponed).await).await;
    let traffic = app.journal.until(|traffic| !traffic.acks_of(&id).is_empty()).await;
    assert_eq!(acks(&traffic, &id), ["failed"]);
    assert!(
        member(&order(&app.client, &id).await, "reason").contains("it is away (it was tried again until 16s")
    );
    app.finish().await;
}
