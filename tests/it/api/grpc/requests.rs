//! Metadata of a call: its request id, the idempotency key that makes a retry safe, and the version that an order must
//! have.

use std::collections::BTreeSet;

use crate::clients::grpc::proto::orders::service::v1::HealthRequest;
use crate::clients::grpc::{create, creation, deletion, order, refused, text, update, upserted, with};
use crate::harness::app::Setup;
use crate::harness::backend::Backend;

/// The two names of an idempotency key.
const KEYS: [&str; 2] = ["request_id", "idempotency-key"];

pub(super) async fn a_call_keeps_its_id_or_gets_one<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let answer = orders.health(with(HealthRequest {}, &[("x-request-id", "me-7")])).await.expect("an answer");
    assert_eq!(answer.metadata().get("x-request-id").expect("an id"), "me-7");
    let request = with(deletion("abc"), &[("x-request-id", "me-8")]);
    let (status, _) = refused(orders.upsert_order(request).await, "invalid_request");
    assert_eq!(text(&status, "x-request-id").as_deref(), Some("me-8"));
    let mut generated = BTreeSet::new();
    for id in ["two words", &"x".repeat(129)] {
        let answer = orders.health(with(HealthRequest {}, &[("x-request-id", id)])).await.expect("an answer");
        let given =
            answer.metadata().get("x-request-id").expect("an id").to_str().expect("a text").to_owned();
        assert_ne!(given, id);
        assert!(generated.insert(given), "an id was given twice");
    }
    app.finish().await;
}

pub(super) async fn a_retried_request_is_answered_with_its_first_outcome<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let mut send = async |name, key, message| {
        let answer = orders.upsert_order(with(message, &[(name, key)])).await.expect("an answer");
        let metadata =
            |name: &str| answer.metadata().get(name).map(|it| it.to_str().expect("a text").to_owned());
        let (replayed, version) = (metadata("idempotency-replayed"), metadata("order-version"));
        let message = answer.into_inner();
        (message.order_id, message.status, version, replayed)
    };
    let expected = |id: &str, word: &str, version: &str, replayed: bool| {
        let replayed = replayed.then(|| "true".to_owned());
        (id.to_owned(), word.to_owned(), Some(version.to_owned()), replayed)
    };
    let [name, other] = KEYS;
    let created = send(name, "k-create", creation("[1]")).await;
    let id = created.0.clone();
    assert_eq!(created, expected(&id, "created", "1", false));
    assert_eq!(send(name, "k-create", creation("[1]")).await, expected(&id, "created", "1", true));
    assert_eq!(send(other, "\"k-create\"", creation("[1]")).await, expected(&id, "created", "1", true));
    assert_eq!(send(other, "k-update", update(&id, "[2]")).await, expected(&id, "updated", "2", false));
    assert_eq!(send(name, "k-update", update(&id, "[2]")).await, expected(&id, "updated", "2", true));
    assert_eq!(send(name, "k-delete", deletion(&id)).await, expected(&id, "deleted", "3", false));
    assert_eq!(send(name, "k-delete", deletion(&id)).await, expected(&id, "deleted", "3", true));
    assert_eq!(app.finish().await.events.len(), 3, "a replayed request publishes no event");
}

pub(super) async fn a_key_of_another_request_is_refused<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let key = [("request_id", "k-1")];
    upserted(orders.upsert_order(with(creation("[1]"), &key)).await, "created");
    refused(orders.upsert_order(with(creation("[2]"), &key)).await, "idempotency_key_reused");
    assert_eq!(app.finish().await.events.len(), 1);
}

pub(super) async fn a_malformed_key_is_refused<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    for name in KEYS {
        for key in ["", "\"open", &"k".repeat(256)] {
            let answer = orders.upsert_order(with(creation("{}"), &[(name, key)])).await;
            let (_, detail) = refused(answer, "invalid_request");
            assert!(detail.starts_with(&format!("{name}: ")), "{detail}");
        }
    }
    let two = [("request_id", "a"), ("idempotency-key", "b")];
    let (_, detail) = refused(orders.upsert_order(with(creation("{}"), &two)).await, "invalid_request");
    assert!(detail.contains("one key"), "{detail}");
    assert!(app.finish().await.events.is_empty());
}

pub(super) async fn an_order_is_changed_only_in_the_requested_version<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let id = create(&mut orders, r#"{"amount":1}"#).await;
    let first = [("if-version", "1")];
    let changed = orders.upsert_order(with(update(&id, r#"{"amount":2}"#), &first)).await;
    assert_eq!(changed.as_ref().expect("a change").metadata().get("order-version").expect("one"), "2");
    for request in [update(&id, r#"{"amount":3}"#), deletion(&id)] {
        let (status, _) = refused(orders.upsert_order(with(request, &first)).await, "precondition_failed");
        assert_eq!(status.code(), tonic::Code::Aborted);
        assert_eq!(text(&status, "current-version").as_deref(), Some("2"));
        assert_eq!(text(&status, "order-id"), Some(id.clone()));
    }
    assert_eq!(order(&mut orders, &id).await.amount, 2.0);
    upserted(orders.upsert_order(with(deletion(&id), &[("if-version", "2")])).await, "deleted");
    assert_eq!(app.finish().await.events.len(), 3);
}

pub(super) async fn a_malformed_version_is_refused<B: Backend>() {
    let app = B::start(Setup::new()).await;
    let mut orders = app.grpc();
    let id = create(&mut orders, "{}").await;
    for version in ["", "x", "-1", "1.5", "\"1\"", "99999999999999999999"] {
        let answer = orders.upsert_order(with(update(&id, "{}"), &[("if-version", version)])).await;
        let (_, detail) = refused(answer, "invalid_request");
        assert!(detail.starts_with("if-version: "), "{detail}");
    }
    let two = [("if-version", "1"), ("if-version", "2")];
    refused(orders.upsert_order(with(update(&id, "{}"), &two)).await, "invalid_request");
    let answer = orders.upsert_order(with(creation("{}"), &[("if-version", "1")])).await;
    let (_, detail) = refused(answer, "invalid_request");
    assert!(detail.contains("no version yet"), "{detail}");
    assert_eq!(app.finish().await.events.len(), 1);
}
