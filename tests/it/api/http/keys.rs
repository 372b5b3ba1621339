//! `Idempotency-Key`: a retried request is answered with the outcome of the first one, and nothing happens twice.
//! A key belongs to one user and one content, and a refused request does not consume it.

use futures_util::future::join_all;

use crate::clients::STRANGER;
use crate::clients::USER;
use crate::clients::answers::{create, member, order, problem};
use crate::clients::http::{Answer, Client};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;

async fn post(client: &Client, key: &str, body: &str) -> Answer {
    client.request("POST", "/orders", &[("idempotency-key", key)], body.to_owned()).await
}

fn creation(user: &str, payload: &str) -> String {
    format!(r#"{{"user_id":"{user}","payload":{payload}}}"#)
}

/// Asserts that one answer is the replay of another.
fn assert_replays(answer: &Answer, first: &Answer) {
    assert_eq!((answer.status, answer.text()), (first.status, first.text()));
    for header in ["location", "etag", "content-type"] {
        assert_eq!(answer.header(header), first.header(header), "{header}");
    }
    assert_eq!(answer.header("idempotency-replayed"), Some("true"), "{answer:?}");
    assert_eq!(first.header("idempotency-replayed"), None, "{first:?}");
}

pub(super) async fn a_retried_request_is_answered_with_its_first_outcome<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let body = creation(USER, r#"{"amount":1}"#);
    let first = post(app.client(), "once", &body).await;
    assert_eq!(first.status, 201, "{first:?}");
    let id = member(first.text(), "order_id");
    // Quotes belong to the header, not to the key.
    for key in ["once", "\"once\""] {
        assert_replays(&post(app.client(), key, &body).await, &first);
    }

    let update = format!(r#"{{"order_id":"{id}","payload":{{"amount":2}}}}"#);
    let updated = post(app.client(), "twice", &update).await;
    let deletion = format!(r#"{{"order_id":"{id}","status":"deleted"}}"#);
    let deleted = post(app.client(), "thrice", &deletion).await;
    assert_eq!((updated.status, deleted.status), (200, 200));
    // Later changes of the order do not change a replayed outcome.
    assert_replays(&post(app.client(), "once", &body).await, &first);
    assert_replays(&post(app.client(), "twice", &update).await, &updated);
    assert_replays(&post(app.client(), "thrice", &deletion).await, &deleted);
    assert_eq!(app.finish().await.events_of(&id).len(), 3);
}

pub(super) async fn a_key_belongs_to_one_content_and_one_user<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let first = post(app.client(), "mine", &creation(USER, "[1]")).await;
    assert_eq!(first.status, 201, "{first:?}");
    problem(&post(app.client(), "mine", &creation(USER, "[2]")).await, "idempotency_key_reused");
    let id = member(first.text(), "order_id");
    let update = format!(r#"{{"order_id":"{id}","user_id":"{USER}","payload":[1]}}"#);
    problem(&post(app.client(), "mine", &update).await, "idempotency_key_reused");
    let of_stranger = post(app.client(), "mine", &creation(STRANGER, "[2]")).await;
    assert_eq!((of_stranger.status, of_stranger.header("idempotency-replayed")), (201, None));
    assert_eq!(member(&order(app.client(), &id).await, "version"), "1");
    let long = "k".repeat(256);
    for key in ["", "\"\"", "\"open", long.as_str()] {
        let detail = problem(&post(app.client(), key, &creation(USER, "[1]")).await, "invalid_request");
        assert!(detail.starts_with("Idempotency-Key: "), "{detail}");
    }
    app.finish().await;
}

pub(super) async fn equal_json_is_an_equal_request_in_any_notation<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let first =
        post(app.client(), "equal", &creation(USER, r#"{"id":"A","price":1.0,"tags":["x",{"y":1}]}"#)).await;
    assert_eq!(first.status, 201, "{first:?}");
    let id = member(first.text(), "order_id");
    for payload in [
        "{ \"tags\" : [\"x\", {\"y\":1.00}],\n\"price\":1,\"id\":\"\\u0041\" }",
        r#"{"id":"B","id":"A","price":10e-1,"tags":["x",{"y":1e0}]}"#,
    ] {
        assert_replays(&post(app.client(), "equal", &creation(USER, payload)).await, &first);
        let text = serde_json::to_string(payload).expect("a text");
        let as_text = format!(r#"{{"payload_json":{text},"user_id":"{}"}}"#, USER.to_uppercase());
        assert_replays(&post(app.client(), "equal", &as_text).await, &first);
    }
    for payload in
        [r#"{"id":"A","price":1.01,"tags":["x",{"y":1}]}"#, r#"{"id":"A","price":1.0,"tags":[{"y":1},"x"]}"#]
    {
        problem(&post(app.client(), "equal", &creation(USER, payload)).await, "idempotency_key_reused");
    }
    assert_eq!(app.finish().await.events_of(&id).len(), 1);
}

pub(super) async fn callers_without_a_user_share_no_keys_across_orders<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let (one, other) = (create(app.client(), "[1]").await, create(app.client(), "[2]").await);
    let update = |id: &str, payload: &str| format!(r#"{{"order_id":"{id}","payload":{payload}}}"#);
    let first = post(app.client(), "retry-1", &update(&one, "[3]")).await;
    let second = post(app.client(), "retry-1", &update(&other, "[4]")).await;
    for answer in [&first, &second] {
        assert_eq!((answer.status, answer.header("idempotency-replayed")), (200, None), "{answer:?}");
    }
    assert_replays(&post(app.client(), "retry-1", &update(&one, "[3]")).await, &first);
    // For one order, a key still belongs to one request.
    problem(&post(app.client(), "retry-1", &update(&one, "[4]")).await, "idempotency_key_reused");
    app.finish().await;
}

pub(super) async fn a_refused_request_does_not_consume_its_key<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "[1]").await;
    let update = format!(r#"{{"order_id":"{id}","payload":[2],"version":2}}"#);
    problem(&post(app.client(), "patient", &update).await, "precondition_failed");
    let other = format!(r#"{{"order_id":"{id}","payload":[2]}}"#);
    assert_eq!(post(app.client(), "other", &other).await.status, 200);
    let answer = post(app.client(), "patient", &update).await;
    assert_eq!((answer.status, answer.header("idempotency-replayed")), (200, None), "{answer:?}");
    assert_eq!(answer.header("etag"), Some("\"v3\""));
    app.finish().await;
}

pub(super) async fn concurrent_equal_requests_share_one_order<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let body = creation(USER, r#"{"id":"shared","amount":7}"#);
    let answers = join_all((0..50).map(|_| post(app.client(), "shared", &body))).await;
    let id = member(answers[0].text(), "order_id");
    for answer in &answers {
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(member(answer.text(), "order_id"), id);
    }
    let first = answers.iter().filter(|answer| answer.header("idempotency-replayed").is_none());
    assert_eq!(first.count(), 1);
    let traffic = app.finish().await;
    assert_eq!(traffic.events_of(&id).len(), 1);
}

pub(super) async fn a_replay_waits_for_the_worker_as_the_first_request_did<B: Backend>() {
    let mut app = B::start(Setup::new()).await;
    app.stop_worker().await;
    let body = creation(USER, r#"{"amount":7}"#);
    let headers = [("idempotency-key", "slow"), ("prefer", "respond-async")];
    let first = app.client().request("POST", "/orders", &headers, body.clone()).await;
    let again = app.client().request("POST", "/orders", &headers, body.clone()).await;
    assert_eq!(first.status, 202, "{first:?}");
    assert_replays(&again, &first);
    let id = member(first.text(), "order_id");
    // The worker starts while a request waits for it.
    let client = Client::new(app.client().address());
    let (answer, ()) = tokio::join!(post(&client, "slow", &body), app.start_worker());
    assert_eq!((answer.status, answer.header("idempotency-replayed")), (201, Some("true")), "{answer:?}");
    assert_eq!(member(&order(app.client(), &id).await, "status"), "done");
    app.finish().await;
}
