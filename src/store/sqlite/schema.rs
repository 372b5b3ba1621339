//! Opens database files, with the pragmas that make a commit durable, and migrates them. The pragma `user_version` of a
//! file is the number of its applied migrations. A migration and its number are one transaction, so a process that was
//! killed continues with the next one. A released migration must never change its statements. A file of a newer program
//! is refused, and so is an SQLite that can lose committed transactions, which a build may have linked.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::OpenError;
use super::{external, marker};

/// A migration: its statements, and code that runs after them in the same transaction.
type Migration = (&'static str, fn(&Connection) -> rusqlite::Result<()>);

/// The migrations, oldest first. Files that were released never change; new ones are added at the end.
const MIGRATIONS: [Migration; 5] = [
    (include_str!("../../../migrations/sqlite/0001_orders.up.sql"), |_| Ok(())),
    (include_str!("../../../migrations/sqlite/0002_keys_history_and_lists.up.sql"), external::backfill),
    (include_str!("../../../migrations/sqlite/0003_shorter_steps.up.sql"), |_| Ok(())),
    (include_str!("../../../migrations/sqlite/0004_touched_orders.up.sql"), |_| Ok(())),
    (include_str!("../../../migrations/sqlite/0005_clock_and_segments.up.sql"), |_| Ok(())),
];

/// The number of migrations that this program knows: the schema version it works with.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;

/// From how many pages on a large WAL is logged, and its file is truncated at its restart: 256 MiB at 4 KiB a page.
pub(super) const LARGE: i64 = 65_536;

/// The same in bytes.
const LARGE_BYTES: i64 = LARGE * 4096;

/// The oldest safe version of SQLite. Older ones can lose committed transactions when the WAL is restarted during a
/// checkpoint.
const OLDEST: i32 = 3_051_003;

/// Refuses a SQLite that may lose orders. The bundled one is new enough, but a build may link another one.
fn require_sqlite(number: i32, version: &'static str) -> Result<(), OpenError> {
    if number < OLDEST { Err(OpenError::OldSqlite { version }) } else { Ok(()) }
}

/// Opens the one connection that writes.
pub(super) fn open_writer(file: &Path) -> Result<Connection, OpenError> {
    require_sqlite(rusqlite::version_number(), rusqlite::version())?;
    let connection = Connection::open(file)?;
    marker::keep_wal(&connection)?;
    // FULL: a commit returns after its fsync. NORMAL would lose confirmed orders at a power cut.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA cache_size = -16384;
         PRAGMA temp_store = MEMORY;",
    )?;
    connection.pragma_update(None, "journal_size_limit", LARGE_BYTES)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(file: &Path) -> Result<Connection, OpenError> {
    require_sqlite(rusqlite::version_number(), rusqlite::version())?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.execute_batch("PRAGMA cache_size = -2048;")?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

/// Brings a database to this program's version and returns how many migrations were applied.
pub(super) fn migrate(connection: &mut Connection) -> Result<u32, OpenError> {
    let seen = version(connection)?;
    for (version, (sql, finish)) in (1..).zip(MIGRATIONS).skip(seen as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        finish(&transaction)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(VERSION - seen)
}

/// The version of an existing database; one of a newer program is refused.
pub(super) fn version(connection: &Connection) -> Result<u32, OpenError> {
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > VERSION { Err(OpenError::TooNew { found, known: VERSION }) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlite_that_can_lose_commits_is_refused_and_the_one_in_use_is_not() {
        assert!(require_sqlite(rusqlite::version_number(), rusqlite::version()).is_ok());
        assert!(require_sqlite(3_051_003, "3.51.3").is_ok());
        let refusal = require_sqlite(3_051_002, "3.51.2").unwrap_err().to_string();
        for part in ["3.51.2", "3.51.3", "LIBSQLITE3_SYS_USE_PKG_CONFIG"] {
            assert!(refusal.contains(part), "{refusal}");
        }
    }
}
