//! The promises of a session, with any settings of the server and any number of tasks: a transaction contains the
//! statements of one caller only, and confirmed orders survive a crash of the server. The crash test uses a server
//! whose own settings would lose commits.

use std::sync::Arc;

use jiff::Timestamp;
use orderstream::order::{Command, CommandRequest, OrderId, Status};
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

/// A batch with every kind of command, which needs a transaction; large, so that sending it takes a while.
async fn mixed(store: &PostgresStore) -> Arc<[CommandRequest]> {
    let text = format!("{:?}", "x".repeat(2000));
    let user = some_user();
    let (old, gone) = (create(store, user, "{}").await, create(store, user, "{}").await);
    let created = (0..50).map(|_| creation(user, &text));
    created.chain([update(old, &text), deletion(gone)]).map(CommandRequest::from).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_transaction_contains_no_statement_of_another_caller() {
    const ROUNDS: usize = 200;
    let schema = Schema::migrated().await;
    let store = Arc::new(schema.open());
    let existing = create(&*store, some_user(), "{}").await;
    let mut batches = Vec::new();
    for _ in 0..ROUNDS {
        batches.push(mixed(&store).await);
    }
    let mut tasks = JoinSet::new();
    let transactions = Arc::clone(&store);
    tasks.spawn(async move {
        let mut created = Vec::new();
        for batch in batches {
            let answers =
                transactions.apply(Arc::clone(&batch)).await.expect("nothing is wrong with the batch");
            assert!(answers.iter().all(Result::is_ok));
            created.extend(batch.iter().map(|request| request.command.order_id()));
        }
        created
    });
    for _ in 0..3 {
        let others = Arc::clone(&store);
        tasks.spawn(async move {
            let mut created = Vec::new();
            for _ in 0..ROUNDS {
                let user_id = some_user();
                // This first statement fails, and would abort a transaction that contains it.
                let again = Command::Create { order_id: existing, user_id, payload: payload("{}") };
                let refused = others.apply([again.into()].into()).await.expect("a refusal");
                assert!(matches!(refused[0], Err(Refusal::Exists { .. })), "{refused:?}");
                let command = creation(user_id, "{}");
                let id = command.order_id();
                let answers = others.apply([command.into()].into()).await.expect("an order");
                assert!(matches!(answers[0], Ok(Accepted::Applied(_))), "{answers:?}");
                created.push(id);
            }
            created
        });
    }
    let created: Vec<OrderId> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(created.len(), ROUNDS * (52 + 3));
    for ids in created.chunks(500) {
        let found = store.processed_versions(ids).await.unwrap();
        assert!(found.iter().all(Option::is_some), "a confirmed order is missing");
    }
}

#[tokio::test]
async fn a_publication_of_all_tables_breaks_no_statement() {
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
    let events = "SELECT count(*) FROM orders_history";
    assert_eq!(client.query_one(events, &[]).await.unwrap().get::<_, i64>(0), 3);
    assert_eq!(store.clean(Timestamp::MAX, Some(Timestamp::MAX), 10).await, Ok(3));
    assert_eq!(client.query_one(events, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn confirmed_orders_survive_a_crash_with_any_server_settings() {
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
    let mut created = Vec::new();
    for _ in 0..20 {
        created.push(create(&store, some_user(), "{}").await);
    }
    servers.kill("postgres");
    servers.up(Server::Postgres);
    until("the server", async || store.check().await.ok()).await;
    for id in created {
        assert_eq!(row(&store, id).await.status, Status::New);
    }
}
