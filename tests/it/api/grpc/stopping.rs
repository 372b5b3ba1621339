//! The process is told to stop: a call under way is finished and answered, and no stream holds the stop up.

use futures_util::stream;
use tokio::net::TcpStream;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::clients::grpc::{channel, connect, creation, upserted};
use crate::harness::app::TestApp;
use crate::harness::processors::Gate;
use crate::harness::wait::{until, within};

#[tokio::test]
async fn a_call_that_is_under_way_when_the_stop_begins_is_finished() {
    let gate = Gate::shut();
    let app = TestApp::embedded().processor(gate.clone()).start().await;
    let address = app.grpc;
    let call = tokio::spawn(async move { connect(address).upsert_order(creation("{}")).await });
    app.journal.until(|traffic| traffic.events.len() == 1).await;
    let stopping = tokio::spawn(app.finish());
    until("the listener to be closed", async || TcpStream::connect(address).await.err()).await;
    gate.open();
    upserted(call.await.expect("an answer"), "created");
    assert_eq!(stopping.await.expect("an orderly stop").events.len(), 1);
}

#[tokio::test]
async fn a_stream_that_its_caller_keeps_open_does_not_hold_the_stop_up() {
    let app = TestApp::embedded().start().await;
    let mut client = ServerReflectionClient::new(channel(app.grpc));
    let asked = ServerReflectionRequest::default();
    let endless = stream::unfold(Some(asked), async |asked| match asked {
        Some(asked) => Some((asked, None)),
        None => std::future::pending().await,
    });
    let mut answers = client.server_reflection_info(endless).await.expect("an answer").into_inner();
    // The limit of the stop is as long as the guard is patient.
    within("the stop", app.finish()).await;
    while let Ok(Some(_)) = within("the end of the stream", answers.message()).await {}
}
