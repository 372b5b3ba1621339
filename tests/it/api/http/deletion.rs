//! Deleting. A deleted order stays readable, and nothing changes it any more: neither a write nor a late event nor an
//! update that a worker still processes.

use orderstream::bus::Record;

use crate::clients::STRANGER;
use crate::clients::USER;
use crate::clients::answers::{create, member, names, order, problem, problem_body};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;
use crate::harness::processors::Gate;

async fn delete<B: Backend>(app: &B, id: &str) {
    let answer = app.client().post("/orders", format!(r#"{{"order_id":"{id}","status":"deleted"}}"#)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.text(), format!(r#"{{"order_id":"{id}","status":"deleted"}}"#));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

pub(super) async fn a_deletion_needs_no_payload_and_publishes_the_stored_one<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":7.50,"id":"A-1"}"#).await;
    delete(&app, &id).await;
    let shown = order(app.client(), &id).await;
    assert_eq!(member(&shown, "status"), "deleted");
    assert_eq!(member(&shown, "amount"), "7.50");
    let found = app.client().get(&format!("/orders/by-external/A-1?user_id={USER}")).await;
    assert_eq!((found.status, member(found.text(), "order")), (200, shown.clone()));
    let event = app.events(&id, 2).await.pop().expect("an event");
    let event = str::from_utf8(&event.value).expect("text").to_owned();
    assert_eq!(member(&event, "status"), "deleted");
    assert_eq!(member(&event, "external_id"), "A-1");
    assert_eq!(member(&event, "payload"), member(&shown, "payload"));
    let ack = app.acks(&id, 2).await.pop().expect("an ACK");
    assert_eq!(member(str::from_utf8(&ack.value).expect("text"), "status"), "updated");
    app.finish().await;
}

/// Every kind of write to an order.
fn writes(id: &str) -> [String; 3] {
    [
        format!(r#"{{"order_id":"{id}","payload":{{"amount":9}}}}"#),
        format!(r#"{{"order_id":"{id}","user_id":"{USER}","payload":{{"amount":9}}}}"#),
        format!(r#"{{"order_id":"{id}","status":"deleted"}}"#),
    ]
}

pub(super) async fn any_write_to_a_deleted_order_is_a_409<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":1}"#).await;
    delete(&app, &id).await;
    let before = order(app.client(), &id).await;
    for body in writes(&id) {
        let answer = app.client().post("/orders", body).await;
        assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
        assert_eq!(names(answer.text()), ["order_id", "status", "problem"]);
        assert_eq!(member(answer.text(), "order_id"), id);
        assert_eq!(member(answer.text(), "status"), "deleted");
        let inner = member(answer.text(), "problem");
        problem_body(&answer, &inner, "order_deleted");
        assert_eq!(member(&inner, "order_id"), id);
    }
    assert_eq!(order(app.client(), &id).await, before);
    assert_eq!(app.finish().await.events_of(&id).len(), 2, "a refused write publishes no event");
}

pub(super) async fn a_409_is_a_plain_problem_for_callers_that_accept_problems<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":1}"#).await;
    delete(&app, &id).await;
    for accept in ["application/problem+json", "application/problem+json, application/json;q=0.5"] {
        for body in writes(&id) {
            let answer = app.client().request("POST", "/orders", &[("accept", accept)], body).await;
            problem(&answer, "order_deleted");
            assert_eq!(member(answer.text(), "order_id"), id);
        }
    }
    app.finish().await;
}

pub(super) async fn another_users_write_to_a_deleted_order_is_a_404<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":1}"#).await;
    delete(&app, &id).await;
    for fields in [r#""payload":{}"#, r#""status":"deleted""#] {
        let body = format!(r#"{{"order_id":"{id}","user_id":"{STRANGER}",{fields}}}"#);
        problem(&app.client().post("/orders", body).await, "order_not_found");
    }
    app.finish().await;
}

pub(super) async fn a_deleted_order_stays_deleted_when_an_old_event_arrives<B: Backend>() {
    let mut app = B::start(Setup::new()).await;
    let id = create(app.client(), r#"{"amount":1}"#).await;
    let created = app.events(&id, 1).await.remove(0);
    delete(&app, &id).await;
    let before = order(app.client(), &id).await;
    let without_headers = Record { headers: Vec::new(), ..created.clone() };
    let late =
        String::from_utf8(without_headers.value.clone()).expect("text").replace("\"new\"", "\"processing\"");
    let late = Record { value: late.into_bytes(), ..without_headers.clone() };
    for record in [created, without_headers, late] {
        app.feed(record, 2).await;
        assert_eq!(order(app.client(), &id).await, before);
    }
    app.finish().await;
}

pub(super) async fn a_delete_overtakes_an_update_that_the_worker_still_holds<B: Backend>() {
    let gate = Gate::shut();
    let setup = Setup::new().settings(|settings| settings.ack_wait = false).processor(gate.clone());
    let app = B::start(setup).await;
    let id = create(app.client(), r#"{"amount":1}"#).await;
    let update = format!(r#"{{"order_id":"{id}","payload":{{"amount":2}}}}"#);
    assert_eq!(app.client().post("/orders", update).await.status, 200);
    delete(&app, &id).await;
    gate.open();
    app.acks(&id, 3).await;
    let shown = order(app.client(), &id).await;
    assert_eq!(member(&shown, "status"), "deleted");
    assert_eq!(member(&shown, "version"), "3");
    app.finish().await;
}
