//! `grpc.health.v1`: it reports the readiness that `GET /health/ready` reports, at once to `Check` and soon to `Watch`.
//! It follows the store, but not the bus, and reports the stop before the process refuses calls.

use std::time::Duration;

use tonic::Streaming;
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::clients::answers::create as create_over_http;
use crate::clients::grpc::{SERVICE, channel, connect, create};
use crate::harness::app::TestApp;
use crate::harness::wait::within;

use ServingStatus::{NotServing, ServiceUnknown, Serving};

fn request_for(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn check(client: &mut HealthClient<Channel>, service: &str) -> ServingStatus {
    client.check(request_for(service)).await.expect("an answer").into_inner().status()
}

async fn next_status(stream: &mut Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    let next = within("the next status", stream.message()).await;
    next.expect("an unbroken stream").map(|answer| answer.status())
}

#[tokio::test]
async fn health_follows_the_store() {
    let app = TestApp::embedded().start().await;
    create_over_http(&app.client, "{}").await;
    let mut client = HealthClient::new(channel(app.grpc));
    let mut watched = client.watch(request_for(SERVICE)).await.expect("a stream").into_inner();
    assert_eq!(next_status(&mut watched).await, Some(Serving));
    for service in ["", SERVICE] {
        assert_eq!(check(&mut client, service).await, Serving);
    }
    app.bus.set_away(true);
    assert_eq!(check(&mut client, "").await, Serving, "orders are accepted without a bus");
    app.bus.set_away(false);
    app.store.close().await;
    // No client calls `Check`: the watch notices by itself.
    assert_eq!(next_status(&mut watched).await, Some(NotServing));
    assert_eq!(check(&mut client, "").await, NotServing);
    let mut late = client.watch(request_for("")).await.expect("a stream").into_inner();
    assert_eq!(next_status(&mut late).await, Some(NotServing));
    let app = app.restart().await;
    let mut client = HealthClient::new(channel(app.grpc));
    assert_eq!(check(&mut client, SERVICE).await, Serving);
    app.finish().await;
}

#[tokio::test]
async fn check_does_not_find_an_unknown_service_and_watch_reports_it_unknown() {
    let app = TestApp::embedded().start().await;
    let mut client = HealthClient::new(channel(app.grpc));
    let status = client.check(request_for("other.Service")).await.expect_err("no such service");
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert!(status.message().contains(SERVICE), "{status:?}");
    let mut watched = client.watch(request_for("other.Service")).await.expect("a stream").into_inner();
    assert_eq!(next_status(&mut watched).await, Some(ServiceUnknown));
    // A stream that stays open does not delay the stop.
    app.finish().await;
    assert_eq!(next_status(&mut watched).await, None);
}

#[tokio::test]
async fn a_watch_reports_the_stop_while_calls_are_still_taken() {
    let delayed = |settings: &mut orderstream::config::Settings| {
        settings.shutdown_delay = Duration::from_secs(2);
    };
    let app = TestApp::embedded().settings(delayed).start().await;
    let mut client = HealthClient::new(channel(app.grpc));
    let mut watched = client.watch(request_for("")).await.expect("a stream").into_inner();
    assert_eq!(next_status(&mut watched).await, Some(Serving));
    let address = app.grpc;
    let stopping = tokio::spawn(app.finish());
    assert_eq!(next_status(&mut watched).await, Some(NotServing));
    assert_eq!(check(&mut client, "").await, NotServing);
    create(&mut connect(address), "{}").await;
    assert_eq!(next_status(&mut watched).await, None, "the stream ends with the process");
    assert_eq!(stopping.await.expect("an orderly stop").events.len(), 1);
}
