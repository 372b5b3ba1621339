//! Migrations: the store of the settings is brought to this program's schema version, or the steps are told.

use anyhow::{Result, bail};

use super::backends::postgres;
use crate::config::Settings;
use crate::store::sqlite::SqliteStore;

/// Brings the store's schema to this program's version, and says so. An embedded store that lacks its WAL is refused
/// unless the operator accepts that.
///
/// # Errors
/// What the store says; what was done before the step that failed stays done.
pub async fn migrate(settings: &Settings, accept_missing_wal: bool) -> Result<String> {
    migrated(settings, accept_missing_wal, false).await
}

/// Brings a Postgres schema to this program's version, and drops what only the release before uses: none of its
/// processes may be running.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_and_finish(settings: &Settings) -> Result<String> {
    migrated(settings, false, true).await
}

async fn migrated(settings: &Settings, accept_missing_wal: bool, finish: bool) -> Result<String> {
    let (place, applied, version, is_unfinished) = match &settings.postgres_dsn {
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
    let rest = match is_unfinished {
        true => {
            "; when no process of the release before runs, `orderstream migrate --finish` drops what it used"
        }
        false => "",
    };
    Ok(format!("{place}: schema version {version}, {applied} migration{s} applied{rest}"))
}

/// What [`migrate`] would do, as text.
///
/// # Errors
/// What the store says.
pub async fn migration_plan(settings: &Settings, finish: bool) -> Result<String> {
    match &settings.postgres_dsn {
        Some(dsn) => Ok(postgres(dsn, settings)?.migration_plan(finish).await?.join("\n")),
        None => {
            bail!("--plan tells the steps in Postgres; the embedded store is migrated while no one uses it")
        }
    }
}
