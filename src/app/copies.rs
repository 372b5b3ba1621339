//! Backups: copies the embedded store into one file, and back. Each copy is checked as `verify` checks a store before
//! it gets its name, so a file with that name is always complete. Findings do not prevent that: what is wrong in the
//! copy is wrong in the store. Files are read and written on blocking threads. A restore that fails must leave the
//! store unchanged. Postgres has tools of its own for backups.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};

use super::dead_letters::dead_letter_file;
use crate::checker::verify::{Confirmed, Options, Report, verify};
use crate::config::Settings;
use crate::shutdown::PartialFiles;
use crate::store::Store;
use crate::store::sqlite::{CopyError, StoreCopy};

/// Copies the store of these settings into a file, while a server may run on it. Returns the checker's report about the
/// copy. A copy with findings is kept: what is wrong in it is wrong in the store.
///
/// # Errors
/// Where there is no store or no room, or the file may not be replaced. The partial copy is removed then, and also
/// where a signal ends the process (`partial`).
pub async fn back_up(
    settings: &Settings,
    file: &Path,
    may_replace: bool,
    options: &Options,
    partial: PartialFiles,
) -> Result<Report> {
    let (folder, dead_letters) =
        embedded(settings, "back it up with pg_dump, or with pg_basebackup and an archive")?;
    let file = file.to_owned();
    finish(move || StoreCopy::of_store(&folder, &dead_letters, &file, may_replace, &partial), options).await
}

/// Puts such a copy into the data folder of these settings, on which no process may run. Returns the checker's report
/// about the copy.
///
/// # Errors
/// Where a process runs on the folder, or its store may not be replaced. The store is unchanged then.
pub async fn restore(
    settings: &Settings,
    file: &Path,
    may_replace: bool,
    options: &Options,
    partial: PartialFiles,
) -> Result<Report> {
    let (folder, dead_letters) = embedded(settings, "restore it with pg_restore, psql or a base backup")?;
    let file = file.to_owned();
    finish(move || StoreCopy::to_store(&file, &folder, &dead_letters, may_replace, &partial), options).await
}

/// The folder of the embedded store, and the file of its dead letters. `instead` tells an operator what to do on
/// Postgres, which has no such store.
fn embedded(settings: &Settings, instead: &str) -> Result<(PathBuf, PathBuf)> {
    if settings.postgres_dsn.is_some() {
        bail!("the orders are in Postgres (POSTGRES_DSN): {instead}");
    }
    Ok((settings.data_dir.clone(), dead_letter_file(settings)))
}

/// Makes a copy, checks it, and gives it its name.
async fn finish(
    make: impl FnOnce() -> Result<StoreCopy, CopyError> + Send + 'static,
    options: &Options,
) -> Result<Report> {
    let copy = tokio::task::spawn_blocking(make).await??;
    let dead_letters = copy.dead_letters()?;
    let store: Arc<dyn Store> = Arc::new(copy.open()?);
    let report = verify(&*store, dead_letters, Confirmed::default(), options).await;
    store.close().await;
    let report = report?;
    tokio::task::spawn_blocking(move || copy.finish()).await??;
    Ok(report)
}
