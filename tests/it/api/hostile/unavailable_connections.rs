//! Postgres connections that are not available: one that waits for a row which another session has locked, one that
//! cannot be opened again, and those that one client keeps busy. The pool uses the other connections meanwhile.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use orderstream::order::OrderId;
use tokio::io::AsyncReadExt;

use super::bystander::{BYSTANDER, BystanderClient, create_large, exchange};
use super::peer::{ATTACKER, send_and_never_read};
use super::target::{Launch, Store};
use crate::clients::USER;
use crate::clients::answers::order_id;
use crate::faults::lock::Lock;
use crate::harness::redis::OwnRedis;
use crate::harness::schema::Schema;
use crate::harness::wait::{until, within};

/// Several times as long as the time without an answer after which the pool avoids a connection.
const SLOW: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_row_delays_only_the_callers_of_its_order() {
    let schema = Schema::migrated().await;
    let target = Launch::on(Store::Postgres).dsn(schema.dsn.clone()).start().await;
    let post = async |body: String| {
        within("an answer", exchange(target.http, "POST /orders HTTP/1.1\r\n", &body)).await.unwrap()
    };
    let creation = || format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#);
    let id = order_id(&post(creation()).await);
    let other = schema.connect().await;
    other
        .batch_execute(&format!("BEGIN; SELECT FROM orders WHERE order_id = '{id}' FOR UPDATE"))
        .await
        .unwrap();
    let waiting = async { post(format!(r#"{{"order_id":"{id}","payload":{{"amount":2}}}}"#)).await };
    let others = async {
        let waits = "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid)
                     WHERE NOT granted AND wait_event_type = 'Lock' AND $1 = ANY (pg_blocking_pids(pid))";
        let holder: i32 = other.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let watch = schema.connect().await;
        until("the update to wait", async || watch.query_opt(waits, &[&holder]).await.unwrap()).await;
        // One at a time, so that each can use a connection without work.
        let begun = Instant::now();
        while begun.elapsed() < SLOW {
            assert_eq!(post(creation()).await.status, 201);
        }
        // From here on several at a time: the pool gives none of them to the connection that waits.
        let bystander = BystanderClient::start(&target);
        for _ in 0..20 {
            assert_eq!(post(creation()).await.status, 201);
        }
        bystander.report().await.assert_undisturbed();
        other.batch_execute("ROLLBACK").await.unwrap();
    };
    let (updated, ()) = tokio::join!(waiting, others);
    assert_eq!(updated.status, 200, "{updated:?}");
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_cannot_be_reopened_refuses_no_caller() {
    let schema = Schema::empty().await;
    let admin = schema.connect().await;
    let (role, name): (String, String) = {
        let row = admin.query_one("SELECT current_schema()::text", &[]).await.unwrap();
        (format!("role_{}", row.get::<_, String>(0)), row.get(0))
    };
    admin
        .batch_execute(&format!("CREATE ROLE {role} LOGIN; ALTER SCHEMA {name} OWNER TO {role}"))
        .await
        .unwrap();
    let dsn = schema.dsn.replacen("//postgres@", &format!("//{role}@"), 1);
    let target = Launch::on(Store::Postgres).dsn(dsn).start().await;
    let body = format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#);
    let create = async || {
        let created = exchange(target.http, "POST /orders HTTP/1.1\r\n", &body);
        within("an answer", created).await.unwrap().status
    };
    let of_commands = format!(
        "SELECT pid FROM pg_stat_activity WHERE usename = '{role}' AND query LIKE '%INSERT INTO orders %'"
    );
    let pids = until("both connections for commands", async || {
        join_all((0..20).map(|_| create())).await;
        let rows = admin.query(&of_commands, &[]).await.unwrap();
        (rows.len() >= 2).then_some(rows)
    })
    .await;
    // As on a server that has no free connections, or behind a pooler that is full.
    admin.batch_execute(&format!("ALTER ROLE {role} CONNECTION LIMIT 1")).await.unwrap();
    let ended = "SELECT pg_terminate_backend($1, 10000)";
    admin.query_one(ended, &[&pids[0].get::<_, i32>(0)]).await.unwrap();
    for _ in 0..10 {
        let statuses = join_all((0..40).map(|_| create())).await;
        assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
    }
    target.stop().await;
    admin
        .batch_execute(&format!(
            "ALTER SCHEMA {name} OWNER TO postgres; DROP OWNED BY {role} CASCADE; DROP ROLE {role}"
        ))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_wait_for_history_leave_connections_for_other_reads() {
    let schema = Schema::migrated().await;
    let target = Launch::on(Store::Postgres).dsn(schema.dsn.clone()).start().await;
    let get = format!("GET /orders/{} HTTP/1.1\r\n", create_large(target.http, 1).await);
    let read = async || {
        let answer = within("an answer", exchange(target.http, &get, "")).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    // The pool uses its connections in turn: after this, all connections for reads are open.
    for _ in 0..20 {
        read().await;
    }
    let other = schema.connect().await;
    other.batch_execute("BEGIN; LOCK TABLE orders_history IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let line =
        format!("GET /events?user_id={USER} HTTP/1.1\r\nhost: localhost\r\nlast-event-id: 0-0\r\n\r\n");
    let mut streams = send_and_never_read(ATTACKER, target.http, 60, line.as_bytes()).await;
    for stream in &mut streams {
        // Each stream has begun, and reads its history events.
        within("an answer", stream.read_exact(&mut [0; 12])).await.unwrap();
    }
    for _ in 0..20 {
        read().await;
    }
    other.batch_execute("ROLLBACK").await.unwrap();
    drop(streams);
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cached_orders_are_read_while_the_store_does_not_answer() {
    let (schema, redis) = (Schema::migrated().await, OwnRedis::start().await);
    let launch = Launch::on(Store::Postgres).dsn(schema.dsn.clone()).set("REDIS_ADDR", redis.address());
    let target = launch.set("CACHE_TIMEOUT", "1s").start().await;
    until("the cache to be in use", async || {
        let ready = exchange(target.http, "GET /health/ready HTTP/1.1\r\n", "").await.ok()?;
        ready.text().contains(r#""cache":"ok""#).then_some(())
    })
    .await;
    let creation = format!(r#"{{"user_id":"{USER}","payload":{{}}}}"#);
    let created = exchange(target.http, "POST /orders HTTP/1.1\r\n", &creation);
    let path = format!("GET /orders/{} HTTP/1.1\r\n", order_id(&within("an answer", created).await.unwrap()));
    let read = async || within("an answer", exchange(target.http, &path, "")).await.unwrap();
    let shown = read().await;
    let lock = Lock::on_all(schema.connect().await, schema.connect().await, "orders").await;
    // More reads of an order that is not cached than one peer may have in flight.
    let unknown = format!("GET /orders/{} HTTP/1.1\r\nhost: localhost\r\n\r\n", OrderId::generate());
    let hanging = send_and_never_read(BYSTANDER, target.http, 40, unknown.as_bytes()).await;
    lock.is_waited_for().await;
    let again = read().await;
    assert_eq!((again.status, &again.body), (200, &shown.body));
    for stream in &hanging {
        let nothing = stream.try_read(&mut [0]).expect_err("no answer yet");
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    }
    lock.release().await;
    target.stop().await;
}
