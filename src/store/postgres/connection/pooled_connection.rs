//! A pooled connection: one connection with its prepared statements, which is replaced when it breaks. While it is down
//! and its next attempt is not due, calls fail at once, so that an unavailable server costs a caller at most one
//! timeout.
//!
//! A write must never be repeated unless it is certain that nothing of it happened.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

use super::load::{Burden, Load};
use super::server::Server;
use super::session::{ANSWER_MARGIN, Purpose};
use crate::backoff::{doubled, jittered};
use crate::store::Error;
use crate::store::postgres::failure::Failure;
use crate::telemetry::limited;

/// The pause after the first failure to connect; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often a statement is tried that lost against a concurrent transaction.
const MAX_ATTEMPTS: u32 = 5;

/// Plans for small batches over a partitioned table. A generic plan is made once, and a plan that was made for an empty
/// table would scan a full one for ever. These settings leave a nested loop over the primary key with run-time pruning,
/// which is right for empty and for full tables. The statements compare the key with `ANY (ARRAY[id])`, which means the
/// same as `=` and also prevents a scan of the whole index.
const SMALL_BATCHES: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;
     SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off";

/// The prepared statements of a connection of one kind.
pub(in crate::store::postgres) trait Prepare: Sized + Send + Sync {
    /// Whether it runs small batches against the table of orders, and needs a server that accepts writes.
    const WRITES: bool;

    /// Prepares the statements of this kind; with `history`, those that also write history events.
    fn prepare(
        client: Client,
        history: bool,
    ) -> impl Future<Output = Result<Self, tokio_postgres::Error>> + Send;

    /// The connection.
    fn client(&self) -> &Client;
}

/// Opens a connection of a kind.
async fn open<S: Prepare>(server: &Server) -> Result<S, Failure> {
    let client = server.connect(if S::WRITES { Purpose::Write } else { server.reads() }).await?;
    let preparing = async {
        if S::WRITES {
            client.batch_execute(SMALL_BATCHES).await?;
        }
        Ok(S::prepare(client, server.history).await?)
    };
    timeout(server.connect_timeout, preparing).await.unwrap_or(Err(Failure::Timeout))
}

/// One connection of a kind, replaced whenever it breaks.
pub(in crate::store::postgres) struct PooledConnection<S> {
    server: Arc<Server>,
    state: Mutex<State<S>>,
    load: Load,
    // std Mutex: held for one poll, never across .await
    turn: std::sync::Mutex<()>,
}

struct State<S> {
    session: Option<Arc<S>>,
    failures: u32,
    retry_at: Instant,
    last_error: String,
    /// When a connection that did not answer was last replaced. Its server ends it later.
    replaced_at: Option<Instant>,
}

impl<S: Prepare> PooledConnection<S> {
    pub(in crate::store::postgres) fn new(server: Arc<Server>) -> PooledConnection<S> {
        let (session, retry_at) = (None, Instant::now());
        PooledConnection {
            server,
            state: Mutex::new(State {
                session,
                failures: 0,
                retry_at,
                last_error: String::new(),
                replaced_at: None,
            }),
            load: Load::new(),
            turn: std::sync::Mutex::new(()),
        }
    }

    /// The reasons against giving work to this connection.
    pub(super) fn burden(&self) -> Burden {
        self.load.burden()
    }

    /// Whether it was down at that time or later.
    pub(super) fn was_down_after(&self, time: Instant) -> bool {
        self.load.was_down_after(time)
    }

    /// The connection, opened if need be.
    pub(in crate::store::postgres) async fn session(&self) -> Result<Arc<S>, Error> {
        let mut state = self.state.lock().await;
        if self.server.is_closed() {
            return Err(Error::Unavailable("the store is closed".to_owned()));
        }
        // One replacement at a time: where all wait for a lock, new connections would wait, too, and the server has
        // few.
        let is_suspect = self.load.is_suspect()
            && state
                .replaced_at
                .is_none_or(|at| at.elapsed() > self.server.statement_timeout + ANSWER_MARGIN);
        let is_usable = |session: &&Arc<S>| !is_suspect && !session.client().is_closed();
        if let Some(session) = state.session.as_ref().filter(is_usable) {
            return Ok(Arc::clone(session));
        }
        if is_suspect && state.session.is_some() {
            state.replaced_at = Some(Instant::now());
        }
        state.session = None;
        if state.failures > 0 && Instant::now() < state.retry_at {
            return Err(Error::Unavailable(state.last_error.clone()));
        }
        // The mark has an end, in case this call is cancelled.
        self.load.set_down_for(self.server.longest_connect() + self.server.connect_timeout);
        let opened = open::<S>(&self.server).await;
        let down_for = if opened.is_ok() { Duration::ZERO } else { pause(state.failures) };
        self.load.set_down_for(down_for);
        match opened {
            Ok(session) => {
                self.load.answered();
                if state.failures > 0 {
                    tracing::info!(failures = state.failures, "connected to Postgres again");
                }
                state.failures = 0;
                Ok(Arc::clone(state.session.insert(Arc::new(session))))
            }
            Err(failure) => {
                let reason = self.server.unreachable(&failure);
                if state.failures == 0 {
                    tracing::warn!("{reason}; it is tried again until it succeeds");
                }
                state.retry_at = Instant::now() + down_for;
                state.failures = state.failures.saturating_add(1);
                state.last_error.clone_from(&reason);
                Err(Error::Unavailable(reason))
            }
        }
    }

    /// Runs work that writes. Work that lost against a concurrent transaction is repeated.
    pub(in crate::store::postgres) async fn write<T, F>(
        &self,
        work: impl Fn(Arc<S>) -> F + Send,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let mut attempt = 1;
        loop {
            let session = self.session().await?;
            match self.watched(work(Arc::clone(&session)), &session).await {
                Ok(done) => return Ok(done),
                Err(failure) if failure.is_transient() && attempt < MAX_ATTEMPTS => attempt += 1,
                Err(failure) => {
                    if failure.is_disk_full() {
                        self.server.set_full(true);
                    }
                    return Err(failure.of_write());
                }
            }
        }
    }

    /// Runs work that only reads, or that may be done twice. It is repeated once on a new connection where this one has
    /// ended, possibly while it was idle.
    pub(in crate::store::postgres) async fn read<T, F>(
        &self,
        work: impl Fn(Arc<S>) -> F + Send,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let session = self.session().await?;
        match self.watched(work(Arc::clone(&session)), &session).await {
            Err(failure) if failure.ends_connection() => {
                let session = self.session().await?;
                self.watched(work(Arc::clone(&session)), &session).await.map_err(Failure::of_read)
            }
            outcome => outcome.map_err(Failure::of_read),
        }
    }

    /// Waits a little longer than the server's own limit, and drops a connection that cannot be used any more.
    async fn watched<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send,
        session: &Arc<S>,
    ) -> Result<T, Failure> {
        let _in_flight = self.load.begin();
        let outcome = timeout(self.server.statement_timeout + ANSWER_MARGIN, self.in_turn(work)).await;
        if outcome.is_ok() {
            self.load.answered();
        }
        let outcome = outcome.unwrap_or(Err(Failure::Timeout));
        if let Err(failure) = &outcome
            && failure.ends_connection()
        {
            limited!(warn, "Postgres connection"; %failure, "a connection to Postgres is replaced");
            // The pool gives the next work to another connection.
            self.load.set_down_at_least_for(FIRST_PAUSE);
            let mut state = self.state.lock().await;
            // Another task may have opened the next one already.
            state.session.take_if(|current| Arc::ptr_eq(current, session));
        }
        outcome
    }

    /// Polls one piece of work at a time, so that statements which it sends in one poll, as those of a transaction, are
    /// not mixed with another thread's statements. Reads do not send transactions, and need no turn.
    async fn in_turn<T>(&self, work: impl Future<Output = T> + Send) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            let _turn = S::WRITES.then(|| self.turn.lock().unwrap_or_else(PoisonError::into_inner));
            work.as_mut().poll(context)
        })
        .await
    }

    /// Closes the connection.
    pub(in crate::store::postgres) async fn close(&self) {
        self.state.lock().await.session = None;
    }
}

/// The pause after so many failures, with jitter, so that many processes do not reconnect at the same time.
fn pause(failures: u32) -> Duration {
    jittered(doubled(FIRST_PAUSE, failures, LONGEST_PAUSE))
}
