//! Unfinished work of clients: calls without an end, answers that the client does not read while it reads others,
//! silent connections while the process stops, and connections whose peer is gone.

use std::fs;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::bystander::{BYSTANDER, BystanderClient, create_large, exchange};
use super::peer::{ATTACKER, connect_from, send_and_never_read};
use super::stalled::Stalled;
use super::target::{Launch, Store, assert_small};
use crate::clients::USER;
use crate::clients::answers::order_id;
use crate::clients::grpc::path;
use crate::clients::grpc::proto::orders::service::v1::GetOrderByIdRequest;
use crate::harness::wait::{until, within};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_checks_are_bounded_and_ended_and_others_are_answered() {
    let target = Launch::on(Store::Embedded).start().await;
    let bystander = BystanderClient::start(&target);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Stalled::connect(ATTACKER, target.grpc, 1 << 16).await;
        for _ in 0..100 {
            assert!(client.begin(CHECK, &[0, 0]).await, "a stream");
        }
        held.push(client);
    }
    let mut other = Stalled::connect(BYSTANDER, target.grpc, 1 << 16).await;
    assert!(other.call(CHECK, &[]).await, "a stream");
    let answer = other.headers().await.pop().unwrap().expect("an answer");
    assert!(!answer.contains_key("grpc-status"), "{answer:?}");
    let mut codes = Vec::new();
    for client in &mut held {
        // Each call gets an answer.
        for answer in client.headers().await {
            codes.push(answer.expect("an answer").get("problem-code").expect("a refusal").clone());
        }
    }
    let overloaded = codes.iter().filter(|code| *code == "overloaded").count();
    assert!((1..codes.len()).contains(&overloaded), "{overloaded} of {}", codes.len());
    bystander.report().await.assert_undisturbed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_with_an_unfinished_request_is_ended() {
    let target = Launch::on(Store::Embedded).start().await;
    let mut client = Stalled::connect(ATTACKER, target.grpc, 1 << 16).await;
    assert!(client.begin(WATCH, &[0, 0]).await, "a stream");
    let answer = client.headers().await.pop().unwrap().expect("an answer");
    assert!(answer.contains_key("grpc-status"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_answer_ends_its_connection_beside_answers_that_are_read() {
    let target = Launch::on(Store::Embedded).set("HTTP_WRITE_TIMEOUT", "500ms").start().await;
    let message = GetOrderByIdRequest { order_id: create_large(target.http, 1).await }.encode_to_vec();
    // Small answers fit into the window of their stream; the large one does not.
    let mut client = Stalled::connect(ATTACKER, target.grpc, 1 << 10).await;
    assert!(client.call(&path("GetOrderByID"), &message).await, "a stream");
    assert_eq!(client.heads().await, [Some(200)]);
    until("the connection to be cut", async || {
        let answered = client.call(&path("Health"), &[]).await && client.heads().await == [Some(200)];
        (!answered).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_do_not_delay_the_stop() {
    // A stop that waited for one of them would take this long.
    let target = Launch::on(Store::Embedded).set("SHUTDOWN_TIMEOUT", "1h").start().await;
    let mut silent = Vec::new();
    for port in [target.http, target.grpc] {
        silent.push(connect_from(ATTACKER, port).await.unwrap());
        let mut begun = connect_from(ATTACKER, port).await.unwrap();
        begun.write_all(b"P").await.unwrap();
        silent.push(begun);
    }
    let mut used = connect_from(ATTACKER, target.http).await.unwrap();
    used.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    within("an answer", used.read_exact(&mut [0; 12])).await.unwrap();
    let _calls = Stalled::connect(ATTACKER, target.grpc, 1 << 16).await;
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_answers_do_not_delay_the_stop() {
    let launch = Launch::on(Store::Embedded).set("SHUTDOWN_TIMEOUT", "1h").set("HTTP_WRITE_TIMEOUT", "1h");
    let target = launch.start().await;
    let order_id = create_large(target.http, 5).await;
    let list = format!("GET /orders?user_id={USER} HTTP/1.1\r\nhost: localhost\r\n\r\n").repeat(4);
    let _unread = send_and_never_read(ATTACKER, target.http, 3, list.as_bytes()).await;
    let mut calls = Stalled::connect(ATTACKER, target.grpc, 1 << 10).await;
    assert!(calls.call(&path("GetOrderByID"), &GetOrderByIdRequest { order_id }.encode_to_vec()).await);
    assert_eq!(calls.heads().await, [Some(200)]);
    target.stop().await;
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The beginning of a connection that receives no message, and `count` calls of a path.
fn calls(path: &str, count: u32) -> Vec<u8> {
    // Literals without an index (RFC 7541, section 6.2.2).
    let header = |(name, value): (&str, &str)| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    let pseudo = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "target")];
    let head = [&pseudo[..], &[("content-type", "application/grpc"), ("te", "trailers")]].concat();
    let head: Vec<u8> = head.into_iter().flat_map(header).collect();
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
    let call = |number| [frame(1, 4, 2 * number + 1, &head), frame(0, 1, 2 * number + 1, &[0; 5])].concat();
    [begin, (0..count).flat_map(call).collect()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_calls_count_until_their_answers_are_sent() {
    for path in ["/no.Service/Method", WATCH, CHECK] {
        let target = Launch::on(Store::Embedded).start().await;
        let bystander = BystanderClient::start(&target);
        let _unread = send_and_never_read(ATTACKER, target.grpc, 800, &calls(path, 120)).await;
        bystander.report().await.assert_undisturbed();
        assert_small(target.id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_whose_callers_are_gone_delay_no_other_reads() {
    let target = Launch::on(Store::Postgres).start().await;
    let large = create_large(target.http, 1).await;
    let body = format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#);
    let created = exchange(target.http, "POST /orders HTTP/1.1\r\n", &body).await.unwrap();
    let (get, small) =
        (format!("GET /orders/{large} HTTP/1.1\r\nhost: localhost\r\n\r\n"), order_id(&created));
    for _ in 0..20 {
        for _ in 0..200 {
            let mut stream = connect_from(ATTACKER, target.http).await.unwrap();
            stream.write_all(get.as_bytes()).await.unwrap();
            stream.set_zero_linger().unwrap();
        }
        let line = format!("GET /orders/{small} HTTP/1.1\r\n");
        let answer = within("an answer", exchange(target.http, &line, "")).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_small(target.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_system_probes_the_peer_of_a_silent_connection() {
    let launch = Launch::on(Store::Embedded).set("HTTP_IDLE_TIMEOUT", "1h").set("HTTP_HEADER_TIMEOUT", "1h");
    let target = launch.start().await;
    for port in [target.http, target.grpc] {
        let stream = connect_from(ATTACKER, port).await.unwrap();
        let (client_port, target_port) = (stream.local_addr().unwrap().port(), port.port());
        // See proc_pid_net(5): state 01 is an open connection, timer 02 is the timer of the keepalive probe, and its
        // time is in hundredths of a second.
        let left = until("the timer of the connection", async || {
            let table = fs::read_to_string("/proc/net/tcp").unwrap();
            table.lines().find_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let is_ours = fields.get(1)?.ends_with(&format!(":{target_port:04X}"))
                    && fields.get(2)?.ends_with(&format!(":{client_port:04X}"))
                    && *fields.get(3)? == "01";
                let left = fields.get(5)?.strip_prefix("02:").filter(|_| is_ours)?;
                u64::from_str_radix(left, 16).ok()
            })
        })
        .await;
        assert!(left <= 20 * 100, "{left}");
    }
}
