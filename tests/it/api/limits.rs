//! The limits of HTTP: the size of a body, the time for heads and bodies, the memory of the requests in flight and the
//! number of connections. Beyond each limit the client gets the documented answer, no change is half done, and health
//! checks are answered while other requests are refused.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use orderstream::config::Settings;
use orderstream::order::OrderId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clients::USER;
use crate::clients::answers::{create, member, order, problem};
use crate::clients::http::{Answer, Client, GUARD, raw};
use crate::harness::app::TestApp;
use crate::harness::wait::until;

const MIB: usize = 1 << 20;

const HEAD: &str = "POST /orders HTTP/1.1\r\nhost: localhost\r\n";

/// A creation of exactly that many bytes.
fn body_of(size: usize) -> String {
    let frame = format!(r#"{{"user_id":"{USER}","payload":""}}"#);
    let filling = "x".repeat(size - frame.len());
    frame.replace(r#""payload":"""#, &format!(r#""payload":"{filling}""#))
}

/// A creation on its own connection, with the length of the body in the head.
fn with_length(body: &str) -> Vec<u8> {
    format!("{HEAD}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The same with the body in chunks.
fn chunked(body: &str) -> Vec<u8> {
    let mut bytes = format!("{HEAD}connection: close\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.as_bytes().chunks(65_536) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[tokio::test]
async fn a_body_of_the_limit_is_accepted_and_a_longer_one_refused() {
    let app = TestApp::embedded().start().await;
    for shape in [with_length, chunked] {
        let accepted = raw(app.address, &shape(&body_of(MIB))).await;
        assert_eq!(Answer::read(&accepted).status, 201);
        for size in [MIB + 1, 10 * MIB] {
            let answer = Answer::read(&raw(app.address, &shape(&body_of(size))).await);
            let detail = problem(&answer, "body_too_large");
            assert!(detail.contains("1048576 bytes"), "{detail}");
            assert_eq!(app.client.get("/health/live").await.status, 200);
        }
    }
    assert_eq!(app.finish().await.events.len(), 2);
}

#[tokio::test]
async fn a_body_announced_above_the_limit_is_refused_before_it_arrives() {
    let app = TestApp::embedded().start().await;
    for length in ["1048577", "10000000000000000000"] {
        let head = format!("{HEAD}content-length: {length}\r\n\r\n");
        let answer = Answer::read(&raw(app.address, head.as_bytes()).await);
        problem(&answer, "body_too_large");
    }
    app.finish().await;
}

#[tokio::test]
async fn a_body_that_arrives_too_late_is_a_408() {
    let short_timeouts = |settings: &mut Settings| settings.http_body_timeout = Duration::from_millis(200);
    let app = TestApp::embedded().settings(short_timeouts).start().await;
    for beginning in ["", "{", r#"{"user_id":"#] {
        let bytes = format!("{HEAD}content-length: 100\r\n\r\n{beginning}");
        let answer = Answer::read(&raw(app.address, bytes.as_bytes()).await);
        let detail = problem(&answer, "body_timeout");
        assert!(detail.contains("0.2 seconds"), "{detail}");
        assert_eq!(app.client.get("/health/live").await.status, 200);
    }
    // A deletion takes no body, and still waits as long for one that does not end.
    let path = format!("/orders/{}", OrderId::generate());
    let head = format!("DELETE {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    problem(&Answer::read(&raw(app.address, head.as_bytes()).await), "body_timeout");
    assert!(app.finish().await.events.is_empty());
}

#[tokio::test]
async fn a_body_that_trickles_steadily_is_a_408() {
    let short_timeouts = |settings: &mut Settings| settings.http_body_timeout = Duration::from_millis(200);
    let app = TestApp::embedded().settings(short_timeouts).start().await;
    let stream = TcpStream::connect(app.address).await.expect("a connection");
    let (mut reader, mut writer) = stream.into_split();
    let trickle = async {
        let head = format!("{HEAD}content-length: 1000000\r\n\r\n");
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let mut written = writer.write_all(head.as_bytes()).await;
        while written.is_ok() {
            ticks.tick().await;
            written = writer.write_all(b" ").await;
        }
    };
    let mut answer = Vec::new();
    // Reading may end with a reset, because the server closes with unread bytes; the answer arrives before that.
    let read = timeout(GUARD, async { tokio::join!(trickle, reader.read_to_end(&mut answer)) }).await;
    assert!(read.is_ok(), "the server does not end a trickle");
    problem(&Answer::read(&answer), "body_timeout");
    app.finish().await;
}

#[tokio::test]
async fn a_head_that_arrives_too_late_closes_the_connection() {
    let short_timeouts = |settings: &mut Settings| {
        settings.http_header_timeout = Duration::from_millis(200);
        settings.http_idle_timeout = Duration::from_millis(200);
    };
    let app = TestApp::embedded().settings(short_timeouts).start().await;
    for beginning in ["", "GET", "GET /health HTTP/1.1\r\nhost: localhost\r\n"] {
        let answer = raw(app.address, beginning.as_bytes()).await;
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    }
    // A head that arrives in time is answered, and then the idle connection is closed. A slow test may be too late.
    let idle = until("an answer to a head in time", async || {
        let answer = raw(app.address, b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        (!answer.is_empty()).then_some(answer)
    })
    .await;
    assert_eq!(Answer::read(&idle).status, 200);
    app.finish().await;
}

/// Sets the memory for three requests in flight: each counts 8 KiB and its body, rounded up to 9 KiB.
fn memory_for_three(settings: &mut Settings) {
    settings.http_body_limit = 1024;
    settings.http_memory_budget = 27 * 1024;
}

#[tokio::test]
async fn requests_beyond_the_memory_budget_are_refused_and_accepted_ones_finish() {
    let mut app = TestApp::embedded().settings(memory_for_three).without_worker().start().await;
    let body = |name: &str| format!(r#"{{"user_id":"{USER}","payload":{{"id":"{name}"}}}}"#);
    let callers = Client::new(app.address);
    let accepted = join_all(["a", "b", "c"].map(|name| callers.post("/orders", body(name))));
    let rest = async {
        // All three wait for the worker, and hold their share of the memory.
        app.journal.until(|traffic| traffic.events.len() == 3).await;
        for _ in 0..3 {
            for (method, path) in [("POST", "/orders"), ("GET", "/nothing"), ("GET", "/problems/internal")] {
                let answer = app.client.request(method, path, &[], body("late")).await;
                problem(&answer, "overloaded");
            }
            assert_eq!(app.client.get("/health/live").await.status, 200);
            assert_eq!(app.client.get("/health").await.status, 200);
            assert_eq!(app.client.get("/health/ready").await.status, 200);
        }
    };
    tokio::pin!(accepted);
    tokio::select! {
        answers = &mut accepted => panic!("answered without a worker: {answers:?}"),
        () = rest => {}
    }
    app.start_worker();
    let answers = accepted.await;
    for (answer, name) in answers.iter().zip(["a", "b", "c"]) {
        assert_eq!(answer.status, 201, "{answer:?}");
        let shown = order(&app.client, &member(answer.text(), "order_id")).await;
        assert_eq!(member(&shown, "status"), "done");
        assert_eq!(member(&member(&shown, "payload"), "id"), name);
    }
    create(&app.client, "{}").await;
    assert_eq!(app.finish().await.events.len(), 4, "no refused request was stored");
}

#[tokio::test]
async fn orders_answered_202_under_load_are_processed_once_a_worker_starts() {
    let setup = TestApp::embedded().settings(memory_for_three).without_worker();
    let mut app =
        setup.settings(|settings| settings.ack_wait_timeout = Duration::from_millis(100)).start().await;
    let body = format!(r#"{{"user_id":"{USER}","payload":{{"amount":1}}}}"#);
    let answers = join_all((0..20).map(|_| app.client.post("/orders", body.clone()))).await;
    let accepted: Vec<_> = answers.iter().filter(|answer| answer.status == 202).collect();
    // There is memory for the first three; how many more are accepted depends on how soon the first are answered.
    assert!(accepted.len() >= 3, "{}", accepted.len());
    for refused in answers.iter().filter(|answer| answer.status != 202) {
        problem(refused, "overloaded");
    }
    app.start_worker();
    for answer in &accepted {
        let id = member(answer.text(), "order_id");
        app.journal.until(|traffic| !traffic.acks_of(&id).is_empty()).await;
        assert_eq!(member(&order(&app.client, &id).await, "status"), "done");
    }
    let count = accepted.len();
    assert_eq!(app.finish().await.events.len(), count);
}

#[tokio::test]
async fn a_connection_beyond_the_cap_is_served_when_another_one_closes() {
    let cap = |settings: &mut Settings| settings.max_connections = NonZeroU32::MIN;
    let mut app = TestApp::embedded().settings(cap).start().await;
    assert_eq!(app.client.get("/health").await.status, 200);
    let mut second = TcpStream::connect(app.address).await.expect("the operating system's queue");
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    second.write_all(request).await.expect("a socket that takes bytes");
    // The first connection stays usable while the second waits.
    for _ in 0..100 {
        assert_eq!(app.client.get("/health").await.status, 200);
    }
    let nothing = second.try_read(&mut [0; 1]).expect_err("no answer yet");
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    app.client = Client::new(app.address);
    let mut answer = Vec::new();
    let read = timeout(GUARD, second.read_to_end(&mut answer)).await;
    read.expect("an answer in time").expect("a complete answer");
    assert_eq!(Answer::read(&answer).status, 200);
    app.finish().await;
}
