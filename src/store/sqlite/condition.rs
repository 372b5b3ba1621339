//! The condition of the writing thread: whether its last write failed, and whether one hangs. Readiness reads it and
//! never waits behind a command. What a failed write means, and how the thread finds out by itself that it can write
//! again, is said here, too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, ffi};

use super::schema;
use crate::store::Error;

/// How often the thread looks whether it can write again.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(1);

/// After how long a write that has not ended counts as hanging.
const STALL: Duration = Duration::from_secs(3);

/// How much room there must be on the disk before writes count as possible again: that of a large batch.
const ROOM: usize = 4 << 20;

/// What the thread says of itself.
#[derive(Default)]
pub(super) struct Condition {
    // std Mutex: held to copy a few words, never while anything is written
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the write began that has not ended.
    begun: Option<Instant>,
    /// Why the last write failed; until a probe has succeeded.
    failure: Option<String>,
}

impl Condition {
    /// A write begins.
    pub(super) fn begin(&self) {
        self.lock().begun = Some(Instant::now());
    }

    /// It has ended. A success ends no failure: a small write may fit where a large one does not.
    pub(super) fn end<T>(&self, outcome: &Result<T, Error>) {
        let mut state = self.lock();
        state.begun = None;
        let Err(error) = outcome else { return };
        // One line, however many callers meet it.
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

    /// Looks whether writes are possible again.
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

    /// Whether the store can be written to, as far as the thread knows.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub(super) fn check(&self) -> Result<(), Error> {
        let state = self.lock();
        match (&state.failure, state.begun.map(|begun| begun.elapsed())) {
            (Some(failure), _) => Err(Error::Unavailable(failure.clone())),
            (None, Some(since)) if since > STALL => {
                Err(Error::Unavailable(format!("a write has not ended for {} seconds", since.as_secs())))
            }
            (None, _) => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a failed COMMIT means. SQLite has rolled the transaction back; what is open is whether the disk holds it all
/// the same, and shows it after a crash. Where a part of it was not written, no: it is not valid without all of its
/// parts. Where all of it was written and the disk did not confirm it, the outcome is not known.
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
        let written = take_room(&file);
        let removed = fs::remove_file(&file);
        written.and(removed).map_err(|error| format!("the data folder cannot be written to: {error}"))?;
    }
    let version = schema::VERSION;
    let sql = format!("BEGIN IMMEDIATE; PRAGMA user_version = {version}; COMMIT");
    let written = connection.execute_batch(&sql);
    if !connection.is_autocommit() {
        // Where that fails too, the next BEGIN says so.
        let _ = connection.execute_batch("ROLLBACK");
    }
    written.map_err(|error| error.to_string())
}

fn take_room(file: &Path) -> io::Result<()> {
    let mut file = File::create(file)?;
    // Not zeros, of which a file system may make nothing.
    file.write_all(&vec![b'x'; ROOM])?;
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
    fn a_failure_is_over_when_a_probe_succeeds() {
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
    fn a_probe_that_finds_no_room_changes_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA max_page_count = 1; CREATE TABLE a (b)").unwrap_err();
        let condition = Condition::default();
        condition.end(&Err::<(), _>(Error::Unavailable("full".to_owned())));
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        condition.probe(&connection);
        assert!(condition.has_failed());
    }
}
