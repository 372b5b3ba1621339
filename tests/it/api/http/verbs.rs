//! `PUT` and `DELETE` of an order, and batches of commands in one request. They follow the rules of `POST /orders`, on
//! the same orders.

use orderstream::order::OrderId;

use crate::clients::STRANGER;
use crate::clients::UNKNOWN_ID;
use crate::clients::USER;
use crate::clients::answers::{create, member, members, names, order, problem, problem_body};
use crate::clients::http::{Answer, Client, raw};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;

async fn put(client: &Client, id: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
    client.request("PUT", &format!("/orders/{id}"), headers, body.to_owned()).await
}

fn content(user: &str, payload: &str) -> String {
    format!(r#"{{"user_id":"{user}","payload":{payload}}}"#)
}

pub(super) async fn a_put_creates_an_order_under_a_chosen_id_and_replaces_it<B: Backend>() {
    let app = B::start(Setup::new()).await;
    // A random UUID, as clients generate them.
    let id = "5f0c1c8e-3d6b-4b7e-9a55-0b1c2d3e4f5a";
    let created = put(app.client(), &id.to_uppercase(), &content(USER, r#"{"amount":1}"#), &[]).await;
    assert_eq!((created.status, created.header("etag")), (201, None), "{created:?}");
    assert_eq!(created.header("location"), Some(format!("/orders/{id}").as_str()));
    assert_eq!(created.text(), format!(r#"{{"order_id":"{id}","status":"created"}}"#));
    let updated = put(app.client(), id, &content(USER, r#"{"amount":2}"#), &[]).await;
    assert_eq!((updated.status, updated.header("etag")), (200, None), "{updated:?}");
    // The server does not store the body as it was sent, so the answer has no tag; the order in it has a version.
    let whole = [("prefer", "return=representation")];
    let shown = put(app.client(), id, &content(USER, r#"{"amount":2}"#), &whole).await;
    assert_eq!((shown.header("etag"), shown.header("last-modified")), (None, None), "{shown:?}");
    assert_eq!(member(&member(shown.text(), "order"), "version"), "3");
    // An update need not name the owner.
    let updated = put(app.client(), id, r#"{"payload_json":"{\"amount\":3}"}"#, &[]).await;
    assert_eq!(updated.text(), format!(r#"{{"order_id":"{id}","status":"updated"}}"#));
    let shown = order(app.client(), id).await;
    assert_eq!((member(&shown, "status").as_str(), member(&shown, "amount").as_str()), ("done", "3"));
    assert_eq!(app.finish().await.events_of(id).len(), 4);
}

pub(super) async fn a_put_that_requires_a_new_order_succeeds_once<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = OrderId::generate().to_string();
    let (body, new) = (content(USER, r#"{"amount":1}"#), [("if-none-match", "*")]);
    let sent = (0..20).map(|_| put(app.client(), &id, &body, &new));
    let answers = futures_util::future::join_all(sent).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        let detail = problem(answer, "precondition_failed");
        assert!(detail.contains("version 1") && detail.contains("leave If-None-Match out"), "{detail}");
        assert_eq!(member(answer.text(), "current_version"), "1");
    }
    // Without the condition, all of them update that one order.
    let sent = (0..20).map(|_| put(app.client(), &id, &body, &[]));
    for answer in futures_util::future::join_all(sent).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(app.finish().await.events_of(&id).len(), 21);
}

pub(super) async fn concurrent_puts_for_a_new_id_create_one_order<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = OrderId::generate().to_string();
    let body = content(USER, r#"{"amount":1}"#);
    let answers = futures_util::future::join_all((0..20).map(|_| put(app.client(), &id, &body, &[]))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 19);
    assert_eq!(member(&order(app.client(), &id).await, "version"), "20");
    app.finish().await;
}

pub(super) async fn an_invalid_put_changes_nothing<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), "[1]").await;
    for (id, body, headers, field) in [
        ("abc", content(USER, "[2]"), &[][..], "order_id"),
        ("00000000-0000-0000-0000-000000000000", content(USER, "[2]"), &[], "order_id"),
        (&id, "[".to_owned(), &[], "body"),
        (&id, r#"{"payload":null}"#.to_owned(), &[], "payload"),
        (&id, format!(r#"{{"order_id":"{UNKNOWN_ID}","payload":1}}"#), &[], "order_id"),
        (&id, r#"{"status":"deleted","payload":1}"#.to_owned(), &[], "status"),
        (&id, content("me", "[2]"), &[], "user_id"),
        (UNKNOWN_ID, r#"{"payload":[2]}"#.to_owned(), &[], "user_id"),
        (UNKNOWN_ID, r#"{"payload":[2]}"#.to_owned(), &[("if-none-match", "*")], "user_id"),
        (&id, content(USER, "[2]"), &[("if-none-match", "\"v1\"")], "If-None-Match"),
        (&id, content(USER, "[2]"), &[("if-none-match", "*"), ("if-match", "\"v1\"")], "If-None-Match"),
    ] {
        let detail = problem(&put(app.client(), id, &body, headers).await, "invalid_request");
        assert!(detail.starts_with(&format!("{field}: ")), "{detail}");
    }
    problem(&put(app.client(), &id, &content(STRANGER, "[2]"), &[]).await, "order_not_found");
    problem(
        &put(app.client(), UNKNOWN_ID, &content(USER, "[2]"), &[("if-match", "*")]).await,
        "order_not_found",
    );
    assert_eq!(member(&order(app.client(), &id).await, "version"), "1");
    app.finish().await;
}

pub(super) async fn a_delete_works_like_the_deletion_by_post<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":1}"#).await;
    let delete =
        async |query: &str| app.client().request("DELETE", &format!("/orders/{id}{query}"), &[], "").await;
    problem(&delete(&format!("?user_id={STRANGER}")).await, "order_not_found");
    problem(&delete("?user_id=me").await, "invalid_request");
    problem(&delete(&format!("?user_id={USER}&user_id={USER}")).await, "invalid_request");
    // A parameter that the caller may have meant as a condition is not ignored.
    problem(&delete(&format!("?userid={STRANGER}")).await, "invalid_request");
    for body in [r#"{"version":7}"#, "{}"] {
        let answer = app.client().request("DELETE", &format!("/orders/{id}"), &[], body).await;
        let detail = problem(&answer, "invalid_request");
        assert!(detail.starts_with("body: ") && detail.contains("If-Match"), "{detail}");
    }
    // A chunked body of no bytes, as a proxy may send it.
    let chunked = format!(
        "DELETE /orders/{id}?user_id={USER} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    let deleted = Answer::read(&raw(app.client().address(), chunked.as_bytes()).await);
    assert_eq!((deleted.status, deleted.header("etag")), (200, Some("\"v2\"")), "{deleted:?}");
    assert_eq!(deleted.text(), format!(r#"{{"order_id":"{id}","status":"deleted"}}"#));
    assert_eq!(member(&order(app.client(), &id).await, "status"), "deleted");
    for answer in [delete("").await, put(app.client(), &id, &content(USER, "[1]"), &[]).await] {
        assert_eq!((answer.status, member(answer.text(), "status").as_str()), (409, "deleted"), "{answer:?}");
    }
    let new = put(app.client(), &id, &content(USER, "[1]"), &[("if-none-match", "*")]).await;
    assert_eq!((new.status, member(new.text(), "status").as_str()), (409, "deleted"), "{new:?}");
    let unknown = app.client().request("DELETE", &format!("/orders/{UNKNOWN_ID}"), &[], "").await;
    problem(&unknown, "order_not_found");
    assert_eq!(app.finish().await.events_of(&id).len(), 2);
}

/// The results of a batch: the status and the body of each.
fn results(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, 207, "{answer:?}");
    assert_eq!(names(answer.text()), ["results"]);
    let results: Vec<Box<serde_json::value::RawValue>> =
        serde_json::from_str(&member(answer.text(), "results")).expect("an array");
    results.iter().map(|result| (member(result.get(), "status"), member(result.get(), "body"))).collect()
}

pub(super) async fn a_batch_has_a_result_for_each_item<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let (old, deleted) = (create(app.client(), "[1]").await, create(app.client(), "[2]").await);
    app.client().request("DELETE", &format!("/orders/{deleted}"), &[], "").await;
    let items = [
        content(USER, r#"{"id":12345678901234567890,"price":0.10}"#),
        format!(r#"{{"order_id":"{old}","payload":[2],"version":1}}"#),
        format!(r#"{{"order_id":"{old}","payload":[3],"version":1}}"#),
        format!(r#"{{"order_id":"{deleted}","payload":[3]}}"#),
        format!(r#"{{"order_id":"{UNKNOWN_ID}","payload":[3]}}"#),
        r#"{"payload":[1]}"#.to_owned(),
        "7".to_owned(),
        format!(r#"{{"order_id":"{old}","status":"deleted"}}"#),
    ];
    let answer = app.client().post("/orders:batch", format!(r#"{{"orders":[{}]}}"#, items.join(","))).await;
    let results = results(&answer);
    let statuses: Vec<&str> = results.iter().map(|(status, _)| status.as_str()).collect();
    assert_eq!(statuses, ["201", "200", "412", "409", "404", "400", "400", "200"]);
    let created = member(&results[0].1, "order_id");
    assert!(member(&order(app.client(), &created).await, "payload").contains("12345678901234567890"));
    assert_eq!(results[1].1, format!(r#"{{"order_id":"{old}","status":"updated"}}"#));
    for (result, code) in [(2, "precondition_failed"), (4, "order_not_found"), (5, "invalid_request")] {
        let shown = Answer { status: results[result].0.parse().expect("a status"), ..answer.clone() };
        problem_body(&shown, &results[result].1, code);
    }
    assert_eq!(member(&results[3].1, "status"), "deleted");
    assert_eq!(members(&results[3].1).len(), 3, "as in a 409 outside a batch");
    assert_eq!(member(&order(app.client(), &old).await, "status"), "deleted");
    app.finish().await;
}

pub(super) async fn a_batch_of_a_thousand_is_accepted_and_a_larger_one_refused<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let batch = |count: usize| {
        let items: Vec<String> = (0..count).map(|n| content(USER, &format!("{{\"amount\":{n}}}"))).collect();
        format!(r#"{{"orders":[{}]}}"#, items.join(","))
    };
    let answer = app.client().post("/orders:batch/", batch(1000)).await;
    let results = results(&answer);
    assert_eq!(results.len(), 1000);
    for (n, (status, body)) in results.iter().enumerate() {
        assert_eq!(status, "201", "{body}");
        if n % 250 == 0 {
            let shown = order(app.client(), &member(body, "order_id")).await;
            assert_eq!(member(&shown, "amount"), n.to_string());
        }
    }
    for body in [batch(1001), batch(0), "{}".to_owned(), "[]".to_owned(), r#"{"orders":{}}"#.to_owned()] {
        let detail = problem(&app.client().post("/orders:batch", body).await, "invalid_request");
        assert!(detail.starts_with("orders: "), "{detail}");
    }
    let detail = problem(&app.client().post("/orders:batch", "[").await, "invalid_request");
    assert!(detail.starts_with("body: "), "{detail}");
    app.finish().await;
}

pub(super) async fn a_retried_batch_replays_its_items_one_by_one<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let send = async |items: &[String]| {
        let body = format!(r#"{{"orders":[{}]}}"#, items.join(","));
        app.client().request("POST", "/orders:batch", &[("idempotency-key", "batch")], body).await
    };
    let mut items = vec![content(USER, "[1]"), "{}".to_owned(), content(USER, "[1]")];
    let first = results(&send(&items).await);
    assert_eq!((first[0].0.as_str(), first[1].0.as_str(), first[2].0.as_str()), ("201", "400", "201"));
    assert_ne!(first[0].1, first[2].1, "equal items create two orders");
    let again = send(&items).await;
    assert_eq!(again.text().matches(r#""replayed":true"#).count(), 2, "{again:?}");
    let again = results(&again);
    assert_eq!((&again[0], &again[2]), (&first[0], &first[2]));
    items[2] = content(USER, "[2]");
    let other = results(&send(&items).await);
    assert_eq!((&other[0], other[2].0.as_str()), (&first[0], "422"));
    app.finish().await;
}
