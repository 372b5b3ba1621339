//! How long the key of a request is kept: a day, also where the history is dropped sooner. The retention job runs when
//! a process starts, so the tests change the age of keys and restart the process.

use std::time::Duration;

use crate::clients::USER;
use crate::clients::answers::member;
use crate::clients::http::Answer;
use crate::harness::app::TestApp;
use crate::harness::wait::until;

/// Sends a creation under a key.
async fn send(app: &TestApp, key: &str) -> Answer {
    let headers = [("idempotency-key", key), ("content-type", "application/json")];
    let body = format!(r#"{{"user_id":"{USER}","payload":{{"id":"{key}","amount":1}}}}"#);
    app.client.request("POST", "/orders", &headers, body).await
}

#[tokio::test]
async fn a_key_is_kept_for_a_day_and_then_dropped() {
    // The history is dropped at once, without the keys.
    let setup =
        TestApp::embedded().settings(|settings| settings.history_retention = Duration::from_millis(1));
    let app = setup.start_on_postgres().await;
    let mut first = Vec::new();
    for key in ["recent", "old"] {
        let answer = send(&app, key).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        first.push(member(answer.text(), "order_id"));
        // The row is found by the id of the order, because a key is stored as a digest.
        let age = if key == "old" { "24 hours 1 minute" } else { "23 hours 59 minutes" };
        let id = first.last().expect("an id");
        app.execute(&format!(
            "UPDATE orders_keys SET created_at = clock_timestamp() - interval '{age}' WHERE order_id = '{id}'"
        ))
        .await;
    }
    let app = app.restart().await;
    let kept = "SELECT string_agg(order_id::text, ' ') FROM orders_keys";
    until("the old key to be dropped", async || {
        (app.query(kept).await.as_deref() == Some(first[0].as_str())).then_some(())
    })
    .await;
    let repeated = send(&app, "recent").await;
    assert_eq!(member(repeated.text(), "order_id"), first[0], "{repeated:?}");
    let recreated = send(&app, "old").await;
    assert_eq!(recreated.status, 201, "{recreated:?}");
    assert_ne!(member(recreated.text(), "order_id"), first[1]);
    app.finish().await;
}
