//! The stop of a process: it finishes and answers the calls that are in flight, and open streams do not delay it.
//! A stream of reflection stands for the streams that a client never ends: it stays open as long as its client does.

use futures_util::stream;
use tokio::net::TcpStream;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::clients::grpc::{channel, connect, creation, upserted};
use crate::harness::app::TestApp;
use crate::harness::processors::Gate;
use crate::harness::wait::{until, within};

#[tokio::test]
async fn a_call_in_flight_when_the_stop_begins_is_finished() {
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
async fn a_stream_that_a_client_keeps_open_does_not_delay_the_stop() {
    let app = TestApp::embedded().start().await;
    let mut client = ServerReflectionClient::new(channel(app.grpc));
    let request = ServerReflectionRequest::default();
    let endless = stream::unfold(Some(request), async |request| match request {
        Some(request) => Some((request, None)),
        None => std::future::pending().await,
    });
    let mut answers = client.server_reflection_info(endless).await.expect("an answer").into_inner();
    // The time limit of the stop is as long as the guard's: a stop that waits for its limit fails here.
    within("the stop", app.finish()).await;
    while let Ok(Some(_)) = within("the end of the stream", answers.message()).await {}
}
