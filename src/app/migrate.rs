//! Migrations: brings the store of the settings to this program's schema version, or prints the steps that this takes.
//! The store does the work, one process at a time, and keeps what is done when a later step fails. On Postgres other
//! processes may run meanwhile, except for `finish`, which drops what the previous release uses; the folder of the
//! embedded store is locked. The plan of the steps must change nothing.

use anyhow::{Result, bail};

use super::backends::postgres;
use crate::config::Settings;
use crate::store::postgres::SUPERSEDED;
use crate::store::sqlite::SqliteStore;

/// Brings the store's schema to this program's version, and returns a line that says so. An embedded store without its
/// WAL is an error unless the operator accepts that.
///
/// # Errors
/// The failure of a step; the steps before it stay done.
pub async fn migrate(settings: &Settings, accept_missing_wal: bool) -> Result<String> {
    migrated(settings, accept_missing_wal, false).await
}

/// Brings a Postgres schema to this program's version, and drops what only the previous release uses: none of its
/// processes may be running.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_and_finish(settings: &Settings) -> Result<String> {
    migrated(settings, false, true).await
}

async fn migrated(settings: &Settings, accept_missing_wal: bool, finish: bool) -> Result<String> {
    let (store, applied, version, is_unfinished) = match &settings.postgres_dsn {
        Some(dsn) => {
            let store = postgres(dsn, settings)?;
            let migrated = if finish { store.migrate_and_finish().await? } else { store.migrate().await? };
            ("Postgres".to_owned(), migrated.applied, migrated.version, migrated.is_unfinished)
        }
        None => {
            let (applied, version) = SqliteStore::migrate(&settings.data_dir, accept_missing_wal)?;
            (settings.data_dir.display().to_string(), applied, version, false)
        }
    };
    let s = if applied == 1 { "" } else { "s" };
    if finish && settings.postgres_dsn.is_some() {
        return Ok(format!(
            "{store}: schema version {version}, {applied} migration{s} applied; the index {SUPERSEDED}, which only the \
             previous release used, is dropped"
        ));
    }
    let rest = match is_unfinished {
        true => {
            "; when no process of the previous release runs any more, run `orderstream migrate --finish` to drop what \
             only it used"
        }
        false => "",
    };
    Ok(format!("{store}: schema version {version}, {applied} migration{s} applied{rest}"))
}

/// The steps that [`migrate`] would take, as text.
///
/// # Errors
/// Where the store cannot be read.
pub async fn migration_plan(settings: &Settings, finish: bool) -> Result<String> {
    match &settings.postgres_dsn {
        Some(dsn) => Ok(postgres(dsn, settings)?.migration_plan(finish).await?.join("\n")),
        None => {
            bail!(
                "--plan prints the steps in Postgres, and POSTGRES_DSN is not set; the embedded store is migrated while \
                 no process runs on it"
            )
        }
    }
}
