//! The connections of one kind. Work is given to the one that has the least to do, and to another one where that was
//! down: the server may have room for some of them alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::pooled_connection::{PooledConnection, Prepare};
use super::server::Server;
use crate::store::Error;
use crate::store::postgres::failure::Failure;

/// For how long after the beginning further connections are tried for work that some have refused; one is in any case.
const TAKEOVER: Duration = Duration::from_secs(1);

/// Connections of one kind, used in turn.
pub(in crate::store::postgres) struct ConnectionPool<S> {
    pool: Vec<PooledConnection<S>>,
    next: AtomicUsize,
}

impl<S: Prepare> ConnectionPool<S> {
    /// So many, of which none is open yet.
    pub(in crate::store::postgres) fn new(server: &Arc<Server>, count: usize) -> ConnectionPool<S> {
        let pool = (0..count.max(1)).map(|_| PooledConnection::new(Arc::clone(server))).collect();
        ConnectionPool { pool, next: AtomicUsize::new(0) }
    }

    /// The one with the least to do, in turn where several have; rather one that answers than one that has not for a
    /// while, and one that is down last of all. A statement that waits, for a row that another session has locked,
    /// holds up its own connection alone. Of those that have refused a piece of work, none is given it again.
    fn next(&self, refused: &[usize]) -> Option<usize> {
        let (count, first) = (self.pool.len(), self.next.fetch_add(1, Ordering::Relaxed));
        let in_turn = (0..count).map(|at| (first + at) % count).filter(|at| !refused.contains(at));
        in_turn.min_by_key(|at| self.pool[*at].load())
    }

    /// Does work that writes. Where nothing happened because its connection is down, another one gets it.
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
            if !search.goes_on(self, &outcome) {
                return outcome;
            }
        }
    }

    /// Does work that only reads; the same holds for it.
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
            if !search.goes_on(self, &outcome) {
                return outcome;
            }
        }
    }

    /// All of them.
    pub(in crate::store::postgres) fn all(&self) -> &[PooledConnection<S>] {
        &self.pool
    }

    /// Closes all of them.
    pub(in crate::store::postgres) async fn close(&self) {
        join_all(self.pool.iter().map(PooledConnection::close)).await;
    }
}

/// The search for a connection that does a piece of work. The server may have room for some of them alone.
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

    /// Whether the next connection gets the work, because this one was down and refused it. Not for long: where all
    /// wait for a server that is silent, so would each caller, again and again.
    fn goes_on<S: Prepare, T>(&mut self, pool: &ConnectionPool<S>, outcome: &Result<T, Error>) -> bool {
        let is_refused =
            matches!(outcome, Err(Error::Unavailable(_))) && pool.pool[self.at].was_down_after(self.since);
        if !is_refused || (self.begun.elapsed() > TAKEOVER && !self.refused.is_empty()) {
            return false;
        }
        self.refused.push(self.at);
        self.since = Instant::now();
        pool.next(&self.refused).map(|next| self.at = next).is_some()
    }
}
