//! A port: its accept loop, and the life of its connections. The loop is our own because ready-made ones have no limit
//! on connections, and no timeouts for heads, idle connections and writes. Each protocol has its port: on a shared port
//! the server would have to wait for a client's first bytes to learn the protocol.

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

/// How long an idle connection may take to close when the process stops: its peer may be silent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a peer may read nothing of its responses when the process stops, so that it does not delay the stop.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The shortest pause between two checks of all connections.
const SHORTEST_CHECK: Duration = Duration::from_millis(50);

/// How long the accept loop waits after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The most rejections with a response at a time; more connections are closed without one.
const MAX_REJECTIONS: usize = 64;

/// A port and its connections.
pub(in crate::api) struct Port {
    admission: Arc<Admission>,
    /// The tasks that serve the connections.
    pub(in crate::api) tasks: TaskTracker,
    /// Cancelled when no more connections are accepted.
    pub(in crate::api) closing: CancellationToken,
    /// The response to a client whose peer has used up its share of connections; `None`: the connection is closed.
    rejection: Option<fn() -> Vec<u8>>,
    write_timeout: Duration,
    /// Counts the connections that are being rejected.
    rejected: Arc<()>,
}

impl Port {
    /// A port with that admission of connections.
    pub(in crate::api) fn new(
        admission: Admission,
        rejection: Option<fn() -> Vec<u8>>,
        write_timeout: Duration,
    ) -> Port {
        Port {
            admission: Arc::new(admission),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            rejection,
            write_timeout,
            rejected: Arc::default(),
        }
    }

    /// Accepts connections until the port closes, and runs a server for each.
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
                    None => self.reject(stream, from.ip()),
                },
                Err(error) => {
                    // Most likely the process is out of file descriptors: closing an idle connection frees one.
                    limited!(warn, "accept"; %error, "cannot accept a connection; if the process is out of file \
                        descriptors, raise their limit or lower MAX_CONNECTIONS");
                    self.admission.make_room();
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        self.tasks.close();
        self.close(CloseRequest::Graceful);
    }

    /// Asks all connections to end.
    pub(in crate::api) fn close(&self, how: CloseRequest) {
        self.admission.each(|connection| connection.close(how));
    }

    /// Closes connections whose peers read nothing of their responses, and silent ones when the process stops. Does not
    /// end.
    pub(in crate::api) async fn watch(&self) {
        let mut checks = interval((self.write_timeout / 4).clamp(SHORTEST_CHECK, CLOSE_TIMEOUT));
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            checks.tick().await;
            let limit = match self.closing.is_cancelled() {
                true => self.write_timeout.min(LAST_WRITE_TIMEOUT),
                false => self.write_timeout,
            };
            self.admission.each(|connection| {
                if connection.is_stalled(limit) || connection.is_overdue(CLOSE_TIMEOUT) {
                    connection.close(CloseRequest::Immediate);
                }
            });
        }
    }

    /// Rejects a connection, without waiting for its request.
    fn reject(&self, stream: TcpStream, from: IpAddr) {
        tracing::debug!(%from, "a connection is rejected; its peer has used up its share");
        if let Some(rejection) = self.rejection
            && Arc::strong_count(&self.rejected) <= MAX_REJECTIONS
        {
            let rejected = Arc::clone(&self.rejected);
            self.tasks.spawn(async move {
                let _rejected = rejected;
                answer_and_close(stream, &rejection()).await;
            });
        }
    }
}

/// Serves a connection until it ends by itself or is asked to end.
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
                // The next poll performs the shutdown.
                _ => served.as_mut().graceful_shutdown(),
            }
        }
    });
    if let Some(Err(error)) = ended.await {
        tracing::debug!(%error, "a connection ended early");
    }
}
