//! `PgBouncer` in front of Postgres. Where it shares connections between transactions, every command refuses to start,
//! and leaves no lock or setting in the shared sessions; where each client has its own session, the store works.

use orderstream::store::Maintenance;
use orderstream::store::postgres::{Options, PostgresStore};
use tokio_postgres::NoTls;

use crate::harness::binary::Place;
use crate::harness::schema::options;
use crate::harness::servers::{Private, Server};
use crate::harness::wait::until;
use crate::store::conformance::{create, row, some_user};

#[tokio::test]
async fn a_pool_that_shares_connections_is_refused_and_no_setting_remains() {
    let servers = Private::new();
    let dsn = servers.up(Server::Postgres);
    let pool = servers.pool("transaction");
    let place = Place::new();
    for command in [&["migrate"][..], &["up"], &["verify"]] {
        let ran = crate::harness::binary::ran(
            place.command(command).env("POSTGRES_DSN", &pool).env("API_PORT", "0"),
        );
        assert_eq!(ran.code, 2, "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("pool_mode = session"), "{command:?}: {}", ran.stderr);
    }
    let store = PostgresStore::open(&Options { dsn: pool.clone(), ..options() }).unwrap();
    let refused = store.check().await.unwrap_err().to_string();
    assert!(refused.contains("pool_mode = session"), "{refused}");

    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
    tokio::spawn(connection);
    let locks = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'";
    assert!(client.query(locks, &[]).await.unwrap().is_empty());
    let (shared, connection) = tokio_postgres::connect(&pool, NoTls).await.unwrap();
    tokio::spawn(connection);
    for (setting, expected) in [("statement_timeout", "0"), ("enable_seqscan", "on"), ("jit", "on")] {
        let shown = shared.simple_query(&format!("SHOW {setting}")).await.unwrap();
        let value = shown.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        assert_eq!(value, Some(expected), "{setting}");
    }
}

#[tokio::test]
async fn a_pool_with_a_session_per_client_works_like_the_server() {
    let servers = Private::new();
    let dsn = servers.up(Server::Postgres);
    let pool = servers.pool("session");
    let store = PostgresStore::open(&Options { dsn: pool, ..options() }).unwrap();
    store.migrate().await.unwrap();
    let id = create(&store, some_user(), "{}").await;
    assert_eq!(row(&store, id).await.version, 1);
    assert_eq!(store.check().await, Ok(()));
    store.close().await;
    let (client, connection) = tokio_postgres::connect(&dsn, NoTls).await.unwrap();
    tokio::spawn(connection);
    let locks = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'";
    until("no lock", async || client.query(locks, &[]).await.unwrap().is_empty().then_some(())).await;
}
