//! A caller's deadline: the server answers before it where it can, and begins nothing after it. Without a worker, a
//! call is answered as accepted shortly before its deadline; a commit that takes longer has an unknown outcome.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderstream::worker::AmountProcessor;
use prost::Message;
use tempfile::TempDir;
use tonic::Request;

use crate::clients::USER;
use crate::clients::grpc::{self, GRPC, connect, creation, framed, path, raw, refused, upserted};
use crate::clients::http::GUARD;
use crate::faults::hooks::{Pass, Point};
use crate::harness::app::{TestApp, listen};
use crate::harness::ledger;
use crate::harness::processors::Gate;
use crate::harness::system::{System, settings};
use crate::harness::wait::until;

/// A creation as bytes.
fn bytes() -> Vec<u8> {
    framed(&creation(r#"{"id":"A-1","amount":3}"#).encode_to_vec())
}

#[tokio::test]
async fn without_a_worker_the_order_is_accepted_before_the_deadline() {
    let mut app = TestApp::embedded().without_worker().start().await;
    let mut orders = connect(app.grpc);
    let mut request = Request::new(creation(r#"{"amount":3}"#));
    // The wait is limited to thirty seconds; this caller's deadline is three, and its client ends the call then.
    request.set_timeout(Duration::from_secs(3));
    let id = upserted(orders.upsert_order(request).await, "accepted");
    app.start_worker();
    app.journal.until(|traffic| !traffic.acks_of(&id).is_empty()).await;
    assert_eq!(grpc::order(&mut orders, &id).await.status, "done");
    app.finish().await;
}

#[tokio::test]
async fn a_deadline_does_not_enable_the_wait_for_the_worker() {
    let gate = Gate::shut();
    let setup = TestApp::embedded().settings(|settings| settings.ack_wait = false);
    let app = setup.processor(gate.clone()).start().await;
    let mut request = Request::new(creation("{}"));
    request.set_timeout(Duration::from_secs(3600));
    // The gate is shut: a call that waited for the worker would not return here.
    upserted(connect(app.grpc).upsert_order(request).await, "created");
    gate.open();
    app.finish().await;
}

#[tokio::test]
async fn a_call_after_its_deadline_begins_nothing() {
    let app = TestApp::embedded().start().await;
    for timeout in ["0S", "1n"] {
        let answer = raw(app.grpc, &path("UpsertOrder"), &[GRPC, ("grpc-timeout", timeout)], &bytes()).await;
        refused(answer, "deadline_exceeded");
    }
    assert!(app.finish().await.events.is_empty());
}

#[tokio::test]
async fn a_malformed_deadline_is_refused() {
    let app = TestApp::embedded().start().await;
    for timeout in ["", "1", "1s", "123456789S", "-1S", "soon"] {
        let answer = raw(app.grpc, &path("UpsertOrder"), &[GRPC, ("grpc-timeout", timeout)], &bytes()).await;
        let (_, detail) = refused(answer, "invalid_request");
        assert!(detail.starts_with("grpc-timeout: "), "{detail}");
    }
    assert!(app.finish().await.events.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_commit_that_outlasts_the_deadline_may_have_stored_the_order() {
    let folder = TempDir::new().unwrap();
    let (release, held) = sync_channel::<()>(1);
    let held = Mutex::new(held);
    let hook = move |point: Point<'_>| {
        if matches!(point, Point::Commit(_)) {
            held.lock().unwrap().recv_timeout(GUARD).unwrap();
        }
        Pass::On
    };
    let (listeners, _, address) = listen().await;
    let processor = Arc::new(AmountProcessor::default());
    let system = System::hooked(&settings(folder.path()), processor, listeners, Arc::new(hook));
    let answer = raw(address, &path("UpsertOrder"), &[GRPC, ("grpc-timeout", "200m")], &bytes()).await;
    let (_, detail) = refused(answer, "deadline_exceeded");
    assert!(detail.contains("may be stored"), "{detail}");
    release.send(()).unwrap();
    let by_external = format!("/orders/by-external/A-1?user_id={USER}");
    until("the order", async || (system.client.get(&by_external).await.status == 200).then_some(())).await;
    system.stop().await;
    assert_eq!(ledger::settled_orders(folder.path()).await.len(), 1);
}
