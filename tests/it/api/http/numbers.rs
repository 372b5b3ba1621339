//! Numbers that are short on the wire and long in a store without exponents: which ones are accepted, which ones are
//! refused, and that the problem names the position, over both protocols and for every verb.

use orderstream::bus::Record;
use orderstream::order::{OrderId, WRITTEN_OUT};

use crate::clients::STRANGER;
use crate::clients::USER;
use crate::clients::answers::{create, member, names, order, problem, problem_body};
use crate::clients::grpc::{creation, refused, update};
use crate::clients::http::Answer;
use crate::harness::app::Setup;
use crate::harness::backend::Backend;

/// Payloads that are refused, and the beginnings of their details.
fn refused_payloads() -> Vec<(String, &'static str)> {
    let many = |number: &str, count: usize| vec![number; count].join(",");
    vec![
        (format!("[{}]", many("1e-16383", 7000)), "the number at /16 brings"),
        (format!(r#"{{"a":{{"b/c":[{}]}}}}"#, many("-1.5E+300", 1000)), "the number at /a/b~1c/868 brings"),
        (format!(r#"{{"id":1e308,"x":[{}]}}"#, many("0e-16000", 17)), "the number at /x/16 brings"),
        (r#"{"items":[{"price":1},{"price":1e-16384}]}"#.to_owned(), "the number at /items/1/price has"),
        (format!(r#"{{"n":0.{}}}"#, "3".repeat(16_384)), "the number at /n has"),
        ("0e-20000".to_owned(), "the number has"),
    ]
}

pub(super) async fn numbers_that_expand_too_far_are_a_400_that_names_their_position<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":1}"#).await;
    let new = OrderId::generate();
    for (payload, reason) in refused_payloads() {
        let quoted = serde_json::to_string(&payload).expect("a string");
        let (json, text) = (format!(r#""payload":{payload}"#), format!(r#""payload_json":{quoted}"#));
        let assert_reason = |detail: &str, field: &str| {
            assert!(detail.starts_with(&format!("{field}: {reason}")), "{detail}");
            assert!(detail.contains("send") && detail.len() < 500, "{detail}");
        };
        for (content, field) in [(&json, "payload"), (&text, "payload_json")] {
            for body in [
                format!(r#"{{"user_id":"{USER}",{content}}}"#),
                format!(r#"{{"order_id":"{id}",{content}}}"#),
            ] {
                assert_reason(&problem(&app.client().post("/orders", body).await, "invalid_request"), field);
            }
            for id in [&id, &new.to_string()] {
                let body = format!(r#"{{"user_id":"{USER}",{content}}}"#);
                let answer = app.client().request("PUT", &format!("/orders/{id}"), &[], body).await;
                assert_reason(&problem(&answer, "invalid_request"), field);
            }
            let items = format!(
                r#"{{"orders":[{{"user_id":"{USER}",{content}}},{{"user_id":"{STRANGER}","payload":{{}}}}]}}"#
            );
            let answer = app.client().post("/orders:batch", items).await;
            let (refused, accepted) = results_of(&answer);
            assert_eq!(member(&accepted, "status"), "201", "{answer:?}");
            assert_eq!(member(&refused, "status"), "400", "{answer:?}");
            let problem = Answer { status: 400, ..answer };
            assert_reason(&problem_body(&problem, &member(&refused, "body"), "invalid_request"), field);
        }
        let mut orders = app.grpc();
        for request in [creation(&payload), update(&id, &payload)] {
            assert_reason(&refused(orders.upsert_order(request).await, "invalid_request").1, "payload_json");
        }
    }
    assert_eq!(member(&order(app.client(), &id).await, "payload").replace(' ', ""), r#"{"amount":1}"#);
    let traffic = app.finish().await;
    assert_eq!(traffic.events_of(&id).len(), 1);
    assert_eq!(traffic.events.len(), 1 + 2 * refused_payloads().len(), "the valid items of the batches");
}

/// The two results of a batch.
fn results_of(answer: &Answer) -> (String, String) {
    let results = member(answer.text(), "results");
    let results: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(&results).expect("results");
    (results[0].get().to_owned(), results[1].get().to_owned())
}

pub(super) async fn numbers_of_the_longest_allowed_form_are_stored_shown_and_published<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let tiny = vec!["1e-16383"; WRITTEN_OUT / 16_384 - 1].join(",");
    let payload =
        format!(r#"{{"amount":1E-2,"id":1e308,"tiny":[{tiny}],"zero":0e-16000,"text":"1e-99999","e":[-0]}}"#);
    let id = create(app.client(), &payload).await;
    let shown = order(app.client(), &id).await;
    assert_eq!(member(&shown, "amount"), "0.01");
    let kept = member(&shown, "payload");
    assert_eq!(kept == payload, B::KEEPS_TEXT, "{kept:.200}");
    assert!(kept.len() < WRITTEN_OUT + 1000, "{}", kept.len());
    let put = format!(r#"{{"payload":{kept}}}"#);
    let answer = app.client().request("PUT", &format!("/orders/{id}"), &[], put).await;
    assert_eq!(answer.status, 200, "a payload that was shown may be sent again: {answer:?}");
    let answer = app.client().request("DELETE", &format!("/orders/{id}"), &[], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let traffic = app.finish().await;
    for event in traffic.events_of(&id) {
        let event = str::from_utf8(&event.value).expect("text").to_owned();
        assert_eq!(names(&member(&event, "payload")).len(), 6);
        assert!(["1e308".len(), 309].contains(&member(&event, "external_id").len()));
    }
    assert_eq!(traffic.events_of(&id).len(), 3);
}

/// The payload grows by half, because the store writes a space after each comma, and its event must still fit.
pub(super) async fn a_full_body_of_small_numbers_is_published_as_the_store_writes_it<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let payload = format!(r#"{{"amount":1,"x":[{}]}}"#, vec!["1"; (1 << 19) - 60].join(","));
    let id = create(app.client(), &payload).await;
    let answer = app.client().request("DELETE", &format!("/orders/{id}"), &[], "").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let traffic = app.finish().await;
    assert_eq!(traffic.events_of(&id).len(), 2);
}

pub(super) async fn an_event_for_a_known_order_may_hold_numbers_of_any_length<B: Backend>() {
    let mut app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":5}"#).await;
    let at = jiff::Timestamp::now();
    let value = format!(
        r#"{{"order_id":"{id}","payload":{{"amount":"5.00","n":[1e-20000,{}]}},"status":"done","timestamp":"{at}"}}"#,
        vec!["1e300"; 1000].join(",")
    );
    app.feed(Record { key: None, headers: Vec::new(), value: value.into_bytes() }, 1).await;
    assert_eq!(member(&order(app.client(), &id).await, "amount"), "5.00");
    app.finish().await;
}
