//! The life of an order as its caller sees it: processed before the answer, waiting for a worker, or failed and
//! corrected. The answer always reports what really happened.

use std::sync::Arc;
use std::time::Duration;

use crate::clients::USER;
use crate::clients::answers::{create, member, names, order};
use crate::clients::http::Client;
use crate::harness::app::Setup;
use crate::harness::backend::Backend;
use crate::harness::processors::{Gate, ScriptedProcessor};

pub(super) async fn the_amount_follows_the_rule<B: Backend>() {
    let app = B::start(Setup::new()).await;
    for (payload, amount) in [
        (r#"{"amount":12.30}"#, "12.30"),
        (r#"{"amount":"12.30"}"#, "12.30"),
        (r#"{"amount":-1}"#, "-1"),
        (r#"{"amount":0,"items":[{"price":5}]}"#, "0"),
        (r#"{"amount":"ten","items":[{"price":5}]}"#, "5"),
        (r#"{"amount":null,"items":[{"price":5}]}"#, "5"),
        (r#"{"items":[{"price":9.90,"qty":2},{"price":"0.05","qty":"3"}]}"#, "19.95"),
        (r#"{"items":[{"price":1.5},{"price":1.5,"qty":0},{"price":1.5,"qty":null}]}"#, "4.5"),
        (r#"{"items":[{"qty":3},{"price":"free","qty":2},7,null,{"price":2}]}"#, "2"),
        (r#"{"items":[]}"#, "0"),
        (r#"{"items":{"price":5}}"#, "0"),
        ("{}", "0"),
        ("[1,2]", "0"),
        ("\"text\"", "0"),
        ("7", "0"),
    ] {
        let id = create(app.client(), payload).await;
        let shown = order(app.client(), &id).await;
        assert_eq!(member(&shown, "amount"), amount, "{payload}");
        assert_eq!(member(&shown, "status"), "done", "{payload}");
    }
    app.finish().await;
}

pub(super) async fn an_update_is_processed_again<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":1}"#).await;
    let before = order(app.client(), &id).await;
    let update = format!(r#"{{"order_id":"{id}","payload":{{"items":[{{"price":2,"qty":3}}]}}}}"#);
    assert_eq!(app.client().post("/orders", update).await.status, 200);
    let after = order(app.client(), &id).await;
    assert_eq!((member(&after, "amount"), member(&after, "status")), ("6".to_owned(), "done".to_owned()));
    assert_eq!((member(&before, "version"), member(&after, "version")), ("1".to_owned(), "2".to_owned()));
    assert_eq!(member(&before, "created_at"), member(&after, "created_at"));
    let statuses = app.events(&id, 2).await;
    let statuses = statuses.iter().map(|event| member(str::from_utf8(&event.value).expect("text"), "status"));
    assert_eq!(statuses.collect::<Vec<_>>(), ["new", "processing"]);
    app.finish().await;
}

/// A setup whose wait for the worker ends soon.
fn short_wait() -> Setup {
    Setup::new().settings(|settings| settings.ack_wait_timeout = Duration::from_millis(100))
}

pub(super) async fn an_order_without_a_worker_is_accepted_and_processed_later<B: Backend>() {
    let mut app = B::start(short_wait()).await;
    app.stop_worker().await;
    let body = format!(r#"{{"user_id":"{USER}","payload":{{"amount":5}}}}"#);
    let answer = app.client().post("/orders", body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let id = member(answer.text(), "order_id");
    assert_eq!(answer.text(), format!(r#"{{"order_id":"{id}","status":"accepted"}}"#));
    assert_eq!(answer.header("location"), Some(format!("/orders/{id}").as_str()));
    let pause: u32 = answer.header("retry-after").expect("a Retry-After").parse().expect("whole seconds");
    assert!(pause > 0);
    let waiting = order(app.client(), &id).await;
    assert_eq!((member(&waiting, "status").as_str(), member(&waiting, "amount").as_str()), ("new", "0"));
    app.start_worker().await;
    app.acks(&id, 1).await;
    let processed = order(app.client(), &id).await;
    assert_eq!((member(&processed, "status").as_str(), member(&processed, "amount").as_str()), ("done", "5"));
    assert_eq!(app.finish().await.events_of(&id).len(), 1);
}

pub(super) async fn an_update_and_a_deletion_wait_in_the_same_way<B: Backend>() {
    let mut app = B::start(short_wait()).await;
    app.stop_worker().await;
    let body = format!(r#"{{"user_id":"{USER}","payload":{{"amount":1}}}}"#);
    let id = member(app.client().post("/orders", body).await.text(), "order_id");
    for (fields, status) in
        [(r#""payload":{"amount":2}"#, "processing"), (r#""status":"deleted""#, "deleted")]
    {
        let answer = app.client().post("/orders", format!(r#"{{"order_id":"{id}",{fields}}}"#)).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.text(), format!(r#"{{"order_id":"{id}","status":"accepted"}}"#));
        assert_eq!(answer.header("location"), Some(format!("/orders/{id}").as_str()));
        assert!(answer.header("retry-after").is_some());
        assert_eq!(member(&order(app.client(), &id).await, "status"), status);
    }
    app.start_worker().await;
    app.acks(&id, 3).await;
    let shown = order(app.client(), &id).await;
    assert_eq!(member(&shown, "status"), "deleted");
    assert_eq!(
        member(&shown, "amount"),
        "0",
        "the deletion superseded all other versions before they were processed"
    );
    app.finish().await;
}

pub(super) async fn without_the_wait_the_answer_comes_at_once<B: Backend>() {
    let gate = Gate::shut();
    let setup = Setup::new().settings(|settings| settings.ack_wait = false).processor(gate.clone());
    let app = B::start(setup).await;
    // The gate is shut: a call that waited for the worker would not return here.
    let id = create(app.client(), r#"{"amount":5}"#).await;
    assert_eq!(member(&order(app.client(), &id).await, "status"), "new");
    gate.open();
    app.acks(&id, 1).await;
    assert_eq!(member(&order(app.client(), &id).await, "status"), "done");
    app.finish().await;
}

pub(super) async fn an_order_that_cannot_be_processed_shows_the_reason<B: Backend>() {
    let app = B::start(Setup::new().processor(Arc::new(ScriptedProcessor))).await;
    let body = format!(r#"{{"user_id":"{USER}","payload":{{"fail":"no stock"}}}}"#);
    let answer = app.client().post("/orders", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let id = member(answer.text(), "order_id");
    assert_eq!(answer.text(), format!(r#"{{"order_id":"{id}","status":"created","processing":"failed"}}"#));
    assert_eq!(answer.header("location"), Some(format!("/orders/{id}").as_str()));
    let shown = order(app.client(), &id).await;
    assert_eq!(
        (member(&shown, "status").as_str(), member(&shown, "reason").as_str()),
        ("failed", "no stock")
    );
    let ack = app.acks(&id, 1).await.remove(0);
    assert_eq!(member(str::from_utf8(&ack.value).expect("text"), "status"), "failed");
    let too_long = "9".repeat(1001);
    let body = format!(r#"{{"user_id":"{USER}","payload":{{"amount":"{too_long}"}}}}"#);
    let answer = app.client().post("/orders", body).await;
    assert_eq!(member(answer.text(), "processing"), "failed");
    let shown = order(app.client(), &member(answer.text(), "order_id")).await;
    assert!(member(&shown, "reason").contains("payload.amount"), "{shown}");
    app.finish().await;
}

pub(super) async fn a_failed_order_can_be_corrected_by_an_update<B: Backend>() {
    let app = B::start(Setup::new().processor(Arc::new(ScriptedProcessor))).await;
    let id = create(app.client(), r#"{"fail":"no stock"}"#).await;
    let update = format!(r#"{{"order_id":"{id}","payload":{{"fail":"still none"}}}}"#);
    let answer = app.client().post("/orders", update).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), format!(r#"{{"order_id":"{id}","status":"updated","processing":"failed"}}"#));
    assert_eq!(member(&order(app.client(), &id).await, "reason"), "still none");
    let update = format!(r#"{{"order_id":"{id}","payload":{{"amount":8}}}}"#);
    let answer = app.client().post("/orders", update).await;
    assert_eq!(answer.text(), format!(r#"{{"order_id":"{id}","status":"updated"}}"#));
    let shown = order(app.client(), &id).await;
    assert_eq!((member(&shown, "status").as_str(), member(&shown, "amount").as_str()), ("done", "8"));
    assert!(!names(&shown).contains(&"reason".to_owned()), "{shown}");
    app.finish().await;
}

pub(super) async fn a_processor_that_panics_fails_its_order_alone<B: Backend>() {
    let app = B::start(Setup::new().processor(Arc::new(ScriptedProcessor))).await;
    let body = |payload: &str| format!(r#"{{"user_id":"{USER}","payload":{payload}}}"#);
    let (bad, good) = tokio::join!(
        app.client().post("/orders", body(r#"{"panic":"on purpose, by a test"}"#)),
        app.client().post("/orders", body(r#"{"amount":3}"#)),
    );
    assert_eq!((bad.status, member(bad.text(), "processing").as_str()), (201, "failed"));
    assert_eq!((good.status, names(good.text()).len()), (201, 2));
    let shown = order(app.client(), &member(bad.text(), "order_id")).await;
    assert_eq!(member(&shown, "status"), "failed");
    assert!(member(&shown, "reason").contains("panicked"), "{shown}");
    assert_eq!(member(&order(app.client(), &member(good.text(), "order_id")).await, "status"), "done");
    create(app.client(), r#"{"amount":4}"#).await;
    app.finish().await;
}

pub(super) async fn two_callers_of_one_order_each_get_an_answer<B: Backend>() {
    let mut app = B::start(Setup::new().processor(Arc::new(ScriptedProcessor))).await;
    let id = create(app.client(), r#"{"amount":1}"#).await;
    app.stop_worker().await;
    let address = app.client().address();
    let update = |payload: &str| {
        let body = format!(r#"{{"order_id":"{id}","payload":{payload}}}"#);
        tokio::spawn(async move { Client::new(address).post("/orders", body).await })
    };
    let older = update(r#"{"fail":"no stock"}"#);
    app.events(&id, 2).await;
    let newer = update(r#"{"amount":2}"#);
    app.events(&id, 3).await;
    app.start_worker().await;
    let (older, newer) = (older.await.expect("an answer"), newer.await.expect("an answer"));
    // The older version would have failed; the newer one superseded it, and the order has not failed.
    for answer in [older, newer] {
        assert_eq!(
            (answer.status, answer.text()),
            (200, format!(r#"{{"order_id":"{id}","status":"updated"}}"#).as_str())
        );
    }
    let shown = order(app.client(), &id).await;
    assert_eq!((member(&shown, "status").as_str(), member(&shown, "version").as_str()), ("done", "3"));
    app.finish().await;
}
