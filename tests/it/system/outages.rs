//! A store or a bus that is not available, and a process that restarts. Without the store no order is accepted; without
//! the bus all orders are accepted, and processed later, also after a restart and without a request of a client.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::clients::USER;
use crate::clients::answers::{create, member, order, problem};
use crate::harness::app::TestApp;

fn creation() -> String {
    format!(r#"{{"user_id":"{USER}","payload":{{"id":"A-1","amount":3}}}}"#)
}

#[tokio::test]
async fn an_unavailable_store_is_a_503_and_stores_nothing() {
    let app = TestApp::embedded().start().await;
    let id = create(&app.client, "{}").await;
    app.store.close().await;
    for (method, path, body) in [
        ("POST", "/orders".to_owned(), creation()),
        ("POST", "/orders".to_owned(), format!(r#"{{"order_id":"{id}","status":"deleted"}}"#)),
        ("GET", format!("/orders/{id}"), String::new()),
        ("GET", format!("/orders/by-external/A-1?user_id={USER}"), String::new()),
    ] {
        problem(&app.client.request(method, &path, &[], body).await, "store_unavailable");
    }
    let ready = app.client.get("/health/ready").await;
    assert_eq!((ready.status, ready.json()["store"].as_str()), (503, Some("not available")));
    assert_eq!(app.client.get("/health/live").await.status, 200);
    let app = app.restart().await;
    assert_eq!(member(&order(&app.client, &id).await, "version"), "1");
    let lost = app.client.get(&format!("/orders/by-external/A-1?user_id={USER}")).await;
    problem(&lost, "order_not_found");
    assert_eq!(app.finish().await.events.len(), 1);
}

#[tokio::test]
async fn an_unavailable_bus_fails_no_request_and_the_events_follow() {
    let setup =
        TestApp::embedded().settings(|settings| settings.ack_wait_timeout = Duration::from_millis(100));
    let app = setup.start().await;
    app.bus.set_away(true);
    let answer = app.client.post("/orders", creation()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let id = member(answer.text(), "order_id");
    assert_eq!(member(&order(&app.client, &id).await, "status"), "new");
    let ready = app.client.get("/health/ready").await;
    assert_eq!(ready.status, 200);
    assert_eq!(
        (ready.json()["status"].as_str(), ready.json()["bus"].as_str()),
        (Some("degraded"), Some("not available"))
    );
    app.bus.set_away(false);
    app.journal.until(|traffic| !traffic.acks_of(&id).is_empty()).await;
    assert_eq!(member(&order(&app.client, &id).await, "status"), "done");
    app.finish().await;
}

#[tokio::test]
async fn pending_orders_are_processed_after_a_restart() {
    let setup = TestApp::embedded().settings(|settings| {
        settings.ack_wait = false;
        settings.shutdown_timeout = Duration::from_millis(100);
    });
    let app = setup.start().await;
    app.bus.set_away(true);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(create(&app.client, r#"{"amount":3}"#).await);
    }
    let update = format!(r#"{{"order_id":"{}","payload":{{"amount":4}}}}"#, ids[0]);
    assert_eq!(app.client.post("/orders", update).await.status, 200);
    let delete = format!(r#"{{"order_id":"{}","status":"deleted"}}"#, ids[1]);
    assert_eq!(app.client.post("/orders", delete).await.status, 200);
    assert!(app.journal.traffic().events.is_empty());
    let app = app.restart().await;
    for (id, status, amount) in [(&ids[0], "done", "4"), (&ids[1], "deleted", "0"), (&ids[2], "done", "3")] {
        app.journal.until(|traffic| !traffic.acks_of(id).is_empty()).await;
        let shown = order(&app.client, id).await;
        assert_eq!((member(&shown, "status").as_str(), member(&shown, "amount").as_str()), (status, amount));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_restart_of_an_idle_system_publishes_nothing_and_loses_nothing() {
    let app = TestApp::embedded().start().await;
    let id = create(&app.client, r#"{"amount":3}"#).await;
    let before = order(&app.client, &id).await;
    let app = app.restart().await;
    assert_eq!(order(&app.client, &id).await, before);
    let other = create(&app.client, r#"{"amount":4}"#).await;
    let traffic = app.finish().await;
    assert_eq!((traffic.events_of(&id).len(), traffic.events_of(&other).len()), (1, 1));
}

#[tokio::test]
async fn a_caller_who_disconnects_loses_only_the_answer() {
    let mut app = TestApp::embedded().without_worker().start().await;
    let mut caller = TcpStream::connect(app.address).await.expect("a connection");
    let body = creation();
    let request =
        format!("POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    caller.write_all(request.as_bytes()).await.expect("a socket that takes bytes");
    app.journal.until(|traffic| traffic.events.len() == 1).await;
    drop(caller);
    app.start_worker();
    app.journal.until(|traffic| traffic.acks.len() == 1).await;
    let found = app.client.get(&format!("/orders/by-external/A-1?user_id={USER}")).await;
    assert_eq!(member(&member(found.text(), "order"), "status"), "done");
    app.finish().await;
}
