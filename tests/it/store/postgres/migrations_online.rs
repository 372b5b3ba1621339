//! Migrations of tables that are in use: writers continue while the migration waits for a lock, a killed migration
//! continues later, and its schema equals that of the files. The tests use servers of their own, because building an
//! index waits for every transaction of the database.

use orderstream::store::Maintenance;
use orderstream::store::postgres::{Options, PostgresStore};
use tokio::process::{Child, Command};
use tokio_postgres::{Client, NoTls};

use crate::harness::binary::{Place, ran};
use crate::harness::schema::{Schema, options};
use crate::harness::servers::{Private, Server};
use crate::harness::wait::{until, within};
use crate::store::postgres::migrations::{FILES, psql_into};

/// Orders as the previous service writes them, some 20 MB: too many for one transaction.
const FILL: &str = "
INSERT INTO orders (order_id, user_id, status, payload, created_at, updated_at, bucket)
SELECT gen_random_uuid(), gen_random_uuid(), CASE WHEN n % 10 = 0 THEN 'deleted' ELSE 'done' END,
       jsonb_build_object('id', 'E-' || n, 'text', repeat('x', 80)),
       CASE WHEN n % 7 = 0 THEN NULL ELSE timestamptz '2025-01-01Z' END, timestamptz '2025-01-02Z', 0
  FROM generate_series(1, 80000) n";

/// A write of the previous service.
const WRITE: &str = "INSERT INTO orders (order_id, user_id, status, payload, bucket)
                     VALUES (gen_random_uuid(), gen_random_uuid(), 'new', '{\"id\": \"W\"}', 0)";

/// All columns, indexes, keys and options of a schema, a line each, without those that only the previous release uses.
/// The index of a partition has another name where it was built on its own.
const CATALOG: &str = "
SELECT format('%s.%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
              pg_get_expr(d.adbin, d.adrelid))
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
UNION ALL
SELECT format('%s %s %s', t.relname, x.indisvalid,
              regexp_replace(replace(pg_get_indexdef(x.indexrelid), current_schema() || '.', ''),
                             'INDEX [^ ]+ ON', CASE WHEN t.relispartition THEN 'INDEX ON' ELSE 'INDEX ' || i.relname END))
  FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
 WHERE t.relnamespace = current_schema()::regnamespace AND t.relkind IN ('r', 'p')
UNION ALL
SELECT format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
 WHERE connamespace = current_schema()::regnamespace
UNION ALL
SELECT format('%s %s', relname, reloptions) FROM pg_class
 WHERE relnamespace = current_schema()::regnamespace AND reloptions IS NOT NULL
ORDER BY 1";

async fn catalog(dsn: &str) -> Vec<String> {
    let client = connect(dsn).await;
    client.query(CATALOG, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn connect(dsn: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A database of the previous service, with its orders, and with `more` of our files applied.
async fn filled(servers: &Private, more: usize) -> String {
    let dsn = servers.up(Server::Postgres);
    FILES[..2].iter().for_each(|file| psql_into(&dsn, file));
    connect(&dsn).await.batch_execute(FILL).await.unwrap();
    FILES[2..].iter().take(more).for_each(|file| psql_into(&dsn, file));
    dsn
}

async fn check(dsn: &str) {
    let store = PostgresStore::open(&Options { dsn: dsn.to_owned(), ..options() }).unwrap();
    assert_eq!(store.check().await, Ok(()));
}

/// A program that migrates, with its own application name.
struct Migration {
    name: String,
    place: Place,
}

impl Migration {
    fn new() -> Migration {
        Migration { name: format!("migrates-{}", uuid::Uuid::now_v7()), place: Place::new() }
    }

    fn start(&self, dsn: &str) -> Child {
        let mut command = Command::from(self.place.command(&["migrate"]));
        command.env("POSTGRES_DSN", format!("{dsn}?application_name={}", self.name));
        command.kill_on_drop(true).spawn().expect("the program")
    }

    /// Waits until one of its statements waits for a lock; answers the id of the server's process.
    async fn waits(&self, client: &Client, statement: &str) -> i32 {
        let sql = "SELECT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                    WHERE NOT l.granted AND a.application_name = $1 AND a.query LIKE '%' || $2 || '%' LIMIT 1";
        until("the migration to wait", async || {
            client.query_opt(sql, &[&self.name, &statement]).await.unwrap().map(|row| row.get(0))
        })
        .await
    }
}

async fn count(client: &Client, condition: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM orders WHERE {condition}"), &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_continue_while_a_migration_waits_and_its_schema_equals_the_files() {
    let servers = Private::new();
    let dsn = filled(&servers, 0).await;
    // A transaction that does not end blocks every strong lock.
    let long = connect(&dsn).await;
    long.batch_execute(&format!("BEGIN; {WRITE}")).await.unwrap();
    let (client, migration) = (connect(&dsn).await, Migration::new());
    let mut migrating = migration.start(&dsn);
    migration.waits(&client, "ALTER TABLE orders").await;
    for _ in 0..20 {
        within("a writer", client.batch_execute(WRITE)).await.unwrap();
    }
    assert_eq!(migrating.try_wait().unwrap(), None, "it still waits");
    long.batch_execute("COMMIT").await.unwrap();
    // Now the migration continues, while other sessions write.
    let mut written = 0;
    let ended = loop {
        client.batch_execute(WRITE).await.unwrap();
        written += 1;
        if let Some(ended) = migrating.try_wait().unwrap() {
            break ended;
        }
    };
    assert!(ended.success());
    assert_eq!(count(&client, "payload ->> 'id' = 'W'").await, 21 + written);
    assert_eq!(count(&client, "status = 'deleted' AND deleted_at IS NULL OR created_at IS NULL").await, 0);
    check(&dsn).await;

    let by_hand = Schema::empty().await;
    FILES.iter().for_each(|file| psql_into(&by_hand.dsn, file));
    by_hand.execute("DROP INDEX orders_external_id").await;
    assert_eq!(catalog(&dsn).await, catalog(&by_hand.dsn).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_killed_while_building_an_index_continues_later() {
    let servers = Private::new();
    let dsn = filled(&servers, 4).await;
    // An old snapshot: building an index concurrently waits for it, and writers do not.
    let long = connect(&dsn).await;
    long.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM orders_migrations")
        .await
        .unwrap();
    let (client, migration) = (connect(&dsn).await, Migration::new());
    let mut migrating = migration.start(&dsn);
    let process = migration.waits(&client, "CREATE UNIQUE INDEX CONCURRENTLY").await;
    for _ in 0..20 {
        within("a writer", client.batch_execute(WRITE)).await.unwrap();
    }
    migrating.kill().await.unwrap();
    client.execute("SELECT pg_terminate_backend($1)", &[&process]).await.unwrap();
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('orders_history_pkey')";
    assert_eq!(client.query_opt(valid, &[]).await.unwrap().map(|row| row.get::<_, bool>(0)), Some(false));
    long.batch_execute("COMMIT").await.unwrap();
    let again = within("the migration", migration.start(&dsn).wait()).await.unwrap();
    assert!(again.success());
    assert!(client.query_one(valid, &[]).await.unwrap().get::<_, bool>(0));
    check(&dsn).await;
    // The previous release still finds its index, until the migration is finished on request.
    let kept = "SELECT to_regclass('orders_external_id') IS NOT NULL";
    assert!(client.query_one(kept, &[]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn a_plan_lists_the_steps_and_their_locks_and_changes_nothing() {
    let schema = Schema::empty().await;
    FILES[..6].iter().for_each(|file| psql_into(&schema.dsn, file));
    let before = catalog(&schema.dsn).await;
    let place = Place::new();
    let planned = ran(place.command(&["migrate", "--plan"]).env("POSTGRES_DSN", &schema.dsn));
    assert_eq!(planned.code, 0, "{}", planned.stderr);
    for expected in [
        "schema version 6 of 8",
        "0007  CREATE UNIQUE INDEX orders_history_pkey ON orders_history",
        "concurrently, partition by partition",
        "ACCESS EXCLUSIVE for a moment",
        "0008  CREATE TABLE IF NOT EXISTS orders_dead_letters",
        "locks: none on a table that is in use",
    ] {
        assert!(planned.stdout.contains(expected), "{expected}: {}", planned.stdout);
    }
    assert_eq!(catalog(&schema.dsn).await, before);
}
