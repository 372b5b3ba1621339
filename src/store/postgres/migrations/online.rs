//! Applies a migration to tables that are in use. A reader or writer must not wait longer than the lock timeout of a
//! second: an index is built concurrently, rows change in batches, and a statement that needs a strong lock ends at the
//! timeout and is tried again. Each statement can be repeated, so a migration that was killed continues.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::statements::{Index, Statement, Update};
use crate::store::postgres::failure::Failure;

/// How long a statement waits for a lock. Other processes queue behind it meanwhile.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// For how long a statement is tried again that does not get its lock.
const RETRY_FOR: Duration = Duration::from_secs(10 * 60);

/// The pause after the first attempt, and the longest one, in which others use the table.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// How many rows change in one transaction.
const BATCH: u32 = 5_000;

/// Up to how many bytes of tables a migration is one transaction: an index of them is built in an instant.
const SMALL_BYTES: i64 = 8 << 20;

/// Whether the tables are so small that a whole migration delays no other process.
pub(super) async fn is_small(client: &Client) -> Result<bool, Failure> {
    let sql = "SELECT coalesce(sum(pg_table_size(t.oid)), 0)::int8 FROM (
                   SELECT inhrelid AS oid FROM pg_inherits WHERE inhparent = to_regclass('orders')
                   UNION ALL SELECT to_regclass('orders') UNION ALL SELECT to_regclass('orders_history')
                   UNION ALL SELECT to_regclass('orders_keys')) AS t WHERE t.oid IS NOT NULL";
    Ok(client.query_one(sql, &[]).await?.try_get::<_, i64>(0)? <= SMALL_BYTES)
}

/// Applies a statement.
pub(in crate::store::postgres) async fn run(client: &Client, statement: &Statement) -> Result<(), Failure> {
    match statement {
        Statement::Short(sql) => in_short(client, sql).await,
        Statement::Analyze(sql) => Ok(client.batch_execute(sql).await?),
        Statement::Index(index) => build(client, index).await,
        Statement::Update(update) => change(client, update).await,
    }
}

/// Runs SQL in one transaction with a short lock timeout, and retries it.
pub(super) async fn in_short(client: &Client, sql: &str) -> Result<(), Failure> {
    let transaction =
        format!("BEGIN; SET LOCAL lock_timeout = {};\n{sql};\nCOMMIT", LOCK_TIMEOUT.as_millis());
    let (begun, mut pause) = (Instant::now(), PAUSES[0]);
    loop {
        let Err(error) = client.batch_execute(&transaction).await else { return Ok(()) };
        let is_locked = is_lock_failure(&error) && begun.elapsed() < RETRY_FOR;
        if !is_locked {
            return Err(error.into());
        }
        client.batch_execute("ROLLBACK").await?;
        tracing::info!(%error, "a migration did not get a lock; it is tried again");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES[1]);
    }
}

fn is_lock_failure(error: &tokio_postgres::Error) -> bool {
    let codes = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
    error.code().is_some_and(|code| codes.contains(code))
}

/// Builds an index concurrently. On a partitioned table: on each partition, and then as one.
async fn build(client: &Client, index: &Index) -> Result<(), Failure> {
    if is_valid(client, &index.name).await? == Some(true) {
        return Ok(());
    }
    let partitions =
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass($1) ORDER BY 1";
    let partitions = client.query(partitions, &[&index.table]).await?;
    if partitions.is_empty() {
        return build_concurrently(client, index).await;
    }
    let mut parts = Vec::with_capacity(partitions.len());
    for (number, row) in (1..).zip(&partitions) {
        let table: String = row.try_get(0)?;
        tracing::info!("building the index {} on {table}, {number} of {}", index.name, partitions.len());
        let name = format!("{table}_{}", index.name.trim_start_matches("orders_"));
        build_concurrently(client, &Index { name: name.clone(), table, ..index.clone() }).await?;
        parts.push(name);
    }
    let Index { name, table, rest, is_unique } = index;
    let unique = if *is_unique { "UNIQUE " } else { "" };
    in_short(client, &format!("CREATE {unique}INDEX IF NOT EXISTS {name} ON ONLY {table} {rest}")).await?;
    for part in parts {
        // An index that is attached already is not an error.
        in_short(client, &format!("ALTER INDEX {name} ATTACH PARTITION {part}")).await?;
    }
    Ok(())
}

async fn build_concurrently(client: &Client, index: &Index) -> Result<(), Failure> {
    let Index { name, table, rest, is_unique } = index;
    let unique = if *is_unique { "UNIQUE " } else { "" };
    let begun = Instant::now();
    loop {
        match is_valid(client, name).await? {
            Some(true) => return Ok(()),
            // Left by an interrupted attempt: no query uses it, but every write updates it.
            Some(false) => {
                client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).await?;
            }
            None => {}
        }
        let sql = format!("CREATE {unique}INDEX CONCURRENTLY {name} ON {table} {rest}");
        match client.batch_execute(&sql).await {
            Ok(()) => return Ok(()),
            Err(error) if is_lock_failure(&error) && begun.elapsed() < RETRY_FOR => sleep(PAUSES[0]).await,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether an index can be used; `None` where it does not exist.
async fn is_valid(client: &Client, name: &str) -> Result<Option<bool>, Failure> {
    let sql = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)";
    Ok(client.query_opt(sql, &[&name]).await?.map(|row| row.try_get(0)).transpose()?)
}

/// Changes rows of the orders, a batch of ids at a time.
async fn change(client: &Client, update: &Update) -> Result<(), Failure> {
    let next = client
        .prepare("SELECT order_id FROM orders WHERE order_id > $1 ORDER BY order_id OFFSET $2 LIMIT 1")
        .await?;
    let mut after = Uuid::nil();
    let mut from = String::new();
    loop {
        let row = client.query_opt(&next, &[&after, &i64::from(BATCH - 1)]).await?;
        let upto: Option<Uuid> = row.map(|row| row.try_get(0)).transpose()?;
        let end = upto.map_or_else(String::new, |upto| format!(" AND order_id <= '{upto}'"));
        let Update { head, condition } = update;
        in_short(client, &format!("{head} WHERE ({condition}){from}{end}")).await?;
        let Some(upto) = upto else { return Ok(()) };
        (after, from) = (upto, format!(" AND order_id > '{upto}'"));
    }
}
