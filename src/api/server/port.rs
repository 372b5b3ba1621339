//! A port: its accept loop, and the life of its connections. The loop is our own because the ready-made ones have no
//! limit on connections, and no time limit on heads, idle connections and writes. Each protocol has its port: to tell
//! the two apart on one port, the server would have to wait for a silent connection.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use hyper_util::server::graceful::GracefulConnection;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::connection::{CloseRequest, Connection};
use super::tcp::{answer_and_close, set_up};
use crate::telemetry::limited;

/// How long a connection without a request under way may take to end when the process stops: its peer may be silent.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long a peer may read nothing of its responses when the process stops: it does not hold up the stop.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// The shortest pause between two checks of all connections.
const SHORTEST_CHECK: Duration = Duration::from_millis(50);

/// How long the accept loop waits after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections are rejected with a response at a time; more are closed without one.
const MAX_REFUSALS: usize = 64;

/// A port and its connections.
pub(in crate::api) struct Port {
    admission: Arc<Admission>,
    /// The tasks that serve the connections.
    pub(in crate::api) tasks: TaskTracker,
    /// Cancelled when no more connections are accepted.
    pub(in crate::api) closing: CancellationToken,
    /// What a client gets whose peer has its share of connections; `None`: the connection is closed.
    refusal: Option<fn() -> Vec<u8>>,
    write_timeout: Duration,
    /// Held by each connection that is being rejected.
    refused: Arc<()>,
}

impl Port {
    /// A port with those places for connections.
    pub(in crate::api) fn new(
        admission: Admission,
        refusal: Option<fn() -> Vec<u8>>,
        write_timeout: Duration,
    ) -> Port {
        Port {
            admission: Arc::new(admission),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            refusal,
            write_timeout,
            refused: Arc::default(),
        }
    }

    /// Accepts connections until the port closes, and runs what serves them.
    pub(in crate::api) async fn accept<C: Future<Output = ()> + Send + 'static>(
        &self,
        listener: TcpListener,
        serve: impl Fn(TcpStream, Arc<Connection>) -> C,
    ) {
        loop {
            let accept = async {
                self.admission.room().await;
                listener.accept().await
            };
            let accepted = tokio::select! {
                biased;
                () = self.closing.cancelled() => break,
                accepted = accept => accepted,
            };
            match accepted {
                Ok((stream, from)) => match self.admission.admit(from.ip()) {
                    Some(connection) => {
                        set_up(&stream, self.write_timeout);
                        self.tasks.spawn(serve(stream, connection));
                    }
                    None => self.refuse(stream, from.ip()),
                },
                Err(error) => {
                    // Out of file descriptors, most likely: an idle connection gives one back.
                    limited!(warn, "accept"; %error, "cannot accept a connection");
                    self.admission.make_room();
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        self.tasks.close();
        self.close(CloseRequest::Graceful);
    }

    /// Tells all connections to end.
    pub(in crate::api) fn close(&self, how: CloseRequest) {
        self.admission.each(|connection| connection.close(how));
    }

    /// Cuts off connections whose peers read nothing of their responses, and silent ones when the process stops. Does
    /// not end.
    pub(in crate::api) async fn watch(&self) {
        let mut checks = interval((self.write_timeout / 4).clamp(SHORTEST_CHECK, GOODBYE));
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            checks.tick().await;
            let limit = match self.closing.is_cancelled() {
                true => self.write_timeout.min(LAST_WRITE),
                false => self.write_timeout,
            };
            self.admission.each(|connection| {
                if connection.is_stalled(limit) || connection.is_overdue(GOODBYE) {
                    connection.close(CloseRequest::Immediate);
                }
            });
        }
    }

    /// Rejects a connection, without waiting for its request.
    fn refuse(&self, stream: TcpStream, from: IpAddr) {
        tracing::debug!(%from, "a peer has its share of connections");
        if let Some(refusal) = self.refusal
            && Arc::strong_count(&self.refused) <= MAX_REFUSALS
        {
            let refused = Arc::clone(&self.refused);
            self.tasks.spawn(async move {
                let _refused = refused;
                answer_and_close(stream, &refusal()).await;
            });
        }
    }
}

/// Serves a connection to its end: its own, or the one that it is told.
pub(in crate::api) async fn run<C>(mut served: Pin<Box<C>>, connection: &Connection)
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let mut request = CloseRequest::None;
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = served.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            request = ready!(connection.poll_close(cx, request));
            match request {
                CloseRequest::Immediate => return Poll::Ready(None),
                // Polled once more, so that it learns of it.
                _ => served.as_mut().graceful_shutdown(),
            }
        }
    });
    if let Some(Err(error)) = ended.await {
        tracing::debug!(%error, "a connection ended early");
    }
}
