//! The limits of gRPC, which are those of HTTP: the size of a message, the time to send it, the memory of the calls in
//! flight and the time in which a connection must identify its protocol. Many calls share one connection.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use orderstream::config::Settings;
use prost::Message;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::clients::UNKNOWN_ID;
use crate::clients::USER;
use crate::clients::answers::problem;
use crate::clients::grpc::proto::orders::service::v1::{GetOrderByIdRequest, UpsertOrderRequest};
use crate::clients::grpc::{
    GRPC, channel, connect, create, creation, framed, order, path, post, raw, refused, upserted,
};
use crate::clients::http::raw as raw_bytes;
use crate::harness::app::TestApp;
use crate::harness::wait::until;

const MIB: usize = 1 << 20;

/// A creation whose message has that many bytes.
fn message_of(size: usize) -> UpsertOrderRequest {
    // From 16 KiB on, the length of the filling takes three bytes, as it does at the limit.
    let frame = creation(&format!("\"{}\"", "x".repeat(1 << 16))).encoded_len() - (1 << 16);
    let message = creation(&format!("\"{}\"", "x".repeat(size - frame)));
    assert_eq!(message.encoded_len(), size);
    message
}

#[tokio::test]
async fn a_message_of_the_limit_is_accepted_and_a_longer_one_refused() {
    let app = TestApp::embedded().start().await;
    let mut orders = connect(app.grpc);
    upserted(orders.upsert_order(message_of(MIB)).await, "created");
    for size in [MIB + 1, 2 * MIB - 1] {
        let (status, detail) = refused(orders.upsert_order(message_of(size)).await, "body_too_large");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(detail.contains("1048576 bytes"), "{detail}");
        // The connection stays usable.
        create(&mut orders, "{}").await;
    }
    // A message whose announced length is too large is refused before its body arrives.
    let announced = [&[0], &u32::MAX.to_be_bytes()[..]].concat();
    let answer = raw(app.grpc, &path("UpsertOrder"), &[GRPC], &announced).await;
    refused(answer, "body_too_large");
    assert_eq!(app.finish().await.events.len(), 3);
}

#[tokio::test]
async fn a_compressed_message_is_refused_with_the_accepted_encoding() {
    let app = TestApp::embedded().start().await;
    let mut message = framed(&creation("{}").encode_to_vec());
    message[0] = 1;
    for headers in [&[GRPC][..], &[GRPC, ("grpc-encoding", "gzip")], &[GRPC, ("grpc-encoding", "identity")]] {
        let answer = raw(app.grpc, &path("UpsertOrder"), headers, &message).await;
        let (status, _) = refused(answer, "unsupported_content_encoding");
        assert_eq!(status.code(), Code::Unimplemented);
        let accepted = status.metadata().get("grpc-accept-encoding").expect("the accepted encoding");
        assert_eq!(accepted, "identity");
    }
    assert!(app.finish().await.events.is_empty());
}

#[tokio::test]
async fn an_unreadable_message_is_refused() {
    let app = TestApp::embedded().start().await;
    let whole = framed(&creation("{}").encode_to_vec());
    let half = &whole[..whole.len() - 1];
    let two = [whole.clone(), whole.clone()].concat();
    // A field of ours with another type, a text that is not UTF-8, a length beyond the end.
    let unreadable = [framed(&[0x08, 0x01]), framed(&[0x0a, 0x01, 0xff]), framed(&[0x0a, 0x7f])];
    for body in [&[], &whole[..3], half, &two].into_iter().chain(unreadable.iter().map(Vec::as_slice)) {
        let (_, detail) =
            refused(raw(app.grpc, &path("UpsertOrder"), &[GRPC], body).await, "invalid_request");
        assert!(detail.starts_with("body: "), "{detail}");
    }
    assert!(app.finish().await.events.is_empty());
}

#[tokio::test]
async fn a_message_that_arrives_too_late_is_refused() {
    let short_timeouts = |settings: &mut Settings| settings.http_body_timeout = Duration::from_millis(200);
    let app = TestApp::embedded().settings(short_timeouts).start().await;
    for beginning in [&[][..], &[0, 0], &[0, 0, 0, 0, 9, 1]] {
        let first = Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(beginning)));
        let endless = futures_util::stream::unfold(Some(first), async |first| match first {
            Some(first) => Some((first, None)),
            None => std::future::pending().await,
        });
        let (_, answer) =
            post(app.grpc, &path("UpsertOrder"), &[GRPC], StreamBody::new(Box::pin(endless))).await;
        let status = Status::from_header_map(&answer).expect("a status");
        let (_, detail) = refused::<()>(Err(status), "body_timeout");
        assert!(detail.contains("0.2 seconds"), "{detail}");
    }
    assert!(app.finish().await.events.is_empty());
}

/// Sets the memory for three calls in flight: each counts 8 KiB and its message, rounded up to 9 KiB.
fn memory_for_three(settings: &mut Settings) {
    settings.http_body_limit = 1024;
    settings.http_memory_budget = 27 * 1024;
}

#[tokio::test]
async fn calls_and_requests_beyond_the_memory_budget_are_refused() {
    let mut app = TestApp::embedded().settings(memory_for_three).without_worker().start().await;
    let address = app.grpc;
    let accepted_calls = [(); 3].map(|()| {
        tokio::spawn(async move { connect(address).upsert_order(creation(r#"{"amount":1}"#)).await })
    });
    // All three wait for the worker, and hold their share of the memory.
    app.journal.until(|traffic| traffic.events.len() == 3).await;
    let mut orders = connect(app.grpc);
    refused(orders.upsert_order(creation("{}")).await, "overloaded");
    let request = GetOrderByIdRequest { order_id: UNKNOWN_ID.to_owned() };
    refused(orders.get_order_by_id(request).await, "overloaded");
    let body = format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#);
    problem(&app.client.post("/orders", body).await, "overloaded");
    let request = HealthCheckRequest::default();
    HealthClient::new(channel(app.grpc)).check(request).await.expect("an answer while the memory is used up");
    app.start_worker();
    for call in accepted_calls {
        upserted(call.await.expect("an answer"), "created");
    }
    create(&mut orders, "{}").await;
    assert_eq!(app.finish().await.events.len(), 4, "no refused request was stored");
}

#[tokio::test]
async fn many_calls_share_a_connection_and_each_gets_its_own_answer() {
    let app = TestApp::embedded().start().await;
    let orders = connect(app.grpc);
    let calls = (0..200).map(|number| {
        let mut orders = orders.clone();
        async move {
            let id = create(&mut orders, &format!(r#"{{"amount":{number}}}"#)).await;
            assert_eq!(order(&mut orders, &id).await.amount, f64::from(number));
            id
        }
    });
    let ids: BTreeSet<String> = join_all(calls).await.into_iter().collect();
    assert_eq!(ids.len(), 200);
    // The first sweep may publish an event a second time while the relay publishes it: it is the same event, and
    // changes nothing.
    let keys = app.finish().await.events.into_iter().map(|event| event.key.expect("the order's id"));
    let published: BTreeSet<String> = keys.map(|key| String::from_utf8(key).expect("an id")).collect();
    assert_eq!(published, ids);
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let short_timeouts = |settings: &mut Settings| settings.http_header_timeout = Duration::from_millis(200);
    let app = TestApp::embedded().settings(short_timeouts).start().await;
    for beginning in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        assert!(raw_bytes(app.grpc, beginning).await.is_empty());
    }
    // A connection that identifies its protocol, and then does not answer a ping.
    let settings_frame = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let greeting = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &settings_frame].concat();
    raw_bytes(app.grpc, &greeting).await;
    // A connection that sends a call in time is served; a slow test may send it too late.
    until("a call in time", async || connect(app.grpc).upsert_order(creation("{}")).await.ok()).await;
    app.finish().await;
}

#[tokio::test]
async fn http_1_on_the_grpc_port_is_answered_with_a_hint() {
    let app = TestApp::embedded().start().await;
    let answer = raw_bytes(app.grpc, b"GET /orders HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let answer = String::from_utf8(answer).expect("a text");
    assert!(answer.starts_with("HTTP/1.1 505 ") && answer.contains("API_PORT"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
    app.finish().await;
}
