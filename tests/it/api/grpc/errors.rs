//! Problems as gRPC reports them: those that the other files do not cause. They are a method that does not exist, a
//! store that is unavailable, a commit with an unknown outcome and a defect in the process. Hooks in the process cause
//! the last two.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use orderstream::worker::AmountProcessor;
use tempfile::TempDir;
use tonic::Code;

use crate::clients::UNKNOWN_ID;
use crate::clients::grpc::proto::orders::service::v1::GetOrderByIdRequest;
use crate::clients::grpc::{
    GRPC, SERVICE, connect, create, creation, deletion, framed, path, post, raw, refused, text, update,
    upserted,
};
use crate::faults::hooks::{Hook, Pass, Point};
use crate::harness::app::{TestApp, listen};
use crate::harness::ledger;
use crate::harness::system::{System, settings};

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let app = TestApp::embedded().start().await;
    for path in ["/", "/orders", &format!("/{SERVICE}"), &format!("/{SERVICE}/Drop"), "/other.Service/Health"]
    {
        let (_, detail) = refused(raw(app.grpc, path, &[GRPC], &framed(&[])).await, "route_not_found");
        assert!(detail.contains("UpsertOrder"), "{detail}");
    }
    app.finish().await;
}

#[tokio::test]
async fn calls_are_unavailable_and_store_nothing_without_a_store() {
    let app = TestApp::embedded().start().await;
    let mut orders = connect(app.grpc);
    let id = create(&mut orders, "{}").await;
    app.store.close().await;
    for request in [creation("{}"), update(&id, "{}"), deletion(&id)] {
        refused(orders.upsert_order(request).await, "store_unavailable");
    }
    let request = GetOrderByIdRequest { order_id: id.clone() };
    refused(orders.get_order_by_id(request).await, "store_unavailable");
    let app = app.restart().await;
    assert_eq!(app.finish().await.events.len(), 1);
}

async fn system(folder: &TempDir, hook: Hook) -> (System, std::net::SocketAddr) {
    let (listeners, _, address) = listen().await;
    let processor = Arc::new(AmountProcessor::default());
    (System::hooked(&settings(folder.path()), processor, listeners, hook), address)
}

#[tokio::test]
async fn a_commit_that_fails_half_way_has_an_unknown_outcome() {
    let folder = TempDir::new().unwrap();
    let torn =
        |point: Point<'_>| if matches!(point, Point::Commit(_)) { Pass::OutcomeLost } else { Pass::On };
    let (system, address) = system(&folder, Arc::new(torn)).await;
    let (status, _) = refused(connect(address).upsert_order(creation("{}")).await, "outcome_unknown");
    assert_eq!(status.code(), Code::Unknown);
    let id = text(&status, "order-id").expect("an id to look for");
    // Here the order was stored, and a read shows it.
    let request = GetOrderByIdRequest { order_id: id.clone() };
    connect(address).get_order_by_id(request).await.expect("the order");
    system.processed(&id).await;
    system.stop().await;
    assert_eq!(ledger::settled_orders(folder.path()).await.len(), 1);
}

#[tokio::test]
async fn a_defect_is_internal_and_the_next_call_is_served() {
    let folder = TempDir::new().unwrap();
    let broken = |point: Point<'_>| match point {
        Point::Read => panic!("on purpose, by a test"),
        _ => Pass::On,
    };
    let (system, address) = system(&folder, Arc::new(broken)).await;
    let mut orders = connect(address);
    let request = GetOrderByIdRequest { order_id: UNKNOWN_ID.to_owned() };
    let (_, detail) = refused(orders.get_order_by_id(request).await, "internal");
    assert!(!detail.contains("on purpose"), "{detail}");
    upserted(orders.upsert_order(creation("{}")).await, "created");
    system.stop().await;
}

#[tokio::test]
async fn a_request_without_the_content_type_of_grpc_is_a_415() {
    let app = TestApp::embedded().start().await;
    for headers in [&[][..], &[("content-type", "application/json")]] {
        let (status, answer) = post(app.grpc, &path("Health"), headers, Full::new(Bytes::new())).await;
        assert_eq!(status, 415, "{answer:?}");
    }
    app.finish().await;
}
