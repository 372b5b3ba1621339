//! Clients that ask and do not read, over HTTP/1 and HTTP/2. The neighbour is served, and the memory stays within its
//! bound.

use prost::Message;

use super::neighbour::{NEIGHBOUR, Neighbour, exchange};
use super::peer::{ATTACKER, read_to_end, send_and_never_read};
use super::stalled::Stalled;
use super::target::{Launch, STORES, Target};
use crate::support::USER;
use crate::support::answers::order_id;
use crate::support::grpc::path;
use crate::support::grpc::proto::orders::service::v1::GetOrderByIdRequest;
use crate::support::wait::within;

/// The most memory that a target takes with the default budget, whatever one peer does.
const MEMORY: u64 = 200 << 20;

/// Creates an order with a payload of that many bytes, and answers its id.
async fn create(target: &Target, size: usize) -> String {
    let body = format!(r#"{{"user_id":"{USER}","payload":"{}"}}"#, "x".repeat(size));
    let answer =
        within("an answer", exchange(target.http, "POST /orders HTTP/1.1\r\n", &body)).await.unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    order_id(&answer).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_callers_who_do_not_read_disturb_no_neighbour() {
    for store in STORES {
        let target = Launch::on(store).start().await;
        let id = create(&target, 500_000).await;
        let neighbour = Neighbour::of(&target);
        let request = format!("GET /orders/{id} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
        let mut unread = send_and_never_read(ATTACKER, target.http, 20, request.as_bytes()).await;
        let mut stalled = Stalled::connect(ATTACKER, target.grpc, 0).await;
        let message = GetOrderByIdRequest { order_id: id }.encode_to_vec();
        for _ in 0..20 {
            assert!(stalled.call(&path("GetOrderByID"), &message).await, "a stream");
        }
        assert!(stalled.begin(&path("UpsertOrder"), &[0, 0, 0, 1, 0]).await, "a stream");
        assert_eq!(stalled.calls(), 21);
        neighbour.report().await.assert_undisturbed();
        assert!(target.resident() <= target.peak_resident());
        assert!(target.peak_resident() < MEMORY, "{} MiB", target.peak_resident() >> 20);
        // Those who read at last are served, too: the peers of HTTP/1 get what they asked for.
        let answer = read_to_end(&mut unread[0]).await;
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{} bytes", answer.len());
        drop(stalled);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_http_2_that_takes_no_data_gets_the_heads_of_its_answers() {
    let target = Launch::on(super::target::Store::Embedded).start().await;
    let id = create(&target, 1000).await;
    let mut slow = Stalled::connect(NEIGHBOUR, target.grpc, 0).await;
    let message = GetOrderByIdRequest { order_id: id }.encode_to_vec();
    for _ in 0..3 {
        assert!(slow.call(&path("GetOrderByID"), &message).await, "a stream");
    }
    assert_eq!(slow.heads().await, [Some(200); 3]);
}
