//! Checkpoints: copies committed pages from the WAL into the database file. A thread of its own does nearly all
//! of it beside the writer, so no commit waits for it. Only the writer can make the WAL begin anew, when nothing
//! in it is left to copy: it is asked to once the WAL is long, and has little to do by then.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;

use super::OpenError;
use super::schema;

/// How many pages wait in the WAL before they are copied: pages written again and again are copied once.
const STEP: i64 = 4_000;

/// At how many pages the WAL begins anew: 64 MiB at 4 KiB a page.
const LIMIT: i64 = 16_000;

/// How long the thread lets the writer alone after a look.
const PAUSE: Duration = Duration::from_millis(20);

/// The writer's handle to the checkpointing thread, which ends when this is dropped.
pub(super) struct Checkpoints {
    committed: Option<SyncSender<()>>,
    restart: Arc<AtomicBool>,
    told: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(super) fn start(file: &Path) -> Result<Checkpoints, OpenError> {
        let connection = schema::open_writer(file)?;
        let (committed, commits) = mpsc::sync_channel(1);
        let restart = Arc::new(AtomicBool::new(false));
        let told = Arc::new(AtomicBool::new(false));
        let (ask, tell) = (Arc::clone(&restart), Arc::clone(&told));
        let thread = thread::Builder::new()
            .name("sqlite-checkpoint".to_owned())
            .spawn(move || run(&connection, &commits, &ask, &tell))
            .map_err(|error: io::Error| OpenError::Io { folder: file.to_owned(), error })?;
        Ok(Checkpoints { committed: Some(committed), restart, told, thread: Some(thread) })
    }

    /// To be called by the writer, between two transactions.
    pub(super) fn after_commit(&self, writer: &Connection) {
        if self.restart.swap(false, Ordering::Relaxed) {
            report(checkpoint(writer, "RESTART"), &self.told);
        }
        // Full: the thread has not yet looked at an earlier commit, and will see this one, too.
        if let Some(committed) = &self.committed {
            let _ = committed.try_send(());
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.committed.take();
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported where it happened.
            let _ = thread.join();
        }
    }
}

fn run(connection: &Connection, commits: &Receiver<()>, restart: &AtomicBool, told: &AtomicBool) {
    while commits.recv().is_ok() {
        if let Some((length, copied)) = report(checkpoint(connection, "NOOP"), told) {
            if length - copied >= STEP {
                report(checkpoint(connection, "PASSIVE"), told);
            }
            if length >= LIMIT {
                restart.store(true, Ordering::Relaxed);
            }
        }
        if commits.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Answers how many pages the WAL holds and how many of them have been copied.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64)> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| Ok((row.get(1)?, row.get(2)?)))
}

/// A checkpoint that fails costs disk space, not orders: the WAL grows until one succeeds. The log is told once of a row
/// of failures.
fn report<T>(result: rusqlite::Result<T>, told: &AtomicBool) -> Option<T> {
    let was_told = told.swap(result.is_err(), Ordering::Relaxed);
    if let Err(error) = &result
        && !was_told
    {
        tracing::warn!(%error, "a checkpoint failed; the WAL goes on growing");
    }
    result.ok()
}
