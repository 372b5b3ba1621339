//! The writer: one thread with one connection. It applies all batches that queued up meanwhile in one transaction, and
//! answers them after its one fsync. Under load these groups grow, and an order costs a fraction of an fsync; a lone
//! order does not wait for others. Nothing may be answered before the commit.

use std::iter;
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::checkpoint::Checkpoints;
use super::condition::{Condition, PROBE_EVERY, of_commit};
use super::error::OpenError;
use super::folder::Lock;
use super::marker;
use super::statements::{Shared, Statements};
use crate::order::CommandRequest;
use crate::shutdown::Components;
use crate::store::{Accepted, Completed, Completion, Error, Refusal};

/// How many rows are dropped in one transaction: commands that arrive meanwhile wait for it.
const CLEAN_BATCH: usize = 1_000;

type Applied = Vec<Result<Accepted, Refusal>>;
type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A job for the writing thread.
enum Job {
    Apply(Arc<[CommandRequest]>, Reply<Applied>),
    Complete(Arc<[Completion]>, Reply<Vec<Completed>>),
    Clean { keys_before: Timestamp, events_before: Option<Timestamp>, limit: usize, reply: Reply<Cleaned> },
}

/// How many keys and history events were dropped.
type Cleaned = (usize, usize);

/// The outcome of a job, which is sent after the commit.
enum Outcome {
    Applied(Applied),
    Completed(Vec<Completed>),
    Cleaned(Cleaned),
}

impl Job {
    fn run(&self, statements: &mut Statements<'_>) -> rusqlite::Result<Outcome> {
        Ok(match self {
            Job::Apply(batch, _) => Outcome::Applied(statements.apply(batch)?),
            Job::Complete(batch, _) => Outcome::Completed(statements.complete(batch)?),
            Job::Clean { keys_before, events_before, limit, .. } => {
                Outcome::Cleaned(statements.clean(*keys_before, *events_before, *limit)?)
            }
        })
    }

    /// Sends the outcome; it is dropped where the caller was cancelled.
    fn answer(self, outcome: Outcome) {
        match (self, outcome) {
            (Job::Apply(_, reply), Outcome::Applied(results)) => drop(reply.send(Ok(results))),
            (Job::Complete(_, reply), Outcome::Completed(results)) => drop(reply.send(Ok(results))),
            (Job::Clean { reply, .. }, Outcome::Cleaned(counts)) => drop(reply.send(Ok(counts))),
            (Job::Apply(..) | Job::Complete(..) | Job::Clean { .. }, _) => {
                unreachable!("each job makes its own outcome")
            }
        }
    }

    fn fail(self, error: Error) {
        match self {
            Job::Apply(_, reply) => drop(reply.send(Err(error))),
            Job::Complete(_, reply) => drop(reply.send(Err(error))),
            Job::Clean { reply, .. } => drop(reply.send(Err(error))),
        }
    }
}

/// The handle to the writing thread.
pub(super) struct Writer {
    // std Mutex: held to clone or drop the sender, never across .await
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    condition: Arc<Condition>,
}

impl Writer {
    /// Starts the thread, which holds the folder's lock until its end.
    pub(super) fn start(
        connection: Connection,
        shared: Shared,
        checkpoints: Checkpoints,
        lock: Lock,
        components: &Components,
    ) -> Result<Writer, OpenError> {
        // The thread prepares the statements again, because they borrow its connection; this only reports errors early.
        Statements::prepare(&connection, shared.clone())?;
        Writer::spawn(connection, shared, checkpoints, lock, components)
    }

    fn spawn(
        connection: Connection,
        shared: Shared,
        checkpoints: Checkpoints,
        lock: Lock,
        components: &Components,
    ) -> Result<Writer, OpenError> {
        let (jobs, queue) = mpsc::channel();
        let component = components.component("the writer of the database");
        let condition = Arc::new(Condition::default());
        let own = Arc::clone(&condition);
        let thread = thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || {
                // Moved here, so that a panic drops it first.
                let component = component;
                if write(&connection, shared, &queue, &checkpoints, &own) {
                    component.ends_in_order();
                }
                drop(checkpoints);
                if let Err(error) = marker::clear(&connection) {
                    tracing::warn!(%error, "the WAL stays beside the database; copy both together");
                }
                drop(connection);
                drop(lock);
            })
            .map_err(|error| OpenError::Io { folder: PathBuf::new(), error })?;
        Ok(Writer { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)), condition })
    }

    /// Applies requests, and waits for their commit.
    pub(super) async fn apply(&self, batch: Arc<[CommandRequest]>) -> Result<Applied, Error> {
        self.call(|reply| Job::Apply(batch, reply)).await
    }

    /// Records completions, and waits for their commit.
    pub(super) async fn complete(&self, batch: Arc<[Completion]>) -> Result<Vec<Completed>, Error> {
        self.call(|reply| Job::Complete(batch, reply)).await
    }

    /// Drops old keys and history events, some in each transaction, so that commands run in between. Returns how many.
    pub(super) async fn clean(
        &self,
        keys_before: Timestamp,
        events_before: Option<Timestamp>,
        limit: usize,
    ) -> Result<usize, Error> {
        let (mut dropped, mut left) = (0, limit);
        while left > 0 {
            let limit = left.min(CLEAN_BATCH);
            let (keys, events) =
                self.call(|reply| Job::Clean { keys_before, events_before, limit, reply }).await?;
            dropped += keys + events;
            left -= limit;
            if keys < limit && events < limit {
                break;
            }
        }
        Ok(dropped)
    }

    /// Whether the thread runs and can write, as of its last write or probe. Does not wait for commands.
    pub(super) fn check(&self) -> Result<(), Error> {
        match &*self.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Err(closed()),
            Some(thread) if thread.is_finished() => {
                Err(Error::Unavailable("the writing thread has ended".to_owned()))
            }
            Some(_) => self.condition.check(),
        }
    }

    /// Waits until the thread has finished its jobs and ended.
    pub(super) async fn close(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The panic hook has logged a panic of the thread.
            let _ = tokio::task::spawn_blocking(|| thread.join()).await;
        }
    }

    async fn call<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        match &*self.jobs.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(jobs) => jobs.send(job(reply)).map_err(|_| closed())?,
            None => return Err(closed()),
        }
        // The thread answers every job, unless it panicked in the middle of the transaction.
        answer.await.map_err(|_| Error::OutcomeUnknown("the writing thread has ended".to_owned()))?
    }
}

fn closed() -> Error {
    Error::Unavailable("the store is closed".to_owned())
}

/// The thread: runs until the last sender is dropped and the queue is empty; returns `false` where it ends earlier.
fn write(
    connection: &Connection,
    shared: Shared,
    queue: &mpsc::Receiver<Job>,
    checkpoints: &Checkpoints,
    condition: &Condition,
) -> bool {
    let mut statements = match Statements::prepare(connection, shared) {
        Ok(statements) => statements,
        Err(error) => {
            tracing::error!(%error, "the writer cannot prepare its statements");
            return false;
        }
    };
    // Where writes fail: when to probe them, even while no commands arrive.
    let mut probe_at: Option<Instant> = None;
    loop {
        let arrived = match probe_at {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match arrived {
            Ok(first) => work(connection, &mut statements, first, queue, checkpoints, condition),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return true,
        }
        if probe_at.is_some_and(|at| at <= Instant::now()) {
            condition.probe(connection);
            probe_at = None;
        }
        if condition.has_failed() {
            probe_at = probe_at.or_else(|| Some(Instant::now() + PROBE_EVERY));
        }
    }
}

/// Runs all queued jobs, the first one and those behind it.
fn work(
    connection: &Connection,
    statements: &mut Statements<'_>,
    first: Job,
    queue: &mpsc::Receiver<Job>,
    checkpoints: &Checkpoints,
    condition: &Condition,
) {
    // Cleaning runs last, so that commands do not wait for it.
    let (cleaning, group): (Vec<Job>, Vec<Job>) =
        iter::once(first).chain(queue.try_iter()).partition(|job| matches!(job, Job::Clean { .. }));
    for group in iter::once(group).chain(cleaning.into_iter().map(|job| vec![job])) {
        if group.is_empty() {
            continue;
        }
        condition.begin();
        let outcome = transact(connection, statements, &group);
        condition.end(&outcome);
        match outcome {
            Ok(outcomes) => group.into_iter().zip(outcomes).for_each(|(job, outcome)| job.answer(outcome)),
            Err(error) => group.into_iter().for_each(|job| job.fail(error.clone())),
        }
        checkpoints.after_commit(connection);
    }
}

/// Runs a group of jobs in one transaction. Nothing of it is visible or answered before this returns.
fn transact(
    connection: &Connection,
    statements: &mut Statements<'_>,
    group: &[Job],
) -> Result<Vec<Outcome>, Error> {
    let unavailable = |error: rusqlite::Error| Error::Unavailable(error.to_string());
    let outcome = statements
        .begin()
        .and_then(|()| group.iter().map(|job| job.run(statements)).collect())
        .and_then(|outcomes: Vec<Outcome>| statements.merge().map(|()| outcomes))
        .map_err(unavailable)
        .and_then(|outcomes| match statements.commit() {
            Ok(()) => Ok(outcomes),
            Err(error) => Err(of_commit(&error)),
        });
    if outcome.is_err() && !connection.is_autocommit() {
        // If the rollback fails too, the next BEGIN fails.
        let _ = connection.execute_batch("ROLLBACK");
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::super::clock::Clock;
    use super::super::folder::lock;
    use super::super::{external, keys, schema};
    use super::*;

    #[tokio::test]
    async fn a_writer_that_cannot_start_is_reported_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orders.db");
        let mut whole = schema::open_writer(&file).unwrap();
        schema::migrate(&mut whole).unwrap();
        let shared = Shared {
            clock: Arc::new(Clock::load(&whole).unwrap()),
            order_memtable: Arc::new(external::load(&whole).unwrap()),
            key_memtable: Arc::new(keys::load(&whole).unwrap()),
            history: true,
        };
        let components = Components::default();
        let checkpoints = Checkpoints::start(&file, &components).unwrap();
        let (without_tables, lock) = (Connection::open_in_memory().unwrap(), lock(folder.path()).unwrap());
        let writer = Writer::spawn(without_tables, shared, checkpoints, lock, &components).unwrap();
        assert_eq!(components.failed().await, "the writer of the database");
        writer.close().await;
    }
}
