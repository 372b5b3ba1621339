//! Clients that make the process hold memory: unread answers, bodies that are announced and do not arrive, heads that
//! never end, commands of callers that are gone. The memory stays within its bound, and the bystander is served.

use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;

use super::bystander::{BYSTANDER, BystanderClient, create_large, exchange};
use super::peer::{ATTACKER, connect_from, read_to_end, send_and_never_read};
use super::stalled::Stalled;
use super::target::{Launch, STORES, Store, assert_small};
use crate::clients::USER;
use crate::clients::grpc::path;
use crate::clients::grpc::proto::orders::service::v1::GetOrderByIdRequest;
use crate::clients::http::Answer;
use crate::harness::wait::{until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_large_answers_take_bounded_memory() {
    for store in STORES {
        let target = Launch::on(store).start().await;
        let id = create_large(target.http, 5).await;
        let bystander = BystanderClient::start(&target);
        let list =
            format!("GET /orders?user_id={USER} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let mut lists = send_and_never_read(ATTACKER, target.http, 300, list.as_bytes()).await;
        let one = format!("GET /orders/{id} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let _ones = send_and_never_read(ATTACKER, target.http, 300, one.as_bytes()).await;
        let message = GetOrderByIdRequest { order_id: id }.encode_to_vec();
        let mut stalled = Vec::new();
        // With a window of 0 the answer stays in our code; with a small one, our code passes it to the library.
        for window in [0, 1, 0, 1] {
            let mut client = Stalled::connect(ATTACKER, target.grpc, window).await;
            for _ in 0..100 {
                client.call(&path("GetOrderByID"), &message).await;
            }
            stalled.push(client);
        }
        bystander.report().await.assert_undisturbed();
        assert_small(target.id());
        // The answer of the first client is in its socket and in the process, and it gets the whole answer when it
        // reads.
        let mut first = lists.remove(0);
        drop((lists, stalled));
        let bytes = read_to_end(&mut first).await;
        let answer = Answer::read(&bytes);
        assert!(answer.status == 503 || answer.body.len() > 4_000_000, "{} bytes", answer.body.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announced_bodies_that_do_not_arrive_reserve_no_memory() {
    let target = Launch::on(Store::Embedded).start().await;
    let bystander = BystanderClient::start(&target);
    let announced = b"POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1048576\r\n\r\n";
    let chunked = b"POST /orders HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    // From the bystander's own address: its share stays free.
    let _bodies = (
        send_and_never_read(BYSTANDER, target.http, 200, announced).await,
        send_and_never_read(BYSTANDER, target.http, 200, chunked).await,
    );
    let mut calls = Stalled::connect(BYSTANDER, target.grpc, 1 << 16).await;
    for _ in 0..100 {
        assert!(calls.begin(&path("UpsertOrder"), &[0, 0, 0x10, 0, 0]).await, "a stream");
    }
    bystander.report().await.assert_undisturbed();
    // A hundred small bodies in chunks at the same time: each is accepted.
    let content = format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#);
    let body = format!("{:x}\r\n{content}\r\n0\r\n\r\n", content.len());
    let request = [chunked.as_slice(), body.as_bytes()].concat();
    let closing = String::from_utf8(request).unwrap().replacen("host", "connection: close\r\nhost", 1);
    let mut small = send_and_never_read(BYSTANDER, target.http, 100, closing.as_bytes()).await;
    for stream in &mut small {
        assert_eq!(Answer::read(&read_to_end(stream).await).status, 201);
    }
    assert_small(target.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_heads_count_for_the_peer_that_sends_them() {
    let target = Launch::on(Store::Embedded).start().await;
    let bystander = BystanderClient::start(&target);
    let head = format!("GET /health/live HTTP/1.1\r\nhost: localhost\r\nx-filling: {}", "x".repeat(60_000));
    // The target closes the connections that exceed the share of the peer.
    let _heads = send_and_never_read(ATTACKER, target.http, 2000, head.as_bytes()).await;
    bystander.report().await.assert_undisturbed();
    assert_small(target.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_requests_with_unread_answers_is_not_read_further() {
    // A long write timeout: a flood whose connection the target closes would have ended as well.
    let target = Launch::on(Store::Embedded).set("HTTP_WRITE_TIMEOUT", "1h").start().await;
    let bystander = BystanderClient::start(&target);
    // Some requests count for the memory, some are refused, and some are neither.
    let floods = ["/health", "/orders?limit=1", "/nothing", "/health/ready"].map(|path| {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").repeat(400_000);
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut stream = connect_from(ATTACKER, target.http).await.unwrap();
            let _ = stream.write_all(request.as_bytes()).await;
            stream
        }))
    });
    // The target no longer reads any of them, or the client would have sent it completely.
    for _ in 0..300 {
        assert_eq!(exchange(target.http, "GET /health/live HTTP/1.1\r\n", "").await.unwrap().status, 200);
    }
    bystander.report().await.assert_undisturbed();
    assert_small(target.id());
    assert!(floods.iter().all(|flood| !flood.is_finished()), "a flood was read completely");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_whose_callers_are_gone_count_until_they_are_finished() {
    let target = Launch::on(Store::Embedded).start().await;
    let bystander = BystanderClient::start(&target);
    let body = format!(r#"{{"user_id":"{USER}","payload":"{}"}}"#, "x".repeat(1_000_000));
    let head = format!("POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    let request = [head.as_bytes(), body.as_bytes()].concat();
    for _ in 0..300 {
        let mut stream = connect_from(ATTACKER, target.http).await.unwrap();
        // A refusal may arrive while the client still sends the request.
        let _ = stream.write_all(&request).await;
        stream.set_zero_linger().unwrap();
    }
    bystander.report().await.assert_undisturbed();
    assert_small(target.id());
    // When all requests are finished, the attacker's address has its whole share again.
    until("a request of the attacker's address to be accepted", async || {
        let mut stream = connect_from(ATTACKER, target.http).await.ok()?;
        let closing = head.replacen("host", "connection: close\r\nhost", 1);
        stream.write_all(&[closing.as_bytes(), body.as_bytes()].concat()).await.ok()?;
        let bytes = read_to_end(&mut stream).await;
        (!bytes.is_empty() && Answer::read(&bytes).status == 201).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_of_an_answer_is_disconnected() {
    // A connection whose answers all fit into the buffers of the sockets is idle, and closed as such.
    let launch = Launch::on(Store::Embedded).set("HTTP_IDLE_TIMEOUT", "1s");
    let target = launch.set("HTTP_WRITE_TIMEOUT", "500ms").start().await;
    let id = create_large(target.http, 5).await;
    let before = target.open_sockets();
    // Some MB, which is more than the buffers of both sockets hold; and the answers to a series of requests.
    let one = format!("GET /orders?user_id={USER} HTTP/1.1\r\nhost: localhost\r\n\r\n").repeat(4);
    let _unread = send_and_never_read(ATTACKER, target.http, 5, one.as_bytes()).await;
    let mut stalled = Stalled::connect(ATTACKER, target.grpc, 0).await;
    let message = GetOrderByIdRequest { order_id: id.clone() }.encode_to_vec();
    for _ in 0..5 {
        assert!(stalled.call(&path("GetOrderByID"), &message).await, "a stream");
    }
    until("the connections to be cut", async || (target.open_sockets() <= before).then_some(())).await;
    // A slow reader that keeps reading stays connected, however long it takes.
    let one = format!("GET /orders/{id} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut slow = connect_from(ATTACKER, target.http).await.unwrap();
    slow.write_all(one.as_bytes()).await.unwrap();
    assert!(read_to_end(&mut slow).await.len() > 1_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_and_an_unfinished_head_have_separate_timeouts() {
    let launch = Launch::on(Store::Embedded).set("HTTP_IDLE_TIMEOUT", "60s");
    let target = launch.set("HTTP_HEADER_TIMEOUT", "2s").start().await;
    let request = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut idle = connect_from(BYSTANDER, target.http).await.unwrap();
    idle.write_all(request).await.unwrap();
    let mut begun = connect_from(BYSTANDER, target.http).await.unwrap();
    begun.write_all(&request[..20]).await.unwrap();
    // The connection with an unfinished head is closed; the idle one outlives it and is used again.
    assert!(read_to_end(&mut begun).await.is_empty());
    idle.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let both = String::from_utf8(read_to_end(&mut idle).await).unwrap();
    assert_eq!(both.matches("HTTP/1.1 200").count(), 2, "{both}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_idle_after_its_answers_is_closed() {
    let launch = Launch::on(Store::Embedded).set("HTTP_IDLE_TIMEOUT", "300ms");
    let target = launch.set("HTTP_HEADER_TIMEOUT", "1h").start().await;
    for count in [1, 4] {
        let mut stream = connect_from(BYSTANDER, target.http).await.unwrap();
        let requests = "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(count);
        stream.write_all(requests.as_bytes()).await.unwrap();
        let answers = String::from_utf8(read_to_end(&mut stream).await).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200").count(), count, "{answers}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_with_a_long_pause_is_a_408_before_the_body_timeout() {
    let launch = Launch::on(Store::Embedded).set("HTTP_BODY_IDLE_TIMEOUT", "200ms");
    let target = launch.set("HTTP_BODY_TIMEOUT", "1h").start().await;
    let mut stream = connect_from(BYSTANDER, target.http).await.unwrap();
    let begun = b"POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(begun).await.unwrap();
    let answer = Answer::read(&read_to_end(&mut stream).await);
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(answer.text().contains("pauses of more than 0.2 seconds"), "{answer:?}");
    let mut call = Stalled::connect(BYSTANDER, target.grpc, 1 << 16).await;
    assert!(call.begin(&path("UpsertOrder"), &[0, 0, 0, 1, 0, 1]).await, "a stream");
    assert_eq!(call.heads().await, [Some(200)], "an answer with a gRPC code");
}

/// How often each refusal is tested.
const ATTEMPTS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_refusal_reaches_a_client_that_is_still_sending() {
    let target = Launch::on(Store::Embedded).start().await;
    let body = vec![b'x'; 4 << 20];
    for (line, length, status) in [
        ("POST /orders", "content-length: 4194304", 413),
        ("POST /orders", "transfer-encoding: chunked", 413),
        ("POST /nowhere", "content-length: 4194304", 404),
        ("DELETE /orders", "content-length: 4194304", 405),
        ("GET /health", "content-length: 4194304", 200),
    ] {
        for _ in 0..ATTEMPTS {
            let mut stream = connect_from(BYSTANDER, target.http).await.unwrap();
            let head = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            if length.starts_with('t') {
                stream.write_all(format!("{:x}\r\n", body.len()).as_bytes()).await.unwrap();
            }
            // Like http.client of Python and curl without `Expect`, it writes the whole body first; a failure ends it.
            within("the body to be written", stream.write_all(&body)).await.expect(line);
            let answer = Answer::read(&read_to_end(&mut stream).await);
            assert_eq!(answer.status, status, "{line} {length}");
            assert_eq!(answer.header("connection"), Some("close"), "{line} {length}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_reported_as_done_without_memory_to_show_its_order() {
    let launch = Launch::on(Store::Embedded).set("HTTP_MEMORY_BUDGET", "2600000");
    let target = launch.set("PEER_MEMORY_SHARE", "100").start().await;
    let id = create_large(target.http, 1).await;
    // Each takes memory for the bytes that it has sent, which are all but its last one.
    let mut begun = b"POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    begun.resize(begun.len() + 999_999, b' ');
    let _bodies = send_and_never_read(ATTACKER, target.http, 2, &begun).await;
    let get = format!("GET /orders/{id} HTTP/1.1\r\n");
    until("the memory to be used up", async || {
        let refused = exchange(target.http, &get, "").await;
        refused.is_ok_and(|answer| answer.status == 503).then_some(())
    })
    .await;
    let delete = format!("DELETE /orders/{id} HTTP/1.1\r\nprefer: return=representation\r\n");
    let answer = within("an answer", exchange(target.http, &delete, "")).await.unwrap();
    let shown = (answer.status, answer.json()["order"].is_null(), answer.header("preference-applied"));
    assert_eq!(shown, (200, true, None), "{answer:?}");
    target.stop().await;
}
