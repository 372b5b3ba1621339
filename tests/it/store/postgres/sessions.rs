//! What a session promises, with any settings of the server and any number of tasks: a transaction is a caller's own,
//! and what was confirmed survives a crash.

use std::sync::Arc;

use jiff::Timestamp;
use orderstream::order::{Command, OrderId, Request, Status};
use orderstream::store::postgres::{Options, PostgresStore};
use orderstream::store::{Accepted, Maintenance, Orders, Outbox, Refusal};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::harness::schema::{Schema, options};
use crate::harness::servers::{Private, Server};
use crate::harness::wait::until;
use crate::store::conformance::{
    accept, complete, create, creation, deletion, done, payload, row, some_user, update,
};

/// A batch of every kind, which takes a transaction; large, so that sending it takes a while.
async fn mixed(store: &PostgresStore) -> Arc<[Request]> {
    let text = format!("{:?}", "x".repeat(2000));
    let user = some_user();
    let (old, gone) = (create(store, user, "{}").await, create(store, user, "{}").await);
    let made = (0..50).map(|_| creation(user, &text));
    made.chain([update(old, &text), deletion(gone)]).map(Request::from).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_statement_of_another_caller_lands_in_a_transaction() {
    const ROUNDS: usize = 200;
    let schema = Schema::migrated().await;
    let store = Arc::new(schema.open());
    let taken = create(&*store, some_user(), "{}").await;
    let mut batches = Vec::new();
    for _ in 0..ROUNDS {
        batches.push(mixed(&store).await);
    }
    let mut tasks = JoinSet::new();
    let transactions = Arc::clone(&store);
    tasks.spawn(async move {
        let mut made = Vec::new();
        for batch in batches {
            let answers =
                transactions.apply(Arc::clone(&batch)).await.expect("nothing is wrong with the batch");
            assert!(answers.iter().all(Result::is_ok));
            made.extend(batch.iter().map(|request| request.command.order_id()));
        }
        made
    });
    for _ in 0..3 {
        let others = Arc::clone(&store);
        tasks.spawn(async move {
            let mut made = Vec::new();
            for _ in 0..ROUNDS {
                let user_id = some_user();
                // The first statement of this one fails, and would take a transaction that it is in along.
                let again = Command::Create { order_id: taken, user_id, payload: payload("{}") };
                let refused = others.apply([again.into()].into()).await.expect("a refusal");
                assert!(matches!(refused[0], Err(Refusal::Exists { .. })), "{refused:?}");
                let command = creation(user_id, "{}");
                let id = command.order_id();
                let answers = others.apply([command.into()].into()).await.expect("an order");
                assert!(matches!(answers[0], Ok(Accepted::Applied(_))), "{answers:?}");
                made.push(id);
            }
            made
        });
    }
    let made: Vec<OrderId> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(made.len(), ROUNDS * (52 + 3));
    for ids in made.chunks(500) {
        let found = store.processed_versions(ids).await.unwrap();
        assert!(found.iter().all(Option::is_some), "each order that was confirmed is there");
    }
}

#[tokio::test]
async fn a_publication_of_all_tables_stops_no_statement() {
    let servers = Private::new();
    let dsn = servers.up(Server::Postgres);
    let store = PostgresStore::open(&Options { dsn: dsn.clone(), ..options() }).unwrap();
    store.migrate().await.unwrap();
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("CREATE PUBLICATION everything FOR ALL TABLES").await.unwrap();
    let id = create(&store, some_user(), "{}").await;
    accept(&store, update(id, "[]")).await;
    complete(&store, done(id, 2, "1")).await;
    store.published(&[(id, 1), (id, 2)]).await.unwrap();
    let steps = "SELECT count(*) FROM orders_history";
    assert_eq!(client.query_one(steps, &[]).await.unwrap().get::<_, i64>(0), 3);
    assert_eq!(store.clean(Timestamp::MAX, Some(Timestamp::MAX), 10).await, Ok(3));
    assert_eq!(client.query_one(steps, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn what_was_confirmed_survives_a_crash_whatever_the_server_is_set_to() {
    let servers = Private::new();
    let dsn = servers.up(Server::Postgres);
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    for setting in ["synchronous_commit = off", "wal_writer_delay = '10s'", "wal_writer_flush_after = '1GB'"]
    {
        client.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
    }
    client.batch_execute("ALTER DATABASE orderstream SET synchronous_commit = off").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    until("the setting", async || {
        let row = client.query_one("SHOW wal_writer_delay", &[]).await.unwrap();
        (row.get::<_, &str>(0) == "10s").then_some(())
    })
    .await;
    drop(client);
    let _ = connection.await;
    let store = PostgresStore::open(&Options { dsn, ..options() }).unwrap();
    store.migrate().await.unwrap();
    let mut made = Vec::new();
    for _ in 0..20 {
        made.push(create(&store, some_user(), "{}").await);
    }
    servers.kill("postgres");
    servers.up(Server::Postgres);
    until("the server", async || store.check().await.ok()).await;
    for id in made {
        assert_eq!(row(&store, id).await.status, Status::New);
    }
}
