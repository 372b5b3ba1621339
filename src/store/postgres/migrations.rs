//! The schema: plain files that also work with `psql -f`, applied in their order by one process at a time. From the
//! third on each notes itself in a ledger; the first two, which another service may have applied, are known by what
//! they made.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::link::Server;
use super::trouble::Trouble;

/// The migrations, oldest first. Files that were released never change; new ones are added at the end.
const MIGRATIONS: [&str; 6] = [
    include_str!("../../../migrations/0001_init.up.sql"),
    include_str!("../../../migrations/0002_remove_external_id.up.sql"),
    include_str!("../../../migrations/0003_versions_and_outbox.up.sql"),
    include_str!("../../../migrations/0004_keys_history_and_lists.up.sql"),
    include_str!("../../../migrations/0005_index_of_users.up.sql"),
    include_str!("../../../migrations/0006_own_changes_and_lost_history.up.sql"),
];

/// The lock that keeps two processes from migrating one database: the first eight bytes of "orderstream".
const LOCK: i64 = 0x6f72_6465_7273_7472;

/// How long a migration may take: it may build an index over all orders.
const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// How many migrations were applied now.
    pub applied: u32,
    /// The schema's version after them.
    pub version: u32,
}

/// Why the schema was not brought to this program's version. What had been applied before stays applied, and trying
/// again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database cannot be reached.
    #[error("{0}")]
    Unreachable(String),
    /// It was made by a newer version of this program.
    #[error(
        "the database has schema version {found} and this program knows {known}; use a newer orderstream"
    )]
    TooNew {
        /// The database's version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A migration failed, and was undone.
    #[error("migration {version} failed and was undone: {reason}")]
    Failed {
        /// Its number.
        version: u32,
        /// What the server says.
        reason: String,
    },
    /// The server failed otherwise.
    #[error("{0}")]
    Server(String),
}

impl From<Trouble> for MigrateError {
    fn from(trouble: Trouble) -> MigrateError {
        MigrateError::Server(trouble.to_string())
    }
}

/// Brings the database to this program's version.
pub(super) async fn run(server: &Server) -> Result<Migrated, MigrateError> {
    let client = server
        .connect(true)
        .await
        .map_err(|trouble| MigrateError::Unreachable(server.unreachable(&trouble)))?;
    let prepare = format!("SET statement_timeout = {}; SELECT pg_advisory_lock({LOCK})", LIMIT.as_millis());
    client.batch_execute(&prepare).await.map_err(Trouble::from)?;
    let known = MIGRATIONS.len() as u32;
    let found = version(&client).await?;
    if found > known {
        return Err(MigrateError::TooNew { found, known });
    }
    for (version, sql) in (1..).zip(MIGRATIONS).skip(found as usize) {
        client.batch_execute(&format!("BEGIN;\n{sql}\nCOMMIT")).await.map_err(|error| {
            let reason = Trouble::from(error).to_string();
            MigrateError::Failed { version, reason }
        })?;
    }
    settle(&client).await?;
    // The lock goes with the connection.
    Ok(Migrated { applied: known - found, version: known })
}

/// Has the places of the history go on growing where a server has taken over another one's dump, and so counts its
/// transactions from another number.
async fn settle(client: &Client) -> Result<(), Trouble> {
    let sql =
        "SELECT system_identifier, cluster FROM pg_control_system(), orders_history_origin WHERE single";
    let row = match client.query_opt(sql, &[]).await {
        // Where not everybody may know the server by its number, nobody can tell.
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => return Ok(()),
        row => row?,
    };
    let Some(row) = row else {
        client.batch_execute("INSERT INTO orders_history_origin (origin, cluster) VALUES (0, 0)").await?;
        return Box::pin(settle(client)).await;
    };
    let (here, noted): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    if noted == Some(here) {
        return Ok(());
    }
    // Nobody writes a step meanwhile: who waits here sees the new origin.
    let place = match noted {
        None => "origin",
        Some(_) => {
            "greatest(origin, (SELECT max(place) FROM orders_history), (SELECT max(history_place) FROM orders))"
        }
    };
    let sql = format!(
        "BEGIN; LOCK TABLE orders_history IN EXCLUSIVE MODE;
         UPDATE orders_history_origin SET origin = {place}, cluster = {here}; COMMIT"
    );
    Ok(client.batch_execute(&sql).await?)
}

/// The version of the schema as it is: by the ledger, or by what the files before it made.
async fn version(client: &Client) -> Result<u32, Trouble> {
    let sql = "SELECT to_regclass('orders') IS NOT NULL, to_regclass('orders_migrations') IS NOT NULL,
                      EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('orders')
                                AND attname = 'external_id' AND NOT attisdropped)";
    let row = client.query_one(sql, &[]).await?;
    let (has_table, has_ledger, has_external_id) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if has_ledger {
        let row = client.query_one("SELECT coalesce(max(version), 0) FROM orders_migrations", &[]).await?;
        return Ok(u32::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0));
    }
    Ok(match (has_table, has_external_id) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => 2,
    })
}
