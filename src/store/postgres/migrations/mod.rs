//! The migrations: plain SQL files that also work with `psql -f`, applied in their order by one process at a time. From
//! the third on, each records itself in a ledger; the first two, which another service may have applied, are recognized
//! by their tables and columns. On large tables a file is applied statement by statement, while other processes work.
//! What the previous release still uses is dropped only on request, or where that release has never run.

mod online;
mod statements;

use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use self::statements::Statement;
use super::connection::server::Server;
use super::connection::session::Purpose;
use super::failure::Failure;
use crate::telemetry::LogOnce;

/// The migrations, oldest first. Files that were released never change; new ones are added at the end.
const MIGRATIONS: [&str; 8] = [
    include_str!("../../../../migrations/0001_init.up.sql"),
    include_str!("../../../../migrations/0002_remove_external_id.up.sql"),
    include_str!("../../../../migrations/0003_versions_and_outbox.up.sql"),
    include_str!("../../../../migrations/0004_keys_history_and_lists.up.sql"),
    include_str!("../../../../migrations/0005_index_of_users.up.sql"),
    include_str!("../../../../migrations/0006_own_changes_and_lost_history.up.sql"),
    include_str!("../../../../migrations/0007_keys_and_collations.up.sql"),
    include_str!("../../../../migrations/0008_dead_letters.up.sql"),
];

/// The newest version that this program knows.
const KNOWN: u32 = MIGRATIONS.len() as u32;

/// The index that only the previous release uses.
pub const SUPERSEDED: &str = "orders_external_id";

/// The lock with which earlier releases prevent that two processes migrate one database: the first eight bytes of
/// "orderstream". Held for short transactions only: a process that waits for it would delay an index that is being
/// built.
const LOCK: i64 = 0x6f72_6465_7273_7472;

/// The lock that prevents that two processes migrate one schema, held to the end: "orde", and the schema.
const ONE_AT_A_TIME: &str = "pg_try_advisory_lock(1869767781, hashtext(current_schema()))";

/// The pause between attempts to get the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How long a statement may take: it may build an index over all orders.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// The pause between attempts to connect to a server that is starting.
const CONNECT_PAUSE: Duration = Duration::from_millis(500);

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// How many migrations were applied now.
    pub applied: u32,
    /// The schema's version after them.
    pub version: u32,
    /// Whether something is left that only the previous release uses, and `orderstream migrate --finish` drops.
    pub is_unfinished: bool,
}

/// Why the schema was not brought to this program's version. Statements that were applied stay applied, and a retry
/// continues behind them.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// A newer version of this program made the schema.
    #[error(
        "the database has schema version {found} and this program knows {known}; use a newer orderstream"
    )]
    TooNew {
        /// The database's version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A migration failed. A retry continues where it failed.
    #[error("migration {version} failed, and continues there when it is run again: {reason}")]
    Failed {
        /// Its number.
        version: u32,
        /// The message of the server.
        reason: String,
    },
    /// The server failed in another way.
    #[error("{0}")]
    Server(String),
}

impl From<Failure> for MigrateError {
    fn from(failure: Failure) -> MigrateError {
        MigrateError::Server(failure.to_string())
    }
}

/// Brings the database to this program's version. With `finish`, also drops what only the previous release uses.
pub(super) async fn run(server: &Server, finish: bool) -> Result<Migrated, MigrateError> {
    let client = prepared(server).await?;
    lock(&client).await?;
    let found = version(&client).await?;
    check(found)?;
    let is_small = online::is_small(&client).await?;
    for (version, sql) in (1..).zip(MIGRATIONS).skip(found.applied as usize) {
        let applied = match is_small {
            true => online::in_short(&client, &format!("SELECT pg_advisory_xact_lock({LOCK});\n{sql}")).await,
            false => apply_online(&client, found, version, sql).await,
        };
        applied.map_err(|failure| MigrateError::Failed { version, reason: failure.to_string() })?;
    }
    if finish || !found.has_ledger {
        online::in_short(&client, &drop_superseded()).await?;
    }
    adjust_origin(&client).await?;
    let is_unfinished = is_unfinished(&client).await?;
    // The lock ends with the connection.
    Ok(Migrated { applied: KNOWN - found.applied, version: KNOWN, is_unfinished })
}

/// What [`run`] would do, one or two lines for each statement.
pub(super) async fn plan(server: &Server, finish: bool) -> Result<Vec<String>, MigrateError> {
    let client = prepared(server).await?;
    let found = version(&client).await?;
    check(found)?;
    let mut lines = vec![format!("schema version {} of {KNOWN}", found.applied)];
    if online::is_small(&client).await? && found.applied < KNOWN {
        let small = "the tables are small: each migration is one transaction, and its locks last for a moment; on \
                     larger tables each statement runs as the line below it says";
        lines.push(small.to_owned());
    }
    for (version, sql) in (1..).zip(MIGRATIONS).skip(found.applied as usize) {
        let statements = needed_statements(found, sql);
        lines.extend(statements.iter().map(|statement| format!("{version:04}  {statement:#}")));
    }
    if finish || !found.has_ledger {
        let why = if finish { "--finish" } else { "no previous release has used this database" };
        lines
            .push(format!("then  {} ({why})\n      locks: ACCESS EXCLUSIVE for a moment", drop_superseded()));
    }
    Ok(lines)
}

fn drop_superseded() -> String {
    format!("DROP INDEX IF EXISTS {SUPERSEDED}")
}

/// The statements of a file that are needed: where the previous release has never run, its index is not built.
fn needed_statements(found: Found, sql: &str) -> Vec<Statement> {
    let is_needed = |statement: &Statement| match statement {
        Statement::Index(index) => found.has_ledger || index.name != SUPERSEDED,
        _ => true,
    };
    statements::of_file(sql).into_iter().filter(is_needed).collect()
}

async fn apply_online(client: &Client, found: Found, version: u32, sql: &str) -> Result<(), Failure> {
    for statement in needed_statements(found, sql) {
        tracing::info!("migration {version}: {statement}");
        online::run(client, &statement).await?;
    }
    Ok(())
}

fn check(found: Found) -> Result<(), MigrateError> {
    match found.applied > KNOWN {
        true => Err(MigrateError::TooNew { found: found.applied, known: KNOWN }),
        false => Ok(()),
    }
}

/// A connection whose statements may take long. The server's notices, such as "index does not exist, skipping", stay
/// out of the log.
async fn prepared(server: &Server) -> Result<Client, MigrateError> {
    let client = connect(server).await?;
    let settings = format!(
        "SET statement_timeout = {}; SET client_min_messages = warning",
        STATEMENT_TIMEOUT.as_millis()
    );
    client.batch_execute(&settings).await.map_err(Failure::from)?;
    Ok(client)
}

/// Waits until no other process migrates. It polls the lock instead of waiting within a statement, whose snapshot would
/// delay an index that the other process builds.
async fn lock(client: &Client) -> Result<(), Failure> {
    let sql = format!("SELECT coalesce({ONE_AT_A_TIME}, true)");
    while !client.query_one(&sql, &[]).await?.try_get::<_, bool>(0)? {
        sleep(LOCK_PAUSE).await;
    }
    Ok(())
}

/// Whether something is left that only the previous release uses.
async fn is_unfinished(client: &Client) -> Result<bool, Failure> {
    let sql = "SELECT to_regclass($1) IS NOT NULL";
    Ok(client.query_one(sql, &[&SUPERSEDED]).await?.try_get(0)?)
}

/// Opens a connection. Waits for a server that is starting, which may take long to recover.
async fn connect(server: &Server) -> Result<Client, MigrateError> {
    let log = LogOnce::default();
    loop {
        let failure = match server.connect(Purpose::Write).await {
            Ok(client) => return Ok(client),
            Err(failure) => failure,
        };
        let reason = server.unreachable(&failure);
        if !failure.is_starting() {
            return Err(MigrateError::Unreachable(reason));
        }
        if log.failed() {
            tracing::warn!("{reason}; waiting until the server has started");
        }
        sleep(CONNECT_PAUSE).await;
    }
}

/// Keeps the offsets of the history growing where another server has restored the database, whose transactions have
/// other numbers: it moves the origin that is added to them.
async fn adjust_origin(client: &Client) -> Result<(), Failure> {
    let sql =
        "SELECT system_identifier, cluster FROM pg_control_system(), orders_history_origin WHERE single";
    let row = match client.query_opt(sql, &[]).await {
        // A login without the privilege to read the server's identifier cannot detect another server.
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => return Ok(()),
        row => row?,
    };
    let Some(row) = row else {
        client.batch_execute("INSERT INTO orders_history_origin (origin, cluster) VALUES (0, 0)").await?;
        return Box::pin(adjust_origin(client)).await;
    };
    let (here, recorded): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    if recorded == Some(here) {
        return Ok(());
    }
    // The lock stops writers, so that those that wait see the new origin.
    let place = match recorded {
        None => "origin",
        Some(_) => {
            "greatest(origin, (SELECT max(place) FROM orders_history), (SELECT max(history_place) FROM orders))"
        }
    };
    let sql = format!(
        "LOCK TABLE orders_history IN EXCLUSIVE MODE;
         UPDATE orders_history_origin SET origin = {place}, cluster = {here}"
    );
    online::in_short(client, &sql).await
}

/// The state of a database's schema.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// The newest migration that was applied.
    applied: u32,
    /// Whether a release of this program has migrated it before.
    has_ledger: bool,
}

/// The version of the schema: from the ledgers, or from the tables and columns of the files before the ledger.
/// Additions of a newer release that this one can work with do not count.
async fn version(client: &Client) -> Result<Found, Failure> {
    let sql = "SELECT to_regclass('orders') IS NOT NULL, to_regclass('orders_migrations') IS NOT NULL,
                      EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('orders')
                                AND attname = 'external_id' AND NOT attisdropped),
                      to_regclass('orders_expansions') IS NOT NULL";
    let row = client.query_one(sql, &[]).await?;
    let (has_table, has_ledger, has_external_id) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let newest = async |ledger: &str| -> Result<u32, Failure> {
        let sql = format!("SELECT coalesce(max(version), 0) FROM {ledger}");
        let newest: i32 = client.query_one(&sql, &[]).await?.try_get(0)?;
        Ok(u32::try_from(newest).unwrap_or(0))
    };
    let applied = match (has_ledger, has_table, has_external_id) {
        (true, ..) => {
            let expanded = if row.try_get(3)? { newest("orders_expansions").await?.min(KNOWN) } else { 0 };
            newest("orders_migrations").await?.max(expanded)
        }
        (_, false, _) => 0,
        (_, true, true) => 1,
        (_, true, false) => 2,
    };
    Ok(Found { applied, has_ledger })
}
