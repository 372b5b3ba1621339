//! Checkpoints copy committed pages from the WAL into the database file. A thread of its own copies nearly all pages
//! beside the writer, so that commits do not wait for it. Only the writer can restart the WAL, when everything in it is
//! copied: the thread requests that when the WAL is long, and has copied nearly everything by then.
//!
//! Every checkpoint is passive, and must never wait: while a reader keeps an old snapshot (a shell, a backup), newer
//! pages stay in the WAL, the WAL grows, and a warning is logged.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::error::OpenError;
use super::schema::{self, LARGE};
use crate::shutdown::Components;

/// How many pages must be in the WAL before they are copied: a page that is written many times is copied once.
const MIN_COPIED: i64 = 4_000;

/// At how many pages the WAL is restarted: 64 MiB at 4 KiB a page.
const RESTART_PAGES: i64 = 16_000;

/// How long the thread pauses after a check of the WAL.
const PAUSE: Duration = Duration::from_millis(20);

/// The same while a reader prevents copying: a check takes longer the longer the WAL is.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// How often a WAL that stays large is reported.
const REPORT_EVERY: Duration = Duration::from_mins(10);

/// The writer's handle to the checkpointing thread, which ends when this is dropped.
pub(super) struct Checkpoints {
    committed: Option<SyncSender<()>>,
    restart: Arc<AtomicBool>,
    failing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread, as one of these components.
    pub(super) fn start(file: &Path, components: &Components) -> Result<Checkpoints, OpenError> {
        let connection = schema::open_writer(file)?;
        let (committed, commits) = mpsc::sync_channel(1);
        let restart = Arc::new(AtomicBool::new(false));
        let failing = Arc::new(AtomicBool::new(false));
        let (ask, fails) = (Arc::clone(&restart), Arc::clone(&failing));
        let component = components.component("the checkpoint thread");
        let thread = thread::Builder::new()
            .name("sqlite-checkpoint".to_owned())
            .spawn(move || {
                run(&connection, &commits, &ask, &fails);
                component.ends_in_order();
            })
            .map_err(|error: io::Error| OpenError::Io { folder: file.to_owned(), error })?;
        Ok(Checkpoints { committed: Some(committed), restart, failing, thread: Some(thread) })
    }

    /// The writer calls this between two transactions. Where all pages are copied then, and no reader needs the WAL,
    /// the next transaction restarts the WAL. The mode RESTART would guarantee that, but wait for readers.
    pub(super) fn after_commit(&self, writer: &Connection) {
        if self.restart.swap(false, Ordering::Relaxed) {
            log_failure(checkpoint(writer, "PASSIVE"), &self.failing);
        }
        // A full channel is fine: the thread has yet to check an earlier commit, and will see this one, too.
        if let Some(committed) = &self.committed {
            let _ = committed.try_send(());
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.committed.take();
        if let Some(thread) = self.thread.take() {
            // The panic hook has logged a panic of the thread.
            let _ = thread.join();
        }
    }
}

/// The thread: checks the WAL after commits, and while the WAL is large, also without commits.
fn run(connection: &Connection, commits: &Receiver<()>, restart: &AtomicBool, failing: &AtomicBool) {
    let mut size = Size::default();
    let mut is_committed = false;
    loop {
        let arrived = match (is_committed, size.is_large) {
            (true, _) => Ok(()),
            (false, true) => commits.recv_timeout(LONG_PAUSE),
            (false, false) => commits.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        if arrived == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        let pause = check(connection, restart, failing, &mut size);
        let until = Instant::now() + pause;
        is_committed = false;
        loop {
            match commits.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(()) => is_committed = true,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Copies pages where there are enough of them. Returns how long to pause.
fn check(connection: &Connection, restart: &AtomicBool, failing: &AtomicBool, size: &mut Size) -> Duration {
    let Some((length, copied)) = log_failure(checkpoint(connection, "NOOP"), failing) else { return PAUSE };
    size.report(length, Instant::now());
    let (mut left, mut pause) = (length - copied, PAUSE);
    if left >= MIN_COPIED
        && let Some((length, copied_now)) = log_failure(checkpoint(connection, "PASSIVE"), failing)
    {
        left = length - copied_now;
        if copied_now <= copied {
            pause = LONG_PAUSE;
        }
    }
    // Not while a reader keeps much of it: when that reader ends, the writer would have to copy the rest.
    if length >= RESTART_PAGES && left < MIN_COPIED {
        restart.store(true, Ordering::Relaxed);
    }
    pause
}

/// Returns how many pages the WAL holds and how many of them are copied. Neither mode waits for readers or writers.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64)> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| Ok((row.get(1)?, row.get(2)?)))
}

/// Logs the first of several failures in a row. A failed checkpoint costs disk space, not orders: the WAL grows until
/// one succeeds.
fn log_failure<T>(result: rusqlite::Result<T>, failing: &AtomicBool) -> Option<T> {
    let was_failing = failing.swap(result.is_err(), Ordering::Relaxed);
    if let Err(error) = &result
        && !was_failing
    {
        tracing::warn!(%error, "a checkpoint failed; the WAL grows until one succeeds");
    }
    result.ok()
}

/// What was logged about the size of the WAL.
#[derive(Default)]
struct Size {
    is_large: bool,
    logged_at: Option<Instant>,
}

impl Size {
    /// Logs that a WAL of so many pages is large, once in ten minutes, and that it is short again, once.
    fn report(&mut self, pages: i64, now: Instant) {
        let mib = pages / 256;
        if pages >= LARGE {
            self.is_large = true;
            if self.logged_at.is_none_or(|at| now.duration_since(at) >= REPORT_EVERY) {
                self.logged_at = Some(now);
                tracing::warn!(
                    mib,
                    "the WAL is large and grows with each write, because a reader keeps an old snapshot: a shell with \
                     an open transaction, a backup, or a VACUUM INTO; end it; writes continue, and take space on the disk"
                );
            }
        } else if self.is_large && pages < RESTART_PAGES {
            *self = Size::default();
            tracing::info!(mib, "the WAL is short again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_wal_is_logged_rarely_and_its_end_once() {
        let (mut size, start) = (Size::default(), Instant::now());
        let mut logged = |pages, after| {
            size.report(pages, start + after);
            (size.is_large, size.logged_at.map(|at| at.duration_since(start)))
        };
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        assert_eq!(logged(LARGE - 1, second), (false, None));
        assert_eq!(logged(LARGE, second), (true, Some(second)));
        assert_eq!(logged(2 * LARGE, minute), (true, Some(second)));
        assert_eq!(logged(2 * LARGE, 11 * minute), (true, Some(11 * minute)));
        assert_eq!(logged(RESTART_PAGES, 12 * minute), (true, Some(11 * minute)));
        assert_eq!(logged(RESTART_PAGES - 1, 12 * minute), (false, None));
        assert_eq!(logged(RESTART_PAGES - 1, 13 * minute), (false, None));
    }
}
