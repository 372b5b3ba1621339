//! A schema of one test in the shared test database: empty, or with the tables. Dropping the handle drops the schema.
//! So the tests can run at the same time in one database, and a test that needs a server's settings or its crash starts
//! a server of its own.

use orderstream::config::ReadFrom;
use orderstream::store::postgres::{Options, PostgresStore};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

use crate::harness::servers;
use crate::harness::wait::within;

/// A schema, until it is dropped.
pub(crate) struct Schema {
    name: String,
    /// A DSN whose search path is this schema.
    pub(crate) dsn: String,
}

impl Schema {
    /// A schema without a table.
    pub(crate) async fn empty() -> Schema {
        let name = format!("test_{}", uuid::Uuid::now_v7().simple());
        execute(servers::postgres(), &format!("CREATE SCHEMA {name}")).await;
        let dsn = servers::postgres();
        let separator = if dsn.contains('?') { '&' } else { '?' };
        Schema { dsn: format!("{dsn}{separator}options=-csearch_path%3D{name}"), name }
    }

    /// A schema with the tables of this version.
    pub(crate) async fn migrated() -> Schema {
        let schema = Schema::empty().await;
        schema.open().migrate().await.expect("an empty schema can be migrated");
        schema
    }

    /// A store in this schema.
    pub(crate) fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.options()).expect("a DSN that can be used")
    }

    /// The options of such a store.
    pub(crate) fn options(&self) -> Options {
        Options { dsn: self.dsn.clone(), ..options() }
    }

    /// A plain connection to this schema.
    pub(crate) async fn connect(&self) -> Client {
        connect(&self.dsn).await
    }

    /// Runs SQL in this schema.
    pub(crate) async fn execute(&self, sql: &str) {
        execute(&self.dsn, sql).await;
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // A test that failed may have left a session behind that holds a lock.
        let sql = format!("SET lock_timeout = '60s'; DROP SCHEMA {} CASCADE", self.name);
        // A drop cannot wait for the runtime that it may be running on.
        let work = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(execute(servers::postgres(), &sql));
        };
        let _ = std::thread::spawn(work).join();
    }
}

/// The options of a store, with an empty DSN.
pub(crate) fn options() -> Options {
    Options {
        dsn: String::new(),
        write_connections: 1,
        read_connections: 1,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(30),
        history: true,
        dsn_file: None,
        read_from: ReadFrom::Primary,
    }
}

async fn connect(dsn: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.expect("a Postgres that listens");
    tokio::spawn(connection);
    client
}

async fn execute(dsn: &str, sql: &str) {
    let executed = within(sql, async { connect(dsn).await.batch_execute(sql).await }).await;
    executed.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}
