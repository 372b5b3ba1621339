//! The session manager: opens and ends sessions with Redis, one after the other. A session must never be read from
//! after a change could not be invalidated in it. Sessions that do not last are followed by longer pauses (see
//! `pauses`): one process with a bad connection must not keep the cache of the others empty.
//!
//! A session is a connection. An invalidation that fails or takes too long ends it, as does a lost connection or a few
//! failures in a row; reads are then misses, without a call. A background task begins the next session: it connects,
//! lets *writers* use the connection, deletes the generation, which makes all entries of all processes void, and only
//! then lets *readers* in. So a change that did not find a session is invalidated by the next one's beginning, and a
//! later change by its own call. There is no list of missed invalidations and no comparison of clocks, and a Redis that
//! restarted with old data is treated like any other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult, cmd};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::pauses::{LONGEST_PAUSE, Pauses};
use crate::cache::port::Unavailable;
use crate::telemetry::LogOnce;

/// How many failures in a row end a session.
const FAILURES: u32 = 3;

/// The sessions with Redis, as the cache uses them.
pub(super) struct SessionManager {
    client: Client,
    budget: Duration,
    generation: String,
    state: watch::Sender<State>,
}

/// The state of the session manager.
enum State {
    /// There is no session, for this reason.
    Down(String),
    /// Changes are invalidated in this session; reads are misses.
    Joining(Arc<Session>),
    /// In use.
    Up(Arc<Session>),
}

/// A connection that works.
pub(super) struct Session {
    connection: MultiplexedConnection,
    failures: AtomicU32,
}

impl Session {
    /// A handle of the connection, to send a command.
    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }
}

/// Whether a session survives the failure of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tolerance {
    /// A few in a row end it.
    Few,
    /// The first one ends it.
    None,
}

impl SessionManager {
    /// A manager without a session; [`SessionManager::keep`] begins one. A call may take as long as `budget`.
    /// `generation` is the key of the generation.
    pub(super) fn new(client: Client, budget: Duration, generation: String) -> SessionManager {
        let state = watch::Sender::new(State::Down("it has not been reached yet".to_owned()));
        SessionManager { client, budget, generation, state }
    }

    /// The session to read from.
    ///
    /// # Errors
    /// [`Unavailable`] where there is none to read from.
    pub(super) fn reading(&self) -> Result<Arc<Session>, Unavailable> {
        match &*self.state.borrow() {
            State::Up(session) => Ok(Arc::clone(session)),
            State::Joining(_) => Err(Unavailable("the session is being opened".to_owned())),
            State::Down(reason) => Err(Unavailable(reason.clone())),
        }
    }

    /// The session to invalidate entries in. Without one, the next session's beginning makes them void.
    pub(super) fn writing(&self) -> Option<Arc<Session>> {
        match &*self.state.borrow() {
            State::Up(session) | State::Joining(session) => Some(Arc::clone(session)),
            State::Down(_) => None,
        }
    }

    /// Waits for a call within the budget. A failure counts against its session, and ends it before this returns where
    /// the session does not tolerate it.
    ///
    /// # Errors
    /// [`Unavailable`] with the reason.
    pub(super) async fn ask<T>(
        &self,
        session: &Arc<Session>,
        tolerance: Tolerance,
        call: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, Unavailable> {
        let (reason, is_lost) = match timeout(self.budget, call).await {
            Ok(Ok(answer)) => {
                session.failures.store(0, Ordering::Relaxed);
                return Ok(answer);
            }
            Ok(Err(error)) => (error.to_string(), error.is_io_error() || error.is_unrecoverable_error()),
            Err(_) => (too_slow(self.budget), false),
        };
        let failures = session.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if is_lost || tolerance == Tolerance::None || failures >= FAILURES {
            self.end(session, &reason);
        }
        Err(Unavailable(reason))
    }

    /// Ends a session, unless it is over already.
    fn end(&self, session: &Arc<Session>, reason: &str) {
        self.state.send_if_modified(|state| {
            let is_in_use = state.is(session);
            if is_in_use {
                *state = State::Down(reason.to_owned());
            }
            is_in_use
        });
    }

    /// Begins one session after the other. Never returns. Logs the begin and the end of an outage, and not each
    /// attempt.
    pub(super) async fn keep(&self) {
        let (mut pauses, log) = (Pauses::default(), LogOnce::default());
        loop {
            let began = Instant::now();
            let (reason, is_void) = match self.join().await {
                Ok(()) => {
                    tracing::info!("the cache is in use");
                    log.worked();
                    (self.down().await, true)
                }
                Err(Failed { reason, is_void }) => {
                    self.state.send_replace(State::Down(reason.clone()));
                    (reason, is_void)
                }
            };
            if log.failed() {
                tracing::warn!(reason, "the cache is not available; reads go to the store until it is");
            }
            sleep_until(began + pauses.after(began.elapsed(), is_void)).await;
        }
    }

    /// Begins a session: connects, lets writers in, drops the generation, lets readers in.
    async fn join(&self) -> Result<(), Failed> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connect = self.client.get_multiplexed_async_connection_with_config(&config);
        let connection = within(LONGEST_PAUSE, connect).await.map_err(Failed::before)?;
        let session = Arc::new(Session { connection, failures: AtomicU32::new(0) });
        self.state.send_replace(State::Joining(Arc::clone(&session)));
        let (mut dropping, mut asking) = (session.connection(), session.connection());
        let mut drop = cmd("UNLINK");
        let drop = drop.arg(&self.generation).exec_async(&mut dropping);
        let mut ask = cmd("INFO");
        let ask = ask.arg("server").query_async::<String>(&mut asking);
        // Redis may refuse INFO to this user, which is fine: it only helps to find a wrong REDIS_ADDR.
        let (dropped, info) = tokio::join!(within(LONGEST_PAUSE, drop), within(LONGEST_PAUSE, ask));
        if let Some(reason) = info.ok().as_deref().and_then(unusable) {
            return Err(Failed::before(reason.to_owned()));
        }
        dropped.map_err(Failed::before)?;
        // The long timeout was for a Redis that restarts; one that is always so slow would be useless.
        let ping = within(self.budget, cmd("PING").exec_async(&mut dropping)).await;
        ping.map_err(|reason| Failed { reason, is_void: true })?;
        let is_up = self.state.send_if_modified(|state| {
            let is_joining = state.is(&session);
            if is_joining {
                *state = State::Up(Arc::clone(&session));
            }
            is_joining
        });
        let reason = "a change could not be invalidated".to_owned();
        if is_up { Ok(()) } else { Err(Failed { reason, is_void: true }) }
    }

    /// Waits until there is no session, and answers why.
    async fn down(&self) -> String {
        let mut states = self.state.subscribe();
        match states.wait_for(|state| matches!(state, State::Down(_))).await.as_deref() {
            Ok(State::Down(reason)) => reason.clone(),
            // Unreachable: `self` holds the sender.
            _ => String::new(),
        }
    }
}

/// A session that did not begin.
struct Failed {
    reason: String,
    /// Whether it made the entries of all processes void before it failed.
    is_void: bool,
}

impl Failed {
    fn before(reason: String) -> Failed {
        Failed { reason, is_void: false }
    }
}

/// Why the server that INFO describes can never serve as the cache, if it cannot.
fn unusable(info: &str) -> Option<&'static str> {
    let mode = info.lines().find_map(|line| line.strip_prefix("redis_mode:"))?;
    match mode.trim() {
        "cluster" => Some(
            "REDIS_ADDR names a node of a Redis Cluster, where the keys of one look-up are on several nodes; name a \
             Redis that is not in cluster mode",
        ),
        "sentinel" => {
            Some("REDIS_ADDR names a Sentinel, which holds no data; name the Redis that it watches")
        }
        _ => None,
    }
}

impl State {
    /// Whether that session is the one in use.
    fn is(&self, session: &Arc<Session>) -> bool {
        matches!(self, State::Up(it) | State::Joining(it) if Arc::ptr_eq(it, session))
    }
}

/// Waits for an answer of Redis; a failure is a text for the log.
async fn within<T>(limit: Duration, call: impl Future<Output = RedisResult<T>>) -> Result<T, String> {
    match timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(too_slow(limit)),
    }
}

fn too_slow(limit: Duration) -> String {
    format!("it did not answer within {limit:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_cannot_serve_as_the_cache_is_known_by_its_mode() {
        for (mode, part) in [("cluster", "Redis Cluster"), ("sentinel", "a Sentinel")] {
            let info = format!("# Server\r\nredis_version:8.2.1\r\nredis_mode:{mode}\r\nos:Linux\r\n");
            assert!(unusable(&info).is_some_and(|reason| reason.contains(part)));
        }
        assert_eq!(unusable("redis_mode:standalone\r\n"), None);
        assert_eq!(unusable(""), None);
    }
}
