//! Backups: a copy of the embedded store in one file, and the way back. Each copy is checked as `verify` checks a store
//! before it gets its name. A server of Postgres has tools of its own for that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};

use super::dead_letters::dead_letter_file;
use crate::checker::verify::{Confirmed, Options, Report, verify};
use crate::config::Settings;
use crate::shutdown::PartialFiles;
use crate::store::Store;
use crate::store::sqlite::{CopyError, StoreCopy};

/// Copies the store of these settings into a file, beside a server that may be working with it. Answers what the
/// checker found in the copy, which is kept all the same: what is wrong in it is wrong in the store.
///
/// # Errors
/// Where there is no store, no room, or a file that may not be replaced; nothing is left of the copy then, and nothing
/// where a signal ends the process, as `partial` sees to.
pub async fn back_up(
    settings: &Settings,
    file: &Path,
    may_replace: bool,
    options: &Options,
    partial: PartialFiles,
) -> Result<Report> {
    let (folder, dead_letters) =
        embedded(settings, "back it up with pg_dump, or with pg_basebackup and an archive")?;
    let place = file.to_owned();
    finish(move || StoreCopy::of_store(&folder, &dead_letters, &place, may_replace, &partial), options).await
}

/// Puts such a copy into the data folder of these settings, where no process may be working. Answers what the checker
/// found in it.
///
/// # Errors
/// Where a process works there, or there is a store that may not be replaced; that one is as it was then.
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

/// The folder of the embedded store, and the file of its dead letters. Where the orders are in Postgres there is no
/// such store, and `instead` says what an operator does there.
fn embedded(settings: &Settings, instead: &str) -> Result<(PathBuf, PathBuf)> {
    if settings.postgres_dsn.is_some() {
        bail!("the orders are in Postgres (POSTGRES_DSN): {instead}");
    }
    Ok((settings.data_dir.clone(), dead_letter_file(settings)))
}

/// Makes a copy, checks it and gives it its name.
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
