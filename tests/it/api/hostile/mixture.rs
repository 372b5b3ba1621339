//! One peer that sends, at the same time, all kinds of requests that make the process hold memory. Each kind alone is
//! small enough; many threads allocate and free the blocks of all kinds, and the allocator has to give them back.

use std::collections::VecDeque;
use std::fs;

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::bystander::{BystanderClient, create_large, exchange};
use super::peer::{ATTACKER, connect_narrow};
use super::target::{Launch, STORES, Store, assert_small};
use crate::clients::USER;
use crate::harness::wait::within;

/// How often each kind is sent per wave.
const TIMES: usize = 10;

/// How many waves the peer sends.
const WAVES: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_mixes_all_memory_consuming_requests_takes_bounded_memory() {
    for store in STORES {
        let target = Launch::on(store).start().await;
        let kinds = kinds(&create_large(target.http, 6).await);
        let bystander = BystanderClient::start(&target);
        let mut held = VecDeque::new();
        for _ in 0..WAVES {
            let mut attacks = Vec::new();
            for kind in kinds.iter().cycle().take(TIMES * kinds.len()) {
                let opened = within("a connection", connect_narrow(ATTACKER, target.http)).await;
                attacks.push(attack(opened.expect("a descriptor and a port"), kind.clone()));
            }
            held.push_back(within("all requests to be accepted or refused", join_all(attacks)).await);
            // The answers stay unread until ten more waves have been sent.
            if held.len() > 10 {
                held.pop_front();
            }
        }
        bystander.report().await.assert_undisturbed();
        assert_small(target.id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_deletions_does_not_load_all_deleted_orders_at_once() {
    const COUNT: usize = 300;
    for store in STORES {
        // On Postgres most of the events wait for the sweep.
        let target = Launch::on(store).set("ACK_WAIT_TIMEOUT", "2m").start().await;
        let bystander = BystanderClient::start(&target);
        let mut items = Vec::new();
        for _ in 0..COUNT {
            items.push(format!(
                r#"{{"order_id":"{}","status":"deleted"}}"#,
                create_large(target.http, 1).await
            ));
        }
        let batch = format!(r#"{{"orders":[{}]}}"#, items.join(","));
        let sent = exchange(target.http, "POST /orders:batch HTTP/1.1\r\n", &batch);
        let answer = within("an answer", sent).await.unwrap();
        let statuses: Vec<_> =
            answer.json()["results"].as_array().unwrap().iter().map(|it| it["status"].clone()).collect();
        assert!(statuses.len() == COUNT && statuses.iter().all(|status| *status == 200), "{statuses:?}");
        bystander.report().await.assert_undisturbed();
        assert_small(target.id());
    }
}

#[tokio::test]
async fn the_allocator_is_limited_once_unless_the_environment_limits_it() {
    let target = Launch::on(Store::Embedded).start().await;
    assert_eq!(allocator(target.id()).len(), 3);
    let target = Launch::on(Store::Embedded).set("MALLOC_ARENA_MAX", "7").start().await;
    assert_eq!(allocator(target.id()), ["MALLOC_ARENA_MAX=7"]);
    // Only once, also if the variables do not arrive, as in a program with capabilities.
    let target = Launch::on(Store::Embedded).set("_ORDERSTREAM_BEGUN_ANEW", "1").start().await;
    assert!(allocator(target.id()).is_empty());
}

/// The variables of a process that configure its allocator.
fn allocator(process: u32) -> Vec<String> {
    let environment = fs::read_to_string(format!("/proc/{process}/environ")).expect("a running process");
    environment.split('\0').filter(|variable| variable.starts_with("MALLOC_")).map(str::to_owned).collect()
}

/// Sends all bytes, or as many as the target reads.
fn attack(mut stream: TcpStream, bytes: Vec<u8>) -> AbortOnDropHandle<TcpStream> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = stream.write_all(&bytes).await;
        stream
    }))
}

/// The requests that take memory: pages, large orders, waits for an order, large bodies with a small or an equally
/// large answer, a batch and a body that does not end.
fn kinds(id: &str) -> Vec<Vec<u8>> {
    let get = |target: &str, more: &str| {
        format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n").repeat(3)
    };
    let post = |target: &str, more: &str, body: &str| {
        format!(
            "POST {target} HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let order = |size: usize| format!(r#"{{"user_id":"{USER}","payload":"{}"}}"#, "x".repeat(size));
    let large = order(1_000_000);
    let batch = format!(r#"{{"orders":[{}]}}"#, vec![order(900); 1000].join(","));
    let mut unfinished = post("/orders", "", &large);
    unfinished.truncate(900_000);
    [
        get("/orders?limit=5", ""),
        get(&format!("/orders/{id}"), ""),
        get(&format!("/orders/{id}?min_version=3"), "prefer: wait=30\r\n"),
        post("/orders", "", &large),
        post("/orders", "prefer: return=representation, wait=30\r\n", &large),
        post("/orders:batch", "prefer: wait=30\r\n", &batch),
        unfinished,
    ]
    .map(String::into_bytes)
    .into()
}
