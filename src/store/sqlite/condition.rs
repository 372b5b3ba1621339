//! The condition of the writing thread: whether its last write failed, and whether a write hangs. Readiness reads it,
//! and must never wait for a write. This file also decides what a failed commit means, and probes whether the thread
//! can write again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, ffi};

use super::schema;
use crate::store::Error;

/// How often the thread probes whether it can write again.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(1);

/// After how long a write counts as hanging.
const STALLED_AFTER: Duration = Duration::from_secs(3);

/// How many bytes must be free on the disk before writes count as possible again: the size of a large batch.
const PROBE_BYTES: usize = 4 << 20;

/// The condition, which the thread sets and readiness reads.
#[derive(Default)]
pub(super) struct Condition {
    // std Mutex: held to copy a few values, never while the store is written
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the current write began.
    begun: Option<Instant>,
    /// Why the last write failed, until a probe succeeds.
    failure: Option<String>,
}

impl Condition {
    /// Takes note that a write begins.
    pub(super) fn begin(&self) {
        self.lock().begun = Some(Instant::now());
    }

    /// Takes note that the write has ended. A success does not end a failure: a small write may fit on a disk where a
    /// large one does not.
    pub(super) fn end<T>(&self, outcome: &Result<T, Error>) {
        let mut state = self.lock();
        state.begun = None;
        let Err(error) = outcome else { return };
        // One line, however many writes fail.
        if state.failure.is_none() {
            tracing::error!(%error, "writes fail; the writer tries again every second");
        }
        let reason = match error {
            Error::Unavailable(reason) | Error::OutcomeUnknown(reason) | Error::BadBatch(reason) => {
                reason.clone()
            }
            Error::Damaged(damaged) => damaged.to_string(),
        };
        state.failure = Some(reason);
    }

    /// Whether writes fail.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().failure.is_some()
    }

    /// Probes whether writes are possible again.
    pub(super) fn probe(&self, connection: &Connection) {
        self.begin();
        let probed = probe(connection);
        let mut state = self.lock();
        state.begun = None;
        match probed {
            Ok(()) => {
                tracing::info!("writes are possible again");
                state.failure = None;
            }
            Err(error) => {
                tracing::debug!(error, "writes are not possible yet");
                state.failure = Some(error);
            }
        }
    }

    /// Whether the store can be written to, as of the last write or probe.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub(super) fn check(&self) -> Result<(), Error> {
        let state = self.lock();
        match (&state.failure, state.begun.map(|begun| begun.elapsed())) {
            (Some(failure), _) => Err(Error::Unavailable(failure.clone())),
            (None, Some(since)) if since > STALLED_AFTER => {
                Err(Error::Unavailable(format!("a write has not ended for {} seconds", since.as_secs())))
            }
            (None, _) => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a failed COMMIT means. SQLite has rolled the transaction back, but the disk may still hold it, and a crash
/// would bring it back. If a part of it was not written, that cannot happen: the transaction is valid only as a whole.
/// If all of it was written and the disk did not confirm it, the outcome is not known.
pub(super) fn of_commit(error: &rusqlite::Error) -> Error {
    let nothing_happened = match error {
        rusqlite::Error::SqliteFailure(error, _) => match error.code {
            ErrorCode::DiskFull
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::ReadOnly => true,
            _ => error.extended_code == ffi::SQLITE_IOERR_WRITE,
        },
        _ => false,
    };
    let text = error.to_string();
    if nothing_happened { Error::Unavailable(text) } else { Error::OutcomeUnknown(text) }
}

/// Writes as much as a large batch beside the database, and a page in the database.
fn probe(connection: &Connection) -> Result<(), String> {
    if let Some(folder) = connection.path().and_then(|file| Path::new(file).parent()) {
        let file = folder.join("PROBE");
        let written = write_probe_file(&file);
        let removed = fs::remove_file(&file);
        written.and(removed).map_err(|error| format!("the data folder cannot be written to: {error}"))?;
    }
    let version = schema::VERSION;
    let sql = format!("BEGIN IMMEDIATE; PRAGMA user_version = {version}; COMMIT");
    let written = connection.execute_batch(&sql);
    if !connection.is_autocommit() {
        // If that fails too, the next BEGIN fails.
        let _ = connection.execute_batch("ROLLBACK");
    }
    written.map_err(|error| error.to_string())
}

fn write_probe_file(file: &Path) -> io::Result<()> {
    let mut file = File::create(file)?;
    // Not zeros, for which a file system may not allocate blocks.
    file.write_all(&vec![b'x'; PROBE_BYTES])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(extended_code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(extended_code), None)
    }

    #[test]
    fn a_commit_that_was_not_written_whole_did_not_happen() {
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_BUSY, ffi::SQLITE_READONLY, ffi::SQLITE_IOERR_WRITE] {
            assert!(matches!(of_commit(&failure(code)), Error::Unavailable(_)), "{code}");
        }
        for code in
            [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_NOMEM, ffi::SQLITE_CORRUPT]
        {
            assert!(matches!(of_commit(&failure(code)), Error::OutcomeUnknown(_)), "{code}");
        }
    }

    #[test]
    fn a_failure_ends_when_a_probe_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let connection = schema::open_writer(&folder.path().join("orders.db")).unwrap();
        let condition = Condition::default();
        assert_eq!(condition.check(), Ok(()));
        let full = Err::<(), _>(Error::Unavailable("the disk is full".to_owned()));
        condition.end(&full);
        condition.end(&Ok::<_, Error>(()));
        assert!(condition.has_failed() && condition.check().is_err());
        condition.probe(&connection);
        assert!(!condition.has_failed());
        assert_eq!(condition.check(), Ok(()));
        assert_eq!(
            fs::read_dir(folder.path())
                .unwrap()
                .filter(|entry| { entry.as_ref().unwrap().file_name() == "PROBE" })
                .count(),
            0
        );
    }

    #[test]
    fn a_probe_on_a_full_disk_changes_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA max_page_count = 1; CREATE TABLE a (b)").unwrap_err();
        let condition = Condition::default();
        condition.end(&Err::<(), _>(Error::Unavailable("full".to_owned())));
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        condition.probe(&connection);
        assert!(condition.has_failed());
    }
}
