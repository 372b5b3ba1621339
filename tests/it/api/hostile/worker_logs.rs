//! The log of a worker process: the worker processes orders also when its log is closed or unread, and a flood of
//! records that cannot be processed does not flood the log.

use std::process::Stdio;
use std::time::Instant;

use super::target::{closed_log, unread_log};
use crate::clients::USER;
use crate::clients::answers::order_id;
use crate::harness::child::Child;
use crate::harness::cluster::Cluster;

/// How many records cannot be processed.
const RECORDS: i32 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_a_closed_or_unread_log_processes_every_order() {
    let (_reader, unread) = unread_log();
    for log in [closed_log(), unread] {
        let mut cluster = Cluster::setup().await.start(1, 0).await;
        let mut command = cluster.command("worker");
        command.stderr(Stdio::from(log)).env("LOG_LEVEL", "trace").env("LOG_FORMAT", "json");
        cluster.workers.push(Child::start(command).await);
        let client = cluster.clients().remove(0);
        let mut confirmed = Vec::new();
        for number in 0..300 {
            let body = format!(r#"{{"user_id":"{USER}","payload":{{"amount":{number}}}}}"#);
            let answer = client.post("/orders", body).await;
            assert_eq!(answer.status, 201, "{answer:?}");
            confirmed.push((order_id(&answer), "created"));
        }
        cluster.finish(&confirmed, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unprocessable_records_logs_a_line_per_second() {
    let mut cluster = Cluster::setup().await.start(1, 0).await;
    let topic = cluster.kafka.options.events_topic.clone();
    for number in 0..RECORDS {
        cluster.kafka.write(&topic, Some(number % 4), None, &[], Some(b"{"));
    }
    let begun = Instant::now();
    cluster.start_worker().await;
    cluster.workers_caught_up().await;
    let lines = cluster.logged("worker", "a record goes to the dead-letter topic");
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!((1..=seconds + 2).contains(&lines), "{lines} lines in {seconds} seconds");
    cluster.finish(&[], RECORDS as u64).await;
}
