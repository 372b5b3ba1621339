//! `Prefer`: how long a caller waits, and whether the answer holds the order. Reads can wait for the worker as well.
//! A gate holds the worker, so a call that returns while it is shut has not waited.

use crate::clients::UNKNOWN_ID;
use crate::clients::USER;
use crate::clients::answers::{create, member, names, order, problem};
use crate::clients::http::{Answer, Client};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;
use crate::harness::processors::Gate;

async fn post(client: &Client, prefer: &str, payload: &str) -> Answer {
    let body = format!(r#"{{"user_id":"{USER}","payload":{payload}}}"#);
    client.request("POST", "/orders", &[("prefer", prefer)], body).await
}

pub(super) async fn a_caller_that_prefers_no_wait_is_answered_at_once<B: Backend>() {
    let gate = Gate::shut();
    let app = B::start(Setup::new().processor(gate.clone())).await;
    // The gate is shut: a call that waited for the worker would be answered after the limit of 30 s.
    for (prefer, applied) in [
        ("respond-async", "respond-async"),
        ("wait=0", "wait=0"),
        ("respond-async, wait=0", "respond-async, wait=0"),
    ] {
        let answer = post(app.client(), prefer, r#"{"amount":5}"#).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(member(answer.text(), "status"), "accepted");
        assert_eq!(answer.header("preference-applied"), Some(applied));
        assert_eq!(answer.header("etag"), Some("\"v1-new\""));
        assert!(answer.header("location").is_some() && answer.header("retry-after").is_some());
    }
    gate.open();
    let answer = post(app.client(), "respond-async, wait=20", r#"{"amount":5}"#).await;
    assert_eq!((answer.status, member(answer.text(), "status").as_str()), (201, "created"), "{answer:?}");
    app.finish().await;
}

pub(super) async fn a_caller_may_wait_where_the_settings_do_not<B: Backend>() {
    let app = B::start(Setup::new().settings(|settings| settings.ack_wait = false)).await;
    let answer = post(app.client(), "wait=20", r#"{"amount":5}"#).await;
    assert_eq!((answer.status, answer.header("etag")), (201, Some("\"v1\"")), "{answer:?}");
    assert_eq!(answer.header("preference-applied"), Some("wait=20"));
    app.finish().await;
}

pub(super) async fn a_caller_may_prefer_the_order_in_the_answer<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let answer = post(app.client(), "return=representation", r#"{"amount":5.50}"#).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(names(answer.text()), ["order_id", "status", "order"]);
    let id = member(answer.text(), "order_id");
    assert_eq!(member(answer.text(), "order"), order(app.client(), &id).await);
    assert_eq!(answer.header("preference-applied"), Some("return=representation"));
    assert_eq!(answer.header("etag"), Some("\"v1\""));
    let deleted = [("prefer", "return=representation")];
    let answer = app.client().request("DELETE", &format!("/orders/{id}"), &deleted, "").await;
    assert_eq!(member(&member(answer.text(), "order"), "status"), "deleted");
    let answer = post(app.client(), "return=minimal, unknown", "[1]").await;
    assert_eq!(names(answer.text()), ["order_id", "status"]);
    assert_eq!(answer.header("preference-applied"), Some("return=minimal"));
    let answer = post(app.client(), "unknown; x=1, wait=never", "[1]").await;
    assert_eq!((answer.status, answer.header("preference-applied")), (201, None));
    app.finish().await;
}

pub(super) async fn a_read_waits_for_the_requested_version<B: Backend>() {
    let gate = Gate::shut();
    let app = B::start(Setup::new().processor(gate.clone())).await;
    let id = member(post(app.client(), "respond-async", r#"{"amount":5}"#).await.text(), "order_id");
    let path = format!("/orders/{id}?min_version=1");
    let waiting = [("prefer", "wait=20")];
    // A read waits only if its caller asks for it.
    assert_eq!(member(&member(app.client().get(&path).await.text(), "order"), "status"), "new");
    let answer = app.client().request("GET", &path, &[("prefer", "wait=0")], "").await;
    assert_eq!(member(&member(answer.text(), "order"), "status"), "new");
    let client = Client::new(app.client().address());
    let reading = tokio::spawn(async move { client.request("GET", &path, &waiting, "").await });
    gate.open();
    let answer = reading.await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("preference-applied"), Some("wait=20"));
    let shown = member(answer.text(), "order");
    assert_eq!((member(&shown, "status").as_str(), member(&shown, "amount").as_str()), ("done", "5"));
    // Without a version, a read waits for the newest one.
    let path = format!("/orders/{id}");
    let answer = app.client().request("GET", &path, &waiting, "").await;
    assert_eq!(answer.header("etag"), Some("\"v1\""));
    app.finish().await;
}

pub(super) async fn an_invalid_min_version_is_a_400<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "[1]").await;
    for query in ["min_version=", "min_version=x", "min_version=-1", "min_version=1&min_version=1"] {
        let detail = problem(&app.client().get(&format!("/orders/{id}?{query}")).await, "invalid_request");
        assert!(detail.starts_with("min_version: "), "{detail}");
    }
    let path = format!("/orders/{UNKNOWN_ID}?min_version=1");
    problem(&app.client().request("GET", &path, &[("prefer", "wait=20")], "").await, "order_not_found");
    app.finish().await;
}

pub(super) async fn the_answer_names_the_applied_wait<B: Backend>() {
    let short = |settings: &mut orderstream::config::Settings| {
        settings.ack_wait_timeout = std::time::Duration::from_millis(20_500);
    };
    let app = B::start(Setup::new().settings(short)).await;
    for (prefer, applied) in [("wait=100", "wait=21"), ("wait=21", "wait=21"), ("wait=5", "wait=5")] {
        let answer = post(app.client(), prefer, "[1]").await;
        assert_eq!((answer.status, answer.header("preference-applied")), (201, Some(applied)), "{answer:?}");
        let path = format!("/orders/{}", member(answer.text(), "order_id"));
        let read = app.client().request("GET", &path, &[("prefer", prefer)], "").await;
        assert_eq!(read.header("preference-applied"), Some(applied), "{read:?}");
        let batch = format!(r#"{{"orders":[{{"user_id":"{USER}","payload":[1]}}]}}"#);
        let answer = app.client().request("POST", "/orders:batch", &[("prefer", prefer)], batch).await;
        assert_eq!((answer.status, answer.header("preference-applied")), (207, Some(applied)), "{answer:?}");
    }
    app.finish().await;
}
