//! The share of one peer: of connections, of streams and of calls. One address cannot use up the share of another, and
//! each client of a trusted proxy has its own share.

use std::net::Ipv4Addr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::bystander::{BYSTANDER, BystanderClient};
use super::peer::{ATTACKER, connect_from, open_idle, read_to_end};
use super::stalled::Stalled;
use super::target::{Launch, Store, Target};
use crate::clients::USER;
use crate::clients::grpc::path;
use crate::clients::http::Answer;
use crate::harness::wait::{until, within};

/// The status of a request on its own connection.
async fn status(source: Ipv4Addr, target: &Target, head: &str) -> u16 {
    let mut stream = connect_from(source, target.http).await.unwrap();
    stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await.unwrap();
    Answer::read(&read_to_end(&mut stream).await).status
}

/// Opens a stream of changes, and returns the status and the connection.
async fn follow(source: Ipv4Addr, target: &Target, headers: &str) -> (u16, TcpStream) {
    let mut stream = connect_from(source, target.http).await.unwrap();
    let head = format!("GET /events?user_id={USER} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    within("a status line", tokio::io::AsyncReadExt::read_exact(&mut stream, &mut begin)).await.unwrap();
    (std::str::from_utf8(&begin[9..]).unwrap().parse().unwrap(), stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_holds_its_share_of_the_streams_and_leaves_the_rest() {
    let target = Launch::on(Store::Embedded).set("HISTORY", "on").set("MAX_STREAMS", "40").start().await;
    let mut held = Vec::new();
    for _ in 0..20 {
        let (status, stream) = follow(ATTACKER, &target, "").await;
        assert_eq!(status, 200);
        held.push(stream);
    }
    assert_eq!(follow(ATTACKER, &target, "").await.0, 503);
    assert_eq!(follow(BYSTANDER, &target, "").await.0, 200);
    held.pop();
    until("a free stream", async || (follow(ATTACKER, &target, "").await.0 == 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_clients_of_a_trusted_proxy_have_their_own_shares() {
    let proxy = Ipv4Addr::new(127, 0, 0, 80);
    let launch = Launch::on(Store::Embedded).set("HISTORY", "on").set("MAX_STREAMS", "40");
    let target = launch.set("TRUSTED_PROXIES", "127.0.0.80/32").start().await;
    let one = "x-forwarded-for: 192.0.2.1, 198.51.100.1\r\n";
    let mut held = Vec::new();
    for source in [proxy; 20] {
        let (status, stream) = follow(source, &target, one).await;
        assert_eq!(status, 200);
        held.push(stream);
    }
    assert_eq!(follow(proxy, &target, one).await.0, 503);
    assert_eq!(follow(proxy, &target, "x-forwarded-for: 198.51.100.2\r\n").await.0, 200);
    assert_eq!(follow(proxy, &target, "forwarded: for=198.51.100.1\r\n").await.0, 503);
    drop(held);
    // Each request of the attacker names another client, and all of them are the attacker's.
    let mut held = Vec::new();
    for client in 0..20 {
        let (status, stream) =
            follow(ATTACKER, &target, &format!("x-forwarded-for: 192.0.2.{client}\r\n")).await;
        assert_eq!(status, 200);
        held.push(stream);
    }
    assert_eq!(follow(ATTACKER, &target, "x-forwarded-for: 192.0.2.99\r\n").await.0, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_closed_for_new_ones_and_busy_ones_are_kept() {
    let launch = Launch::on(Store::Embedded).set("MAX_CONNECTIONS", "40").set("HISTORY", "on");
    let target = launch.start().await;
    let bystander = BystanderClient::start(&target);
    // Twice as many idle connections as the limit allows.
    let idle = (open_idle(ATTACKER, target.http, 80).await, open_idle(ATTACKER, target.grpc, 80).await);
    assert_eq!(status(ATTACKER, &target, "GET /health/live HTTP/1.1\r\nhost: localhost\r\n").await, 200);
    bystander.report().await.assert_undisturbed();
    drop(idle);
    // A share of busy connections: further ones of the attacker are refused, and the bystander does not notice.
    let mut busy = Vec::new();
    until("a share of streams", async || {
        let (status, stream) = follow(ATTACKER, &target, "").await;
        if status == 200 {
            busy.push(stream);
        }
        (busy.len() == 20).then_some(())
    })
    .await;
    let bystander = BystanderClient::start(&target);
    until("the attacker to be refused", async || {
        (status(ATTACKER, &target, "GET /health/live HTTP/1.1\r\nhost: localhost\r\n").await == 503)
            .then_some(())
    })
    .await;
    bystander.report().await.assert_undisturbed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_holds_its_share_of_the_calls_beside_health_checks() {
    let target = Launch::on(Store::Embedded).set("MAX_GRPC_CALLS", "40").start().await;
    let bystander = BystanderClient::start(&target);
    let mut held = Stalled::connect(ATTACKER, target.grpc, 1 << 16).await;
    for _ in 0..20 {
        assert!(held.begin(&path("UpsertOrder"), &[0, 0, 0, 1, 0, 1]).await, "a stream");
    }
    let mut more = Stalled::connect(ATTACKER, target.grpc, 1 << 16).await;
    until("the share to be used up", async || {
        more.call(&path("Health"), &[]).await;
        let headers = more.headers().await.pop()??;
        (headers.get("grpc-status")?.to_str().ok()? == "14").then_some(())
    })
    .await;
    more.call("/grpc.health.v1.Health/Check", &[]).await;
    let answer = more.headers().await.pop().unwrap().expect("an answer");
    assert!(!answer.contains_key("grpc-status"), "health is served: {answer:?}");
    bystander.report().await.assert_undisturbed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_and_reflection_are_bounded_and_reflection_can_be_switched_off() {
    let target = Launch::on(Store::Embedded).set("PEER_GRPC_CALL_SHARE", "10").start().await;
    let bystander = BystanderClient::start(&target);
    let mut watches = Stalled::connect(ATTACKER, target.grpc, 1 << 16).await;
    for _ in 0..25 {
        assert!(watches.call("/grpc.health.v1.Health/Watch", &[]).await, "a stream");
    }
    let refused = |answers: Vec<Option<hyper::HeaderMap>>| {
        let is_refused = |answer: &Option<hyper::HeaderMap>| {
            answer.as_ref().is_none_or(|headers| headers.contains_key("grpc-status"))
        };
        answers.iter().filter(|answer| is_refused(answer)).count()
    };
    assert_eq!(refused(watches.headers().await), 0, "a tenth of 256");
    assert!(watches.call("/grpc.health.v1.Health/Watch", &[]).await, "a stream");
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    assert!(watches.begin(reflection, &[]).await, "a stream");
    assert_eq!(refused(watches.headers().await), 2);
    bystander.report().await.assert_undisturbed();
    drop(watches);

    let target = Launch::on(Store::Embedded).set("GRPC_REFLECTION", "off").start().await;
    let mut client = Stalled::connect(ATTACKER, target.grpc, 1 << 16).await;
    assert!(client.begin(reflection, &[]).await, "a stream");
    let headers = client.headers().await.pop().unwrap().expect("an answer");
    assert_eq!(headers.get("grpc-status").and_then(|code| code.to_str().ok()), Some("12"), "{headers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_carries_no_more_than_128_calls() {
    let target = Launch::on(Store::Embedded).start().await;
    let mut client = Stalled::connect(ATTACKER, target.grpc, 1 << 16).await;
    // The client learns the limit with the first answer.
    client.call(&path("Health"), &[]).await;
    assert_eq!(client.heads().await, [Some(200)]);
    assert_eq!(client.most_calls(), 128);
}
