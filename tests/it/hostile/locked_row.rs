//! A session of another program that has locked the row of an order and does not go on. Who wants that order waits; the
//! others have connections of their own.

use std::time::{Duration, Instant};

use super::neighbour::{Neighbour, exchange};
use super::target::{Launch, Store};
use crate::support::USER;
use crate::support::answers::order_id;
use crate::support::schema::Schema;
use crate::support::wait::{until, within};

/// After how long without an answer a connection is left alone, several times over.
const SLOW: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_another_session_has_locked_holds_up_the_callers_of_its_order_alone() {
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
        // One at a time, so that each has the choice of a connection without work.
        let begun = Instant::now();
        while begun.elapsed() < SLOW {
            assert_eq!(post(creation()).await.status, 201);
        }
        // From here on several at a time: none of them is given to the connection that waits.
        let neighbour = Neighbour::of(&target);
        for _ in 0..20 {
            assert_eq!(post(creation()).await.status, 201);
        }
        neighbour.report().await.assert_undisturbed();
        other.batch_execute("ROLLBACK").await.unwrap();
    };
    let (updated, ()) = tokio::join!(waiting, others);
    assert_eq!(updated.status, 200, "{updated:?}");
    target.stop().await;
}
