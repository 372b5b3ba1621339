//! The table of problems as it is told over gRPC: those that the other files do not bring about.

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
async fn a_method_that_is_not_there_is_unimplemented() {
    let app = TestApp::embedded().start().await;
    for path in ["/", "/orders", &format!("/{SERVICE}"), &format!("/{SERVICE}/Drop"), "/other.Service/Health"]
    {
        let (_, detail) = refused(raw(app.grpc, path, &[GRPC], &framed(&[])).await, "route_not_found");
        assert!(detail.contains("UpsertOrder"), "{detail}");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_store_that_is_away_is_unavailable_and_nothing_is_stored() {
    let app = TestApp::embedded().start().await;
    let mut orders = connect(app.grpc);
    let id = create(&mut orders, "{}").await;
    app.store.close().await;
    for asked in [creation("{}"), update(&id, "{}"), deletion(&id)] {
        refused(orders.upsert_order(asked).await, "store_unavailable");
    }
    let asked = GetOrderByIdRequest { order_id: id.clone() };
    refused(orders.get_order_by_id(asked).await, "store_unavailable");
    let app = app.restart().await;
    assert_eq!(app.finish().await.events.len(), 1);
}

async fn system(folder: &TempDir, hook: Hook) -> (System, std::net::SocketAddr) {
    let (listeners, _, address) = listen().await;
    let processor = Arc::new(AmountProcessor::default());
    (System::hooked(&settings(folder.path()), processor, listeners, hook), address)
}

#[tokio::test]
async fn a_commit_that_failed_half_way_is_unknown() {
    let folder = TempDir::new().unwrap();
    let torn = |point: Point<'_>| if matches!(point, Point::Commit(_)) { Pass::Torn } else { Pass::On };
    let (system, address) = system(&folder, Arc::new(torn)).await;
    let (status, _) = refused(connect(address).upsert_order(creation("{}")).await, "outcome_unknown");
    assert_eq!(status.code(), Code::Unknown);
    let id = text(&status, "order-id").expect("an id to look for");
    // It was stored, in this case; looking tells.
    let asked = GetOrderByIdRequest { order_id: id.clone() };
    connect(address).get_order_by_id(asked).await.expect("the order");
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
    let asked = GetOrderByIdRequest { order_id: UNKNOWN_ID.to_owned() };
    let (_, detail) = refused(orders.get_order_by_id(asked).await, "internal");
    assert!(!detail.contains("on purpose"), "{detail}");
    upserted(orders.upsert_order(creation("{}")).await, "created");
    system.stop().await;
}

#[tokio::test]
async fn what_is_no_call_at_all_is_a_415() {
    let app = TestApp::embedded().start().await;
    for headers in [&[][..], &[("content-type", "application/json")]] {
        let (status, answer) = post(app.grpc, &path("Health"), headers, Full::new(Bytes::new())).await;
        assert_eq!(status, 415, "{answer:?}");
    }
    app.finish().await;
}
