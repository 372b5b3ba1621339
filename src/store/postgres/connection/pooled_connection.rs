//! Connections that are made anew when they break. A link is one connection with its prepared statements; whoever
//! needs it while it is down and not yet due for another try is told so at once, so that a server that is away
//! costs nobody more than one timeout.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

use super::load::{Burden, Load};
use super::server::Server;
use super::session::{Purpose, SILENCE};
use crate::backoff::{doubled, jittered};
use crate::store::Error;
use crate::store::postgres::failure::Failure;
use crate::telemetry::limited;

/// The pause after the first failure to connect; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often a statement that lost against another transaction is tried.
const ATTEMPTS: u32 = 5;

/// Plans for small batches over a partitioned table. A generic plan is made once, and one that was made for an empty
/// table would read it from end to end for ever after. What is left is a nested loop over the primary key, pruned when
/// it runs, which is right for an empty table and for a full one. The statements help: they compare the key with
/// `ANY (ARRAY[id])`, which says the same as `=` and rules out a walk through the whole index, too.
const SMALL_BATCHES: &str = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off;
     SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off";

/// What is prepared on a connection of one kind.
pub(in crate::store::postgres) trait Prepare: Sized + Send + Sync {
    /// Whether it runs small batches against the table of orders, and must reach a server that takes writes.
    const WRITES: bool;

    /// Prepares the statements of this kind, of those that write a history where there is to be one.
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

/// One connection of a kind, for ever.
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
    /// When a connection that did not answer was last given up for a new one. Its server ends it later.
    given_up: Option<Instant>,
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
                given_up: None,
            }),
            load: Load::new(),
            turn: std::sync::Mutex::new(()),
        }
    }

    /// What is to be said against giving work to it.
    pub(super) fn load(&self) -> Burden {
        self.load.look()
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
        // One at a time: where all wait for a lock, further connections would wait, too, and the server has few.
        let is_suspect = self.load.is_suspect()
            && state.given_up.is_none_or(|at| at.elapsed() > self.server.statement_timeout + SILENCE);
        let is_usable = |session: &&Arc<S>| !is_suspect && !session.client().is_closed();
        if let Some(session) = state.session.as_ref().filter(is_usable) {
            return Ok(Arc::clone(session));
        }
        if is_suspect && state.session.is_some() {
            state.given_up = Some(Instant::now());
        }
        state.session = None;
        if state.failures > 0 && Instant::now() < state.retry_at {
            return Err(Error::Unavailable(state.last_error.clone()));
        }
        // No longer than that, also where this is cancelled.
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
                    tracing::warn!("{reason}; trying again and again");
                }
                state.retry_at = Instant::now() + down_for;
                state.failures = state.failures.saturating_add(1);
                state.last_error.clone_from(&reason);
                Err(Error::Unavailable(reason))
            }
        }
    }

    /// Does work that writes; what lost against another transaction, again.
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
                Err(failure) if failure.is_passing() && attempt < ATTEMPTS => attempt += 1,
                Err(failure) => {
                    if failure.is_about_a_full_disk() {
                        self.server.set_full(true);
                    }
                    return Err(failure.of_write());
                }
            }
        }
    }

    /// Does work that only reads, or that may be done twice. A connection that proves to have ended while nobody
    /// used it, after a restart of the server for instance, costs one more try.
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

    /// Waits no longer than the server itself would, and lets go of a connection that is of no more use.
    async fn watched<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send,
        session: &Arc<S>,
    ) -> Result<T, Failure> {
        let _under_way = self.load.begin();
        let outcome = timeout(self.server.statement_timeout + SILENCE, self.in_turn(work)).await;
        if outcome.is_ok() {
            self.load.answered();
        }
        let outcome = outcome.unwrap_or(Err(Failure::Timeout));
        if let Err(failure) = &outcome
            && failure.ends_connection()
        {
            limited!(warn, "Postgres connection"; %failure, "a connection to Postgres is given up");
            // What it refused is for another one.
            self.load.set_down_at_least_for(FIRST_PAUSE);
            let mut state = self.state.lock().await;
            // Another task may have opened the next one already.
            state.session.take_if(|current| Arc::ptr_eq(current, session));
        }
        outcome
    }

    /// Polls one piece of work at a time: what it sends in one poll, a transaction for instance, lies on the connection
    /// as one, and no other thread's statement within. Reads send no transactions, and need no turn.
    async fn in_turn<T>(&self, work: impl Future<Output = T> + Send) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            let _turn = S::WRITES.then(|| self.turn.lock().unwrap_or_else(PoisonError::into_inner));
            work.as_mut().poll(context)
        })
        .await
    }

    /// Lets go of the connection.
    pub(in crate::store::postgres) async fn close(&self) {
        self.state.lock().await.session = None;
    }
}

/// How long to wait after so many failures, so that many processes do not come back together.
fn pause(failures: u32) -> Duration {
    jittered(doubled(FIRST_PAUSE, failures, LONGEST_PAUSE))
}
