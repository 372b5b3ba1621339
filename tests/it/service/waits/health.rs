//! Readiness while the store hangs: the service answers it at once, to many clients, over HTTP and gRPC, and names the
//! store. Liveness stays good: a restart of the process would not help.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Embedded, HangableStore, Hanging, Postgres, in_background};
use crate::clients::USER;
use crate::clients::answers::create;
use crate::clients::grpc::channel;
use crate::clients::http::Client;
use crate::harness::wait::until;

/// The limit for an answer about health: a second, and time for a slow machine.
const GUARD: Duration = Duration::from_secs(3);

async fn health_is_answered<P: HangableStore>() {
    let mut system = Hanging::<P>::start().await;
    create(&system.client, r#"{"amount":1}"#).await;
    assert_eq!(system.client.get("/health/ready").await.status, 200);
    system.store.hang();
    // A client writes: without a write the service would not notice that the store hangs.
    let writer = Client::new(system.client.address());
    let _writing = in_background(async move {
        loop {
            let body = format!(r#"{{"user_id":"{USER}","payload":{{"amount":1}}}}"#);
            writer.request("POST", "/orders", &[("prefer", "wait=1")], body).await;
        }
    });
    let client = &system.client;
    until("an api that misses its store", async || {
        let ready = timeout(GUARD, client.get("/health/ready")).await.expect("an answer in time");
        (ready.status == 503 && ready.json()["store"] == "not available").then_some(())
    })
    .await;
    let many = join_all((0..200).map(|_| client.get("/health/ready")));
    let live = client.get("/health/live");
    let mut by_grpc = HealthClient::new(channel(system.grpc()));
    let grpc = by_grpc.check(HealthCheckRequest::default());
    let all = async { tokio::join!(many, live, grpc) };
    let (many, live, grpc) = timeout(GUARD, all).await.expect("answers in time");
    assert!(many.iter().all(|answer| answer.status == 503));
    assert_eq!(live.status, 200);
    assert_eq!(grpc.unwrap().into_inner().status(), ServingStatus::NotServing);
    drop(_writing);
    system.recover().await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_answered_at_once_while_the_embedded_store_hangs() {
    health_is_answered::<Embedded>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_is_answered_at_once_while_postgres_hangs() {
    health_is_answered::<Postgres>().await;
}
