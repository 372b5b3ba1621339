//! Clients who have the process wait, or answer much, for little: reads that wait for a version that never comes, and
//! batches of which every item is refused.

use super::bystander::{BystanderClient, create_large};
use super::peer::{ATTACKER, read_to_end, send_and_never_read};
use super::target::{Launch, STORES, Store, assert_small};
use crate::clients::http::Answer;

/// How many ask at a time.
const MANY: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_who_wait_for_a_version_of_a_large_order_do_not_keep_it_in_memory_meanwhile() {
    for store in STORES {
        let target = Launch::on(store).start().await;
        let id = create_large(target.http, 1).await;
        let bystander = BystanderClient::of(&target);
        let line = format!("GET /orders/{id}?min_version=99 HTTP/1.1\r\n");
        let request = format!("{line}host: localhost\r\nprefer: wait=3\r\nconnection: close\r\n\r\n");
        let mut waiting = send_and_never_read(ATTACKER, target.http, MANY, request.as_bytes()).await;
        let mut shown = 0;
        for stream in &mut waiting {
            let answer = Answer::read(&read_to_end(stream).await);
            match answer.status {
                200 => shown += usize::from(answer.body.len() > 1_000_000),
                status => assert_eq!(status, 503, "{answer:?}"),
            }
        }
        assert!(shown > 0, "some are shown the order as it is");
        bystander.report().await.assert_undisturbed();
        assert_small(target.id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_batches_whose_items_are_all_refused_take_a_bounded_amount_of_memory() {
    let target = Launch::on(Store::Embedded).start().await;
    let bystander = BystanderClient::of(&target);
    // Three bytes of each item become some hundred of the answer.
    let body = format!(r#"{{"orders":[{}]}}"#, vec!["{}"; 1000].join(","));
    let head =
        format!("POST /orders:batch HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    let request = [head, body].concat();
    let _unread = send_and_never_read(ATTACKER, target.http, MANY, request.as_bytes()).await;
    bystander.report().await.assert_undisturbed();
    assert_small(target.id());
}
