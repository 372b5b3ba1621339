//! The line to Redis: one session after the other, and none that is trusted longer than it works.
//!
//! A session is a connection. A change that could not be dropped in time ends it, as does a lost connection or a
//! few failures in a row; reads are then misses, without asking. A keeper in the background begins the next one:
//! it connects, has *writers* use the connection, drops the generation, which makes void all that any process had
//! put there until now, and only then lets *readers* in. So a change that found no session was dropped by the next
//! one's beginning, and a change that came later was dropped by itself. No list of missed drops is kept, no clock
//! is compared, and a Redis that came back with old data is begun anew like any other.
//!
//! Each beginning makes the copies of all processes void. A session that did not live long is therefore followed by a
//! longer pause each time, so that one process in trouble does not keep the caches of the others empty.

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

/// The line, as its users see it.
pub(super) struct SessionManager {
    client: Client,
    budget: Duration,
    generation: String,
    state: watch::Sender<State>,
}

/// Where the line stands.
enum State {
    /// Nothing is asked.
    Down(String),
    /// What changes is dropped, and nothing is read.
    Joining(Arc<Session>),
    /// In use.
    Up(Arc<Session>),
}

/// A connection, as long as it works.
pub(super) struct Session {
    connection: MultiplexedConnection,
    failures: AtomicU32,
}

impl Session {
    /// A handle of the connection, to send one command on.
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
    /// A line that is down; [`SessionManager::keep`] brings it up. Each call may take as long as the budget. The last argument is
    /// the key of the generation.
    pub(super) fn new(client: Client, budget: Duration, generation: String) -> SessionManager {
        let state = watch::Sender::new(State::Down("it has not been reached yet".to_owned()));
        SessionManager { client, budget, generation, state }
    }

    /// The session to read from.
    ///
    /// # Errors
    /// [`Unavailable`] where there is none.
    pub(super) fn reading(&self) -> Result<Arc<Session>, Unavailable> {
        match &*self.state.borrow() {
            State::Up(session) => Ok(Arc::clone(session)),
            State::Joining(_) => Err(Unavailable("it is being joined".to_owned())),
            State::Down(reason) => Err(Unavailable(reason.clone())),
        }
    }

    /// The session to drop entries in; without one, the next session's beginning drops them.
    pub(super) fn writing(&self) -> Option<Arc<Session>> {
        match &*self.state.borrow() {
            State::Up(session) | State::Joining(session) => Some(Arc::clone(session)),
            State::Down(_) => None,
        }
    }

    /// Waits for a call within the budget. A failure counts against its session, which is over when this returns
    /// if that was one too many.
    ///
    /// # Errors
    /// [`Unavailable`] with what went wrong.
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

    /// Begins one session after the other, for ever. Logs when the line goes up or down, and not each attempt.
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
        let (mut line, mut asking) = (session.connection(), session.connection());
        let mut drop = cmd("UNLINK");
        let drop = drop.arg(&self.generation).exec_async(&mut line);
        let mut ask = cmd("INFO");
        let ask = ask.arg("server").query_async::<String>(&mut asking);
        // The second one may be refused to this user, which is fine: what it says is only about how to set this up.
        let (dropped, info) = tokio::join!(within(LONGEST_PAUSE, drop), within(LONGEST_PAUSE, ask));
        if let Some(reason) = info.ok().as_deref().and_then(unusable) {
            return Err(Failed::before(reason.to_owned()));
        }
        dropped.map_err(Failed::before)?;
        // Patience was for a Redis that comes back; one that is always so slow would be of no use.
        let ping = within(self.budget, cmd("PING").exec_async(&mut line)).await;
        ping.map_err(|reason| Failed { reason, is_void: true })?;
        let is_up = self.state.send_if_modified(|state| {
            let is_joining = state.is(&session);
            if is_joining {
                *state = State::Up(Arc::clone(&session));
            }
            is_joining
        });
        let reason = "a change could not be dropped".to_owned();
        if is_up { Ok(()) } else { Err(Failed { reason, is_void: true }) }
    }

    /// Waits until the line is down, and answers why.
    async fn down(&self) -> String {
        let mut states = self.state.subscribe();
        match states.wait_for(|state| matches!(state, State::Down(_))).await.as_deref() {
            Ok(State::Down(reason)) => reason.clone(),
            // The sender is a part of this.
            _ => String::new(),
        }
    }
}

/// A session that did not begin.
struct Failed {
    reason: String,
    /// Whether it made the copies of all processes void before that.
    is_void: bool,
}

impl Failed {
    fn before(reason: String) -> Failed {
        Failed { reason, is_void: false }
    }
}

/// Why what INFO tells of can never serve as the cache, if it cannot.
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

/// Waits for Redis to do something, and says what went wrong.
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
    fn what_cannot_serve_as_the_cache_is_known_by_its_mode() {
        for (mode, part) in [("cluster", "Redis Cluster"), ("sentinel", "a Sentinel")] {
            let info = format!("# Server\r\nredis_version:8.2.1\r\nredis_mode:{mode}\r\nos:Linux\r\n");
            assert!(unusable(&info).is_some_and(|reason| reason.contains(part)));
        }
        assert_eq!(unusable("redis_mode:standalone\r\n"), None);
        assert_eq!(unusable(""), None);
    }
}
