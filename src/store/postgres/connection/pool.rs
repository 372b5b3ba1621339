//! A pool of connections of one kind. Work goes to the connection with the least load, and to another one where that is
//! down: the server may accept only some of them. Work that may have happened must never be given to a second
//! connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::pooled_connection::{PooledConnection, Prepare};
use super::server::Server;
use crate::store::Error;
use crate::store::postgres::failure::Failure;

/// For how long refused work is tried on further connections. A second connection is tried in any case.
const RETRY_FOR: Duration = Duration::from_secs(1);

/// Connections of one kind.
pub(in crate::store::postgres) struct ConnectionPool<S> {
    pool: Vec<PooledConnection<S>>,
    next: AtomicUsize,
}

impl<S: Prepare> ConnectionPool<S> {
    /// A pool of so many connections, none of them open yet.
    pub(in crate::store::postgres) fn new(server: &Arc<Server>, count: usize) -> ConnectionPool<S> {
        let pool = (0..count.max(1)).map(|_| PooledConnection::new(Arc::clone(server))).collect();
        ConnectionPool { pool, next: AtomicUsize::new(0) }
    }

    /// The connection with the least load, in turn where several have the same; without those that refused this work
    /// already. A connection that answers comes before one that has not answered for a while, and one that is down
    /// comes last. So a statement that waits for a locked row delays its own connection alone.
    fn next(&self, refused: &[usize]) -> Option<usize> {
        let (count, first) = (self.pool.len(), self.next.fetch_add(1, Ordering::Relaxed));
        let in_turn = (0..count).map(|at| (first + at) % count).filter(|at| !refused.contains(at));
        in_turn.min_by_key(|at| self.pool[*at].burden())
    }

    /// Runs work that writes. Where a connection is down, so that nothing happened, another one gets the work.
    pub(in crate::store::postgres) async fn write<T, F>(
        &self,
        work: impl Fn(Arc<S>) -> F + Send + Sync,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let mut search = Search::new(self.next(&[]));
        loop {
            let outcome = self.pool[search.at].write(&work).await;
            if !search.continues(self, &outcome) {
                return outcome;
            }
        }
    }

    /// Runs work that only reads, with the same rule.
    pub(in crate::store::postgres) async fn read<T, F>(
        &self,
        work: impl Fn(Arc<S>) -> F + Send + Sync,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let mut search = Search::new(self.next(&[]));
        loop {
            let outcome = self.pool[search.at].read(&work).await;
            if !search.continues(self, &outcome) {
                return outcome;
            }
        }
    }

    /// All connections.
    pub(in crate::store::postgres) fn all(&self) -> &[PooledConnection<S>] {
        &self.pool
    }

    /// Closes all connections.
    pub(in crate::store::postgres) async fn close(&self) {
        join_all(self.pool.iter().map(PooledConnection::close)).await;
    }
}

/// The search for a connection for a piece of work.
struct Search {
    at: usize,
    begun: Instant,
    since: Instant,
    refused: Vec<usize>,
}

impl Search {
    fn new(first: Option<usize>) -> Search {
        let now = Instant::now();
        Search { at: first.unwrap_or(0), begun: now, since: now, refused: Vec::new() }
    }

    /// Whether another connection gets the work, because this one was down and refused it. Only for a limited time:
    /// where the server does not answer at all, the caller would wait for the timeout of each connection.
    fn continues<S: Prepare, T>(&mut self, pool: &ConnectionPool<S>, outcome: &Result<T, Error>) -> bool {
        let is_refused =
            matches!(outcome, Err(Error::Unavailable(_))) && pool.pool[self.at].was_down_after(self.since);
        if !is_refused || (self.begun.elapsed() > RETRY_FOR && !self.refused.is_empty()) {
            return false;
        }
        self.refused.push(self.at);
        self.since = Instant::now();
        pool.next(&self.refused).map(|next| self.at = next).is_some()
    }
}
