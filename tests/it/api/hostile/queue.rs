//! The queue of commands while the store does not answer: one peer fills its share of the queue and no more, with
//! batches for orders that have commands in flight and for new ones.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;

use super::bystander::exchange;
use super::peer::{ATTACKER, connect_from, read_to_end, send_and_never_read};
use super::target::{Launch, Store, assert_small};
use crate::clients::USER;
use crate::clients::answers::order_id;
use crate::clients::http::Answer;
use crate::faults::lock::Lock;
use crate::harness::schema::Schema;
use crate::harness::wait::{until, within};

/// The number of batches that is more than one peer may queue.
const BATCHES: usize = 20;

/// How many commands are in a batch.
const ITEMS: usize = 1000;

/// How many orders a batch changes.
const ORDERS: usize = 40;

/// Whether one more command of the attacker is refused because the queue is full.
async fn is_full(target: SocketAddr, body: &str) -> bool {
    let mut stream = connect_from(ATTACKER, target).await.unwrap();
    let line = "POST /orders HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nprefer: wait=1\r\n";
    let head = format!("{line}content-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    Answer::read(&read_to_end(&mut stream).await).text().contains("overloaded")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_peer_cannot_fill_the_queue_of_commands() {
    let schema = Schema::migrated().await;
    let target = Launch::on(Store::Postgres).dsn(schema.dsn.clone()).start().await;
    let post = async |body: &str| {
        within("an answer", exchange(target.http, "POST /orders HTTP/1.1\r\n", body)).await.unwrap()
    };
    let creation = format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#);
    let of_bystander = order_id(&post(&creation).await);
    let mut of_attacker = Vec::new();
    for _ in 0..ORDERS {
        of_attacker.push(order_id(&post(&creation).await));
    }
    let item = |at: usize| match at % 2 {
        0 => format!(r#"{{"order_id":"{}","payload":{{}}}}"#, of_attacker[at / 2 % ORDERS]),
        _ => creation.clone(),
    };
    let items: Vec<String> = (0..ITEMS).map(item).collect();
    let body = format!(r#"{{"orders":[{}]}}"#, items.join(","));
    let head = format!(
        "POST /orders:batch HTTP/1.1\r\nhost: localhost\r\nprefer: wait=30\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );

    let lock = Lock::on_table(schema.connect().await, schema.connect().await, "orders").await;
    let batch = [head, body].concat();
    let mut unread = send_and_never_read(ATTACKER, target.http, BATCHES, batch.as_bytes()).await;
    until("the attacker's share to be full", async || {
        // Changes of an order that already has too many are refused, and leave capacity for others.
        unread.extend(send_and_never_read(ATTACKER, target.http, 1, batch.as_bytes()).await);
        is_full(target.http, &creation).await.then_some(())
    })
    .await;
    // Three commands of the bystander: a new order, and two changes of one order, of which the second waits for the
    // first.
    let update = format!(r#"{{"order_id":"{of_bystander}","payload":{{}}}}"#);
    let all = async { tokio::join!(post(&creation), post(&update), post(&update)) };
    let release = async {
        // A command that arrives after them, and whose wait is over when it is answered.
        let late = exchange(target.http, "POST /orders HTTP/1.1\r\nprefer: wait=1\r\n", &creation);
        let late = within("an answer", late).await.unwrap();
        assert!(late.text().contains("store_unavailable"), "{late:?}");
        lock.release().await;
    };
    let ((created, first, second), ()) = tokio::join!(all, release);
    let statuses = [created.status, first.status, second.status];
    assert_eq!(statuses, [201, 200, 200], "{created:?} {first:?} {second:?}");
    assert_small(target.id());
    target.stop().await;
}
