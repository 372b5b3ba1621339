//! The golden cases over gRPC: creating, updating, deleting and reading orders, the events that they publish, and the
//! answers that a caller gets.

use std::sync::Arc;
use std::time::Duration;

use orderstream::bus::Record;

use crate::clients::STRANGER;
use crate::clients::UNKNOWN_ID;
use crate::clients::USER;
use crate::clients::answers::{member, members, time};
use crate::clients::grpc::proto::orders::service::v1::{
    GetOrderByExternalIdRequest, GetOrderByIdRequest, HealthRequest, UpsertOrderRequest,
};
use crate::clients::grpc::{create, creation, deletion, order, refused, text, update, upserted};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;
use crate::harness::processors::ScriptedProcessor;

fn body(record: &Record) -> &str {
    str::from_utf8(&record.value).expect("a record of text")
}

fn by_external(external_id: &str, user_id: &str) -> GetOrderByExternalIdRequest {
    GetOrderByExternalIdRequest { external_id: external_id.to_owned(), user_id: user_id.to_owned() }
}

pub(super) async fn the_health_method_answers_ok<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let answer = app.grpc().health(HealthRequest {}).await.expect("an answer");
    assert_eq!(answer.into_inner().status, "ok");
    app.finish().await;
}

pub(super) async fn a_call_without_an_id_creates_an_order_and_one_event<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let mut ids = Vec::new();
    for order_id in ["", "0"] {
        for status in ["", "new"] {
            let (order_id, status) = (order_id.to_owned(), status.to_owned());
            let request = UpsertOrderRequest { order_id, status, ..creation(r#"{"amount":1}"#) };
            let answer = orders.upsert_order(request).await.expect("a new order");
            assert_eq!(answer.metadata().get("order-version").expect("a version"), "1");
            let id = upserted(Ok(answer), "created");
            assert_eq!(order(&mut orders, &id).await.status, "done");
            ids.push(id);
        }
    }
    let traffic = app.finish().await;
    for id in ids {
        let (events, acks) = (traffic.events_of(&id), traffic.acks_of(&id));
        assert_eq!((events.len(), acks.len()), (1, 1), "{id}");
        assert_eq!(member(body(&events[0]), "status"), "new");
        assert_eq!(member(body(&acks[0]), "status"), "processed");
    }
}

pub(super) async fn an_id_in_any_form_updates_and_is_answered_canonically<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let id = create(&mut orders, r#"{"amount":1}"#).await;
    let forms = [id.clone(), id.to_uppercase(), format!("urn:uuid:{id}"), id.replace('-', "")];
    for (amount, form) in (2..).zip(forms) {
        let request = update(&form, &format!(r#"{{"amount":{amount}}}"#));
        assert_eq!(upserted(orders.upsert_order(request).await, "updated"), id);
        let shown = order(&mut orders, &form).await;
        assert_eq!(
            (shown.amount, shown.status.as_str(), shown.order_id),
            (f64::from(amount), "done", id.clone())
        );
    }
    app.finish().await;
}

pub(super) async fn a_deletion_needs_no_payload_and_the_order_stays_readable<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let id = create(&mut orders, r#"{"amount":7.50,"id":"A-1"}"#).await;
    assert_eq!(upserted(orders.upsert_order(deletion(&id)).await, "deleted"), id);
    let shown = order(&mut orders, &id).await;
    assert_eq!((shown.status.as_str(), shown.amount), ("deleted", 7.5));
    let found = orders.get_order_by_external_id(by_external("A-1", USER)).await.expect("an order");
    assert_eq!(found.into_inner().order, Some(shown.clone()));
    let event = app.events(&id, 2).await.pop().expect("an event");
    assert_eq!(member(body(&event), "status"), "deleted");
    assert_eq!(member(body(&event), "payload"), shown.payload_json);
    app.finish().await;
}

pub(super) async fn any_write_to_a_deleted_order_is_refused<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let id = create(&mut orders, r#"{"amount":1}"#).await;
    upserted(orders.upsert_order(deletion(&id)).await, "deleted");
    let before = order(&mut orders, &id).await;
    for request in [update(&id, "{}"), deletion(&id)] {
        let (status, _) = refused(orders.upsert_order(request).await, "order_deleted");
        assert_eq!(text(&status, "order-id"), Some(id.clone()));
    }
    assert_eq!(order(&mut orders, &id).await, before);
    assert_eq!(app.finish().await.events_of(&id).len(), 2, "a refused write publishes no event");
}

pub(super) async fn an_unknown_order_and_another_users_order_are_not_found<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let id = create(&mut orders, r#"{"id":"A-1"}"#).await;
    for request in [update(UNKNOWN_ID, "{}"), deletion(UNKNOWN_ID)] {
        let (status, _) = refused(orders.upsert_order(request).await, "order_not_found");
        assert_eq!(text(&status, "order-id").as_deref(), Some(UNKNOWN_ID));
    }
    let user_id = STRANGER.to_owned();
    for request in [update(&id, "{}"), deletion(&id)] {
        let request = UpsertOrderRequest { user_id: user_id.clone(), ..request };
        refused(orders.upsert_order(request).await, "order_not_found");
    }
    let unknown = GetOrderByIdRequest { order_id: UNKNOWN_ID.to_owned() };
    refused(orders.get_order_by_id(unknown).await, "order_not_found");
    for request in [by_external("A-2", USER), by_external("A-1", STRANGER)] {
        refused(orders.get_order_by_external_id(request).await, "order_not_found");
    }
    app.finish().await;
}

pub(super) async fn an_invalid_field_is_refused_and_named<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let id = create(&mut orders, "{}").await;
    let owned = str::to_owned;
    let requests = [
        ("order_id", UpsertOrderRequest { order_id: owned("abc"), ..creation("{}") }),
        ("order_id", UpsertOrderRequest { order_id: owned("00"), ..creation("{}") }),
        ("order_id", UpsertOrderRequest { status: owned("deleted"), ..creation("{}") }),
        ("user_id", UpsertOrderRequest { user_id: owned(""), ..creation("{}") }),
        ("user_id", UpsertOrderRequest { user_id: owned("me"), ..creation("{}") }),
        ("user_id", UpsertOrderRequest { user_id: owned("me"), ..deletion(&id) }),
        ("status", UpsertOrderRequest { status: owned("done"), ..update(&id, "{}") }),
        ("payload", creation("")),
        ("payload", creation("null")),
        ("payload", update(&id, "")),
        ("payload_json", creation("{")),
        ("payload_json", creation("{} x")),
        ("payload_json", creation(r#"{"a":"\u0000"}"#)),
    ];
    for (field, request) in requests {
        let (_, detail) = refused(orders.upsert_order(request.clone()).await, "invalid_request");
        assert!(detail.starts_with(&format!("{field}: ")), "{request:?}: {detail}");
    }
    for order_id in ["", "0", "abc"] {
        let request = GetOrderByIdRequest { order_id: owned(order_id) };
        let (_, detail) = refused(orders.get_order_by_id(request).await, "invalid_request");
        assert!(detail.starts_with("order_id: "), "{detail}");
    }
    for user_id in ["", "me"] {
        let answer = orders.get_order_by_external_id(by_external("A-1", user_id)).await;
        let (_, detail) = refused(answer, "invalid_request");
        assert!(detail.starts_with("user_id: "), "{detail}");
    }
    assert_eq!(app.finish().await.events.len(), 1, "a refused call publishes no event");
}

pub(super) async fn an_order_has_all_fields_and_is_the_same_over_http<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let id = create(&mut orders, r#"{"amount":12.30}"#).await;
    let request = GetOrderByIdRequest { order_id: id.clone() };
    let answer = orders.get_order_by_id(request).await.expect("an order");
    assert_eq!(answer.metadata().get("order-version").expect("a version"), "1");
    let shown = answer.into_inner().order.expect("an order");
    assert_eq!((shown.order_id.as_str(), shown.user_id.as_str()), (id.as_str(), USER));
    assert_eq!((shown.amount, shown.status.as_str()), (12.3, "done"));
    assert_eq!(members(&shown.payload_json), [("amount".to_owned(), "12.30".to_owned())]);
    assert!(time(&shown.created_at) <= time(&shown.updated_at));
    assert!((0..4).contains(&shown.bucket));
    // HTTP shows the same order.
    let http = crate::clients::answers::order(app.client(), &id).await;
    for (name, value) in [
        ("status", shown.status),
        ("payload", shown.payload_json),
        ("created_at", shown.created_at),
        ("updated_at", shown.updated_at),
        ("bucket", shown.bucket.to_string()),
    ] {
        assert_eq!(member(&http, name), value, "{name}");
    }
    app.finish().await;
}

pub(super) async fn an_external_id_finds_the_newest_order_of_its_user<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    for (payload, external_id) in [
        (r#"{"id":"A-1"}"#, "A-1"),
        (r#"{"id":1000000}"#, "1000000"),
        (r#"{"id":"a b/c %2F"}"#, "a b/c %2F"),
        (r#"{"id":"Жук"}"#, "Жук"),
    ] {
        let older = create(&mut orders, payload).await;
        let newer = create(&mut orders, payload).await;
        let found = orders.get_order_by_external_id(by_external(external_id, USER)).await.expect("an order");
        let found = found.into_inner().order.expect("an order");
        assert_eq!(found.order_id, newer, "{external_id}: not {older}");
    }
    app.finish().await;
}

pub(super) async fn digits_are_kept_and_the_amount_is_the_nearest_double<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let payload = r#"{"id":12345678901234567890,"price":0.1,"qty":3}"#;
    let id = create(&mut orders, payload).await;
    let shown = order(&mut orders, &id).await;
    for (name, digits) in [("id", "12345678901234567890"), ("price", "0.1"), ("qty", "3")] {
        assert_eq!(member(&shown.payload_json, name), digits);
    }
    if B::KEEPS_TEXT {
        assert_eq!(shown.payload_json, payload);
    }
    let sum = create(&mut orders, r#"{"items":[{"price":0.1,"qty":3}]}"#).await;
    assert_eq!(order(&mut orders, &sum).await.amount, 0.3, "summed exactly, and rounded once");
    let long = create(&mut orders, r#"{"amount":12345678901234567.89}"#).await;
    assert_eq!(order(&mut orders, &long).await.amount, 12_345_678_901_234_568.0);
    app.finish().await;
}

pub(super) async fn an_order_without_a_worker_is_accepted_and_processed_later<B: Backend>() {
    let short_wait = Setup::new().settings(|set| set.ack_wait_timeout = Duration::from_millis(200));
    let mut app = B::start(short_wait).await;
    let mut orders = app.grpc();
    app.stop_worker().await;
    let id = upserted(orders.upsert_order(creation(r#"{"amount":5}"#)).await, "accepted");
    assert_eq!(order(&mut orders, &id).await.status, "new");
    app.start_worker().await;
    app.acks(&id, 1).await;
    let shown = order(&mut orders, &id).await;
    assert_eq!((shown.status.as_str(), shown.amount), ("done", 5.0));
    assert_eq!(app.finish().await.events_of(&id).len(), 1);
}

pub(super) async fn an_event_without_an_id_creates_one_order_however_often_delivered<B: Backend>() {
    let mut app = B::start(Setup::new()).await;
    let value = format!(
        r#"{{"order_id":"0","external_id":"","user_id":"{STRANGER}","payload":{{"id":"E-1","amount":4}},
            "status":"new","timestamp":"2026-01-02T03:04:05Z"}}"#
    );
    app.feed(Record { key: None, headers: Vec::new(), value: value.into_bytes() }, 2).await;
    let found = app.grpc().get_order_by_external_id(by_external("E-1", STRANGER)).await.expect("an order");
    let shown = found.into_inner().order.expect("an order");
    assert_eq!((shown.status.as_str(), shown.amount), ("done", 4.0));
    assert_eq!(app.acks(&shown.order_id, 2).await.len(), 2, "both deliveries are about this one order");
    app.finish().await;
}

pub(super) async fn a_failed_order_is_reported_and_can_be_updated<B: Backend>() {
    let app = B::start(Setup::new().processor(Arc::new(ScriptedProcessor))).await;
    let mut orders = app.grpc();
    let answer = orders.upsert_order(creation(r#"{"fail":"no stock"}"#)).await.expect("an order");
    assert_eq!(answer.metadata().get("processing").expect("the outcome"), "failed");
    let id = upserted(Ok(answer), "created");
    assert_eq!(order(&mut orders, &id).await.status, "failed");
    let answer = orders.upsert_order(update(&id, r#"{"amount":8}"#)).await.expect("an order");
    assert!(answer.metadata().get("processing").is_none());
    assert_eq!(order(&mut orders, &id).await.amount, 8.0);
    app.finish().await;
}
