//! The roles in separate processes, with Postgres and Kafka: one client that misbehaves towards an api process, and one
//! producer that floods a worker, disturb no other caller and take a bounded amount of memory.

use orderstream::order::OrderId;
use tokio::time::timeout;

use super::LIVENESS;
use super::bystander::{create_large, exchange};
use super::peer::{ATTACKER, open_idle, send_and_never_read};
use super::target::assert_small;
use crate::clients::USER;
use crate::clients::answers::order_id;
use crate::harness::cluster::Cluster;
use crate::harness::wait::within;

/// How many requests other callers send meanwhile.
const OTHERS: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_process_serves_others_beside_unread_answers_and_silent_connections() {
    let cluster = Cluster::setup().await.start(1, 1).await;
    let api = cluster.apis[0].address();
    let mut confirmed = vec![(OrderId::parse(&create_large(api, 5).await).unwrap(), "created")];
    let list = format!("GET /orders?user_id={USER} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let _unread = send_and_never_read(ATTACKER, api, 300, list.as_bytes()).await;
    let announced = b"POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1048576\r\n\r\n{";
    let _announced = send_and_never_read(ATTACKER, api, 300, announced).await;
    let _silent = open_idle(ATTACKER, api, 1000).await;
    let body = format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#);
    for _ in 0..OTHERS {
        let alive = timeout(LIVENESS, exchange(api, "GET /health/live HTTP/1.1\r\n", "")).await;
        assert_eq!(alive.expect("liveness in time").unwrap().status, 200);
        let created = within("an answer", exchange(api, "POST /orders HTTP/1.1\r\n", &body)).await.unwrap();
        assert_eq!(created.status, 201, "{created:?}");
        confirmed.push((order_id(&created), "created"));
    }
    assert_small(cluster.apis[0].id());
    cluster.finish(&confirmed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_process_takes_bounded_memory_with_a_backlog_of_large_records() {
    const RECORDS: usize = 300;
    let mut cluster = Cluster::setup().await.start(1, 0).await;
    let topic = cluster.kafka.options.events_topic.clone();
    // Each number would become much longer when written out, so the worker refuses the record.
    let numbers = vec!["1e308"; 150_000].join(",");
    let record = format!(r#"{{"user_id":"{USER}","payload":[{numbers}]}}"#);
    for number in 0..RECORDS {
        cluster.kafka.write(&topic, Some(number as i32 % 4), None, &[], Some(record.as_bytes()));
    }
    cluster.start_worker().await;
    let api = cluster.apis[0].address();
    let body = format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#);
    let created = within("an answer", exchange(api, "POST /orders HTTP/1.1\r\n", &body)).await.unwrap();
    assert!([201, 202].contains(&created.status), "{created:?}");
    cluster.workers_caught_up().await;
    assert_small(cluster.workers[0].id());
    cluster.finish(&[(order_id(&created), "created")], RECORDS as u64).await;
}
