//! Checkpoints: copies committed pages from the WAL into the database file. A thread of its own does nearly all
//! of it beside the writer, so no commit waits for it. Only the writer can make the WAL begin anew, when nothing
//! in it is left to copy: it is asked to once the WAL is long, and has little to do by then.
//!
//! Every checkpoint is a passive one, which waits for nothing: as long as a reader keeps an old snapshot (a shell, a
//! backup), the pages behind it stay in the WAL, the WAL grows, and the log says so.

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

/// How many pages wait in the WAL before they are copied: pages written again and again are copied once.
const STEP: i64 = 4_000;

/// At how many pages the WAL begins anew: 64 MiB at 4 KiB a page.
const LIMIT: i64 = 16_000;

/// How long the thread lets the writer alone after a look.
const PAUSE: Duration = Duration::from_millis(20);

/// The same, while a reader keeps it from copying anything: to look costs more the longer the WAL is.
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
    /// Starts the thread, one of those parts.
    pub(super) fn start(file: &Path, components: &Components) -> Result<Checkpoints, OpenError> {
        let connection = schema::open_writer(file)?;
        let (committed, commits) = mpsc::sync_channel(1);
        let restart = Arc::new(AtomicBool::new(false));
        let failing = Arc::new(AtomicBool::new(false));
        let (ask, fails) = (Arc::clone(&restart), Arc::clone(&failing));
        let component = components.component("the thread that copies the WAL");
        let thread = thread::Builder::new()
            .name("sqlite-checkpoint".to_owned())
            .spawn(move || {
                run(&connection, &commits, &ask, &fails);
                component.ends_in_order();
            })
            .map_err(|error: io::Error| OpenError::Io { folder: file.to_owned(), error })?;
        Ok(Checkpoints { committed: Some(committed), restart, failing, thread: Some(thread) })
    }

    /// To be called by the writer, between two transactions. Where all pages have been copied after it, and no reader
    /// needs the WAL, the next transaction begins it anew. RESTART would make sure of that, and wait for readers.
    pub(super) fn after_commit(&self, writer: &Connection) {
        if self.restart.swap(false, Ordering::Relaxed) {
            report(checkpoint(writer, "PASSIVE"), &self.failing);
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

/// The thread: looks after commits, and while the WAL is large, also without them.
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
        let pause = look(connection, restart, failing, &mut size);
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

/// Copies what can be copied where it is worth it. Answers how long to pause.
fn look(connection: &Connection, restart: &AtomicBool, failing: &AtomicBool, size: &mut Size) -> Duration {
    let Some((length, copied)) = report(checkpoint(connection, "NOOP"), failing) else { return PAUSE };
    size.tell(length, Instant::now());
    let (mut left, mut pause) = (length - copied, PAUSE);
    if left >= STEP
        && let Some((length, copied_now)) = report(checkpoint(connection, "PASSIVE"), failing)
    {
        left = length - copied_now;
        if copied_now <= copied {
            pause = LONG_PAUSE;
        }
    }
    // Not while a reader holds much of it: when that one ends, the writer must not be the one who copies.
    if length >= LIMIT && left < STEP {
        restart.store(true, Ordering::Relaxed);
    }
    pause
}

/// Answers how many pages the WAL holds and how many of them have been copied. Neither mode waits for others.
fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<(i64, i64)> {
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| Ok((row.get(1)?, row.get(2)?)))
}

/// A checkpoint that fails costs disk space, not orders: the WAL grows until one succeeds. Of failures in a row the
/// first is logged.
fn report<T>(result: rusqlite::Result<T>, failing: &AtomicBool) -> Option<T> {
    let was_failing = failing.swap(result.is_err(), Ordering::Relaxed);
    if let Err(error) = &result
        && !was_failing
    {
        tracing::warn!(%error, "a checkpoint failed; the WAL goes on growing");
    }
    result.ok()
}

/// What the log has been told about the size of the WAL.
#[derive(Default)]
struct Size {
    is_large: bool,
    told_at: Option<Instant>,
}

impl Size {
    /// Reports a WAL of so many pages that is large, seldom, and that it is short again, once.
    fn tell(&mut self, pages: i64, now: Instant) {
        let mib = pages / 256;
        if pages >= LARGE {
            self.is_large = true;
            if self.told_at.is_none_or(|at| now.duration_since(at) >= REPORT_EVERY) {
                self.told_at = Some(now);
                tracing::warn!(
                    mib,
                    "the WAL is large and grows with each write, because a reader keeps an old snapshot: a shell with \
                     an open transaction, a backup, or a VACUUM INTO; end it; writes go on, and take space on the disk"
                );
            }
        } else if self.is_large && pages < LIMIT {
            *self = Size::default();
            tracing::info!(mib, "the WAL is short again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_wal_is_told_seldom_and_its_end_once() {
        let (mut size, start) = (Size::default(), Instant::now());
        let mut told = |pages, after| {
            size.tell(pages, start + after);
            (size.is_large, size.told_at.map(|at| at.duration_since(start)))
        };
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        assert_eq!(told(LARGE - 1, second), (false, None));
        assert_eq!(told(LARGE, second), (true, Some(second)));
        assert_eq!(told(2 * LARGE, minute), (true, Some(second)));
        assert_eq!(told(2 * LARGE, 11 * minute), (true, Some(11 * minute)));
        assert_eq!(told(LIMIT, 12 * minute), (true, Some(11 * minute)));
        assert_eq!(told(LIMIT - 1, 12 * minute), (false, None));
        assert_eq!(told(LIMIT - 1, 13 * minute), (false, None));
    }
}
