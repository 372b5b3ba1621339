//! A processor that hangs, or fails temporarily or permanently: the worker continues with other orders, retries the
//! order, and callers get the state in the store.

use std::sync::Arc;
use std::time::Duration;

use orderstream::bus::Record;
use orderstream::store::{Outbox, Postponed};

use crate::clients::USER;
use crate::clients::answers::{member, order, order_id};
use crate::harness::app::TestApp;
use crate::harness::bus::Traffic;
use crate::harness::processors::{FlakyProcessor, HangsOnce};
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
    let setup = TestApp::embedded().processor(FlakyProcessor::failing(0)).settings(|settings| {
        settings.processor_timeout = Duration::from_secs(2);
        settings.processor_retry_for = Duration::ZERO;
    });
    let app = setup.start().await;
    let mut hanging = Vec::new();
    // More orders than the worker has tasks.
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
async fn a_temporary_failure_is_retried_and_delays_no_other_order() {
    let setup = TestApp::embedded().processor(FlakyProcessor::failing(7));
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
async fn many_orders_that_fail_temporarily_delay_no_other_order() {
    let batch = format!(r#"{{"orders":[{}]}}"#, vec![creation(r#"{"passing":1}"#); 1000].join(","));
    assert_others_are_processed_beside(20, "/orders:batch", &batch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_orders_that_fail_temporarily_delay_no_other_order() {
    // Together they are larger than the memory of the relay.
    let large = creation(&format!(r#"{{"passing":1,"text":"{}"}}"#, "x".repeat(900_000)));
    assert_others_are_processed_beside(40, "/orders", &large).await;
}

/// Posts that body `times` times, with orders that fail temporarily, and waits for other orders to be done, with each
/// store; then the processor recovers.
async fn assert_others_are_processed_beside(times: usize, path: &str, body: &str) {
    for is_embedded in [true, false] {
        let processor = FlakyProcessor::failing(usize::MAX);
        let setup = TestApp::embedded().processor(Arc::<FlakyProcessor>::clone(&processor));
        let app = if is_embedded { setup.start().await } else { setup.start_on_postgres().await };
        let count = body.matches("user_id").count();
        for _ in 0..times {
            let without_wait = [("Prefer", "respond-async"), ("content-type", "application/json")];
            let answer = app.client.request("POST", path, &without_wait, body.to_owned()).await;
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
async fn a_call_that_takes_too_long_is_retried() {
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
async fn a_late_event_is_retried_like_any_other() {
    let app = TestApp::embedded().processor(FlakyProcessor::failing(1)).start().await;
    // Much older than the time for which an order is retried.
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
async fn a_retried_order_does_not_delay_the_stop_of_its_worker() {
    let processor = FlakyProcessor::failing(usize::MAX);
    let mut app = TestApp::embedded().processor(Arc::<FlakyProcessor>::clone(&processor)).start().await;
    let without_wait = [("Prefer", "respond-async")];
    let answer = app.client.request("POST", "/orders", &without_wait, creation(r#"{"passing":1}"#)).await;
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
    let app = TestApp::embedded().processor(FlakyProcessor::failing(1)).start().await;
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
async fn a_postponed_order_is_found_only_when_it_is_due() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    let id = create_in(&store, some_user(), "{}").await;
    store.published(&[(id, 1)]).await.unwrap();
    let postponed = Postponed { order_id: id, version: 1, by: Duration::from_secs(60) };
    store.postpone(&[postponed]).await.unwrap();
    // The late mark of an earlier publish.
    store.published(&[(id, 1)]).await.unwrap();
    let pending = async || store.pending(jiff::Timestamp::MAX, None, 10).await.unwrap().events.len();
    assert_eq!(pending().await, 0);
    // A late mark also leaves an order that is due, until a process claims it.
    schema.execute("UPDATE orders_outbox SET claimed_until = now(), created_at = now()").await;
    store.published(&[(id, 1)]).await.unwrap();
    until("the order", async || (pending().await == 1).then_some(())).await;
    assert_eq!(store.claim(&[(id, 1)]).await.unwrap(), [true]);
    store.published(&[(id, 1)]).await.unwrap();
    assert_eq!(schema.connect().await.query("SELECT 1 FROM orders_outbox", &[]).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_claim_by_a_clock_that_was_ahead_blocks_no_process() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    let id = create_in(&store, some_user(), "{}").await;
    schema.execute("UPDATE orders_outbox SET claimed_until = now() + interval '1 hour'").await;
    assert_eq!(store.pending(jiff::Timestamp::MAX, None, 10).await.unwrap().events.len(), 1);
    assert_eq!(store.claim(&[(id, 1)]).await.unwrap(), [true]);
}

#[tokio::test]
async fn an_order_that_was_postponed_fails_after_the_retry_time() {
    let setup = TestApp::embedded().processor(FlakyProcessor::failing(usize::MAX));
    let app = setup
        .settings(|settings| settings.processor_retry_for = Duration::from_secs(16))
        .start_on_postgres()
        .await;
    let without_wait = [("Prefer", "respond-async")];
    let answer = app.client.request("POST", "/orders", &without_wait, creation(r#"{"passing":1}"#));
    let id = order_id(&answer.await).to_string();
    let postponed = "SELECT order_id::text FROM orders_outbox WHERE claimed_until = created_at";
    until("the order to be postponed", async || app.query(postponed).await).await;
    let traffic = app.journal.until(|traffic| !traffic.acks_of(&id).is_empty()).await;
    assert_eq!(acks(&traffic, &id), ["failed"]);
    assert!(
        member(&order(&app.client, &id).await, "reason").contains("it is away (it was tried again until 16s")
    );
    app.finish().await;
}
