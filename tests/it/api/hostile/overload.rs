//! Overload and outages in the log: one line per second and kind, with a count, however many callers are refused. The
//! sum of the counts is the number of refusals.

use std::time::Instant;

use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::bystander::exchange;
use super::target::{Launch, Store};
use crate::clients::USER;
use crate::clients::grpc;
use crate::harness::schema::Schema;
use crate::harness::wait::{until, within};

/// How many requests of each kind fail.
const MANY: usize = 150;

/// A proxy to a server that ends with its handle: open connections close, and further ones are refused.
async fn proxy(server: String) -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a listener's address").to_string();
    let proxy = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut near, _) = listener.accept().await.expect("a connection");
            let server = server.clone();
            connections.spawn(async move {
                let mut far = TcpStream::connect(server).await.expect("a listening server");
                // The copy ends when either side does.
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, AbortOnDropHandle::new(proxy))
}

/// The lines of a log with that problem, and the number of problems that they report.
fn logged(log: &[String], code: &str) -> (usize, u64) {
    let lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut count, mut problems) = (0, 0);
    for line in lines {
        let suppressed = line["suppressed"].as_u64().unwrap_or(0);
        if line["code"] == code {
            (count, problems) = (count + 1, problems + 1 + suppressed);
        } else if line["kind"] == code {
            (count, problems) = (count + 1, problems + suppressed);
        }
    }
    (count, problems)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_store_logs_one_counted_line_per_second() {
    let schema = Schema::migrated().await;
    let server = schema.dsn.split(['@', '/', '?']).nth(3).expect("a host behind the user").to_owned();
    let (address, proxy) = proxy(server.clone()).await;
    let dsn = schema.dsn.replacen(&server, &address, 1);
    let launch = Launch::on(Store::Postgres).dsn(dsn).set("LOG_LEVEL", "warn").set("LOG_FORMAT", "json");
    let target = launch.start().await;
    drop(proxy);
    let ready = "GET /health/ready HTTP/1.1\r\n";
    until("the target to notice", async || {
        let answer = within("an answer", exchange(target.http, ready, "")).await.ok()?;
        (answer.status == 503).then_some(())
    })
    .await;

    let begun = Instant::now();
    let body = format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#);
    let mut orders = grpc::connect(target.grpc);
    let mut refused = 0;
    for _ in 0..MANY {
        for (line, body) in [
            ("POST /orders HTTP/1.1\r\n", body.as_str()),
            ("GET /orders/0196f1c8-7b1e-7000-8000-00000000dead HTTP/1.1\r\n", ""),
        ] {
            let answer = within("an answer", exchange(target.http, line, body)).await.unwrap();
            refused += u64::from(answer.text().contains("store_unavailable"));
        }
        let answer = within("an answer", orders.upsert_order(grpc::creation("{}"))).await;
        let status = answer.expect_err("the store is unavailable");
        refused += u64::from(grpc::text(&status, "problem-code").as_deref() == Some("store_unavailable"));
    }
    assert!(refused > 2 * MANY as u64, "most are refused because the store is unavailable: {refused}");
    until("every refusal to be counted", async || {
        (logged(&target.log(), "store_unavailable").1 == refused).then_some(())
    })
    .await;
    let (lines, _) = logged(&target.log(), "store_unavailable");
    let reads = target.log().iter().filter(|line| line.contains("a read failed")).count();
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!(lines <= seconds + 2, "{lines} lines in {seconds} seconds");
    assert!(reads <= seconds + 2, "{reads} lines about reads in {seconds} seconds");
}
