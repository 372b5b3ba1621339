//! A log whose reader has closed it or has stopped reading. Callers do not notice, the process ends in order, and the
//! log counts the lines that it dropped.

use super::bystander::{BystanderClient, exchange};
use super::target::{
    Launch, STORES, Store, Target, closed_log, log_closed_after_the_first_bytes, read_until, unread_log,
};
use crate::clients::USER;
use crate::harness::wait::within;

/// The number of requests whose log lines are more than a pipe and the queue of the log hold.
const MANY: usize = 1200;

/// The length of a path that the log repeats: a quarter of the requests have such a path.
const LONG: usize = 8000;

fn creation(number: usize) -> String {
    format!(r#"{{"user_id":"{USER}","payload":{{"id":"{number}"}}}}"#)
}

/// Sends requests of every kind, and asserts each answer.
async fn send_requests(target: &Target, count: usize) {
    let nowhere = format!("GET /{} HTTP/1.1\r\n", "x".repeat(LONG));
    for number in 0..count {
        let (line, body, expected) = match number % 4 {
            0 => ("POST /orders HTTP/1.1\r\n", creation(number), 201),
            1 => ("POST /orders HTTP/1.1\r\n", "[".to_owned(), 400),
            2 => (nowhere.as_str(), String::new(), 404),
            _ => ("GET /health/live HTTP/1.1\r\n", String::new(), 200),
        };
        let answer = within("an answer", exchange(target.http, line, &body)).await;
        let answer = answer.unwrap_or_else(|error| panic!("request {number}: {error}"));
        assert_eq!(answer.status, expected, "request {number}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_closed_after_its_first_line_disturbs_no_caller() {
    for store in STORES {
        for format in ["text", "json"] {
            let launch = Launch::on(store).set("LOG_LEVEL", "debug").set("LOG_FORMAT", format);
            let target = launch.log_to(log_closed_after_the_first_bytes()).start().await;
            let bystander = BystanderClient::start(&target);
            send_requests(&target, 100).await;
            bystander.report().await.assert_undisturbed();
            target.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_closed_from_the_start_disturbs_no_caller() {
    let target = Launch::on(Store::Embedded).set("LOG_LEVEL", "trace").log_to(closed_log()).start().await;
    let bystander = BystanderClient::start(&target);
    send_requests(&target, 100).await;
    bystander.report().await.assert_undisturbed();
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_log_disturbs_no_caller_and_counts_dropped_lines() {
    for (store, format) in [(Store::Embedded, "text"), (Store::Postgres, "json")] {
        let (reader, writer) = unread_log();
        let launch = Launch::on(store).set("LOG_LEVEL", "trace").set("LOG_FORMAT", format);
        let target = launch.log_to(writer).start().await;
        let bystander = BystanderClient::start(&target);
        send_requests(&target, MANY).await;
        bystander.report().await.assert_undisturbed();
        let line = read_until(reader, "log lines were dropped").await;
        assert!(line.contains("WARN"), "{line}");
        if format == "json" {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert!(line["count"].as_u64().unwrap() > 0, "{line}");
        }
        target.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_stops_in_order_with_an_unread_log() {
    let (_reader, writer) = unread_log();
    let target = Launch::on(Store::Embedded).set("LOG_LEVEL", "trace").log_to(writer).start().await;
    send_requests(&target, MANY).await;
    target.stop().await;
}
