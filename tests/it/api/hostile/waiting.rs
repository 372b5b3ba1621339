//! Small requests that make the process wait or send large answers: reads that wait for a version that never exists,
//! and batches whose items are all refused. The memory of the process stays bounded.

use super::bystander::{BystanderClient, create_large};
use super::peer::{ATTACKER, read_to_end, send_and_never_read};
use super::target::{Launch, STORES, Store, assert_small};
use crate::clients::http::Answer;

/// How many requests are in flight at a time.
const MANY: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_wait_for_a_version_do_not_keep_the_order_in_memory() {
    for store in STORES {
        let target = Launch::on(store).start().await;
        let id = create_large(target.http, 1).await;
        let bystander = BystanderClient::start(&target);
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
        assert!(shown > 0, "some get the current order");
        bystander.report().await.assert_undisturbed();
        assert_small(target.id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_whose_items_are_all_refused_take_bounded_memory() {
    let target = Launch::on(Store::Embedded).start().await;
    let bystander = BystanderClient::start(&target);
    // Each item has three bytes, and its result some hundred.
    let body = format!(r#"{{"orders":[{}]}}"#, vec!["{}"; 1000].join(","));
    let head =
        format!("POST /orders:batch HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    let request = [head, body].concat();
    let _unread = send_and_never_read(ATTACKER, target.http, MANY, request.as_bytes()).await;
    bystander.report().await.assert_undisturbed();
    assert_small(target.id());
}
