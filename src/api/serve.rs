//! The accept loops, and the life of a connection. They are our own because the ready-made ones have no limit on
//! connections and no time limit on heads, idle connections and writes. Each protocol has its port: to tell them apart
//! on one would mean to wait for a silent connection.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::grpc::Grpc;
use crate::api::http::docs::Docs;
use crate::api::http::health::{self, ProcessHealth};
use crate::api::http::middleware::{Edge, request_id};
use crate::api::http::policy::Front;
use crate::api::http::router::{Shared, router};
use crate::api::http::socket::{self, Limits, Socket};
use crate::api::problem::{OVERLOADED, Problem, to_json};
use crate::api::server::admission::Admission;
use crate::api::server::connection::{Asked, Clock, Connection};
use crate::api::server::forwarded::TrustedProxies;
use crate::api::{Listeners, Options};
use crate::service::quota::{Quotas, Resource};
use crate::service::{Checks, Service};
use crate::telemetry::limited;

/// The most bytes of request headers: enough for an external id of 4 KiB in percent-encoding, and then some.
const HEADER_LIMIT: usize = 64 << 10;

/// How long a connection without a request under way may take to end when the process stops: its peer may be silent.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long a peer may take nothing of its answers when the process stops: one who does not read does not hold it up.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// The shortest pause between two looks at all connections.
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

/// After how long without a sign of life from the other end the system asks for one, how often, and for how long it
/// resends what is not confirmed: a link that was cut frees its connection in less than a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 4;
const UNCONFIRMED: Duration = Duration::from_secs(40);

/// Serves until `shutdown`: then readiness turns 503, the listeners are closed after the delay, and requests in
/// flight get their time to finish. Connections that are left then are dropped.
///
/// # Errors
/// Where the watch over the connections ends; a listener that fails to accept is tried again.
pub async fn serve(
    listeners: Listeners,
    service: Arc<Service>,
    options: Options,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let (quotas, proxies) = (
        Quotas::new(|resource| options.limit(resource)),
        TrustedProxies::new(options.trusted_proxies.clone()),
    );
    let (proxies, clock) = (Arc::new(proxies), Clock::new());
    let shared = Arc::new(Shared::new(service, options.clone(), shutdown.clone(), Docs::new()));
    let port = |resource| {
        let admission =
            Admission::new(resource, Arc::clone(&quotas), Arc::clone(&proxies), Arc::clone(&clock));
        Port::new(admission, resource, &options)
    };
    let (http, grpc) = (port(Resource::HttpConnections), port(Resource::GrpcConnections));
    let notice = async {
        shutdown.cancelled().await;
        sleep(options.shutdown_delay).await;
        http.closing.cancel();
        grpc.closing.cancel();
    };
    let edge = Edge::new(router(Arc::clone(&shared)), Front::new(&options), Arc::clone(&proxies));
    let served = serve_http(listeners.http, &http, edge, &options);
    let calls = async {
        let Some(listener) = listeners.grpc else {
            // Or the stop would wait for connections that cannot come.
            grpc.tasks.close();
            return;
        };
        let calls = Grpc::new(Arc::clone(&shared), proxies, grpc.closing.clone());
        let accepted = grpc.accept(listener, |stream, connection| {
            let served = calls.connection(stream, Arc::clone(&connection));
            async move {
                if let Some(served) = served.await {
                    run(Box::pin(served), &connection).await;
                }
            }
        });
        tokio::join!(accepted, calls.watch_health());
    };
    let ended = async {
        tokio::join!(notice, served, calls);
        let ended = async { tokio::join!(http.tasks.wait(), grpc.tasks.wait()) };
        timeout(options.shutdown_timeout, ended).await
    };
    // These go on until all connections have ended.
    let watched = async { tokio::join!(clock.run(), http.watch(), grpc.watch()) };
    let ended = tokio::select! {
        ended = ended => ended,
        _ = watched => return Err(io::Error::other("the watch over the connections ended by itself")),
    };
    if ended.is_err() {
        tracing::warn!("requests were still in flight when the time to finish was over");
        [&http, &grpc]
            .into_iter()
            .for_each(|port| port.admission.each(|connection| connection.ask(Asked::Cut)));
    }
    Ok(())
}

/// Serves the paths about health alone, for a process that takes no orders. Ends when it is dropped; from `draining` on
/// the process says that it stops.
pub async fn serve_health(
    listener: TcpListener,
    checks: Arc<Checks>,
    options: Options,
    draining: CancellationToken,
) {
    let quotas = Quotas::new(|resource| options.limit(resource));
    let (proxies, clock) = (Arc::new(TrustedProxies::new(options.trusted_proxies.clone())), Clock::new());
    let resource = Resource::HttpConnections;
    let admission = Admission::new(resource, quotas, Arc::clone(&proxies), Arc::clone(&clock));
    let port = Port::new(admission, resource, &options);
    let router = health::router(ProcessHealth::new(checks, draining));
    let edge = Edge::new(router, Front::new(&options), proxies);
    tokio::join!(serve_http(listener, &port, edge, &options), clock.run(), port.watch());
}

/// A port and its connections.
struct Port {
    admission: Arc<Admission>,
    tasks: TaskTracker,
    closing: CancellationToken,
    is_http: bool,
    write_timeout: Duration,
    /// Held by each connection that is being turned away.
    refusal: Arc<()>,
}

/// How many connections are turned away with an answer at a time.
const MOST_REFUSALS: usize = 64;

/// Takes connections of HTTP/1 until the port closes.
async fn serve_http(listener: TcpListener, port: &Port, edge: Arc<Edge>, options: &Options) {
    let mut http = http1::Builder::new();
    http.max_buf_size(HEADER_LIMIT).writev(true);
    let limits = Limits { idle: options.idle_timeout, head: options.header_timeout };
    port.accept(listener, |stream, connection| {
        let socket = Socket::new(stream, Arc::clone(&connection), limits);
        let served = Box::pin(http.serve_connection(TokioIo::new(socket), edge.door(&connection)));
        async move { run(served, &connection).await }
    })
    .await;
}

impl Port {
    fn new(admission: Admission, resource: Resource, options: &Options) -> Port {
        Port {
            admission: Arc::new(admission),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            is_http: resource == Resource::HttpConnections,
            write_timeout: options.write_timeout,
            refusal: Arc::default(),
        }
    }

    /// Takes connections until the port closes, and runs what serves them.
    async fn accept<C: Future<Output = ()> + Send + 'static>(
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
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(listener);
        self.tasks.close();
        self.admission.each(|connection| connection.ask(Asked::Finish));
    }

    /// Cuts off, for ever, connections whose peers take nothing of their answers, and silent ones when the process stops.
    async fn watch(&self) {
        let mut looks = interval((self.write_timeout / 4).clamp(SHORTEST_LOOK, GOODBYE));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let limit = match self.closing.is_cancelled() {
                true => self.write_timeout.min(LAST_WRITE),
                false => self.write_timeout,
            };
            self.admission.each(|connection| {
                if connection.is_stalled(limit) || connection.is_overdue(GOODBYE) {
                    connection.ask(Asked::Cut);
                }
            });
        }
    }

    /// Turns a connection away, without waiting for its request.
    fn refuse(&self, stream: TcpStream, from: IpAddr) {
        tracing::debug!(%from, "a peer has its share of connections");
        // A few at a time; where there are more, the end has to say enough.
        if self.is_http && Arc::strong_count(&self.refusal) <= MOST_REFUSALS {
            let refusal = Arc::clone(&self.refusal);
            self.tasks.spawn(async move {
                let _refusal = refusal;
                socket::answer_and_close(stream, &too_many()).await;
            });
        }
    }
}

/// What a client is told whose peer has its share of connections. Its request is not read: that would take a place.
fn too_many() -> Vec<u8> {
    let detail =
        "the address that this comes from has its share of connections; close some, or try again later";
    let id = request_id(&HeaderMap::new());
    let id = id.to_str().unwrap_or("");
    let body = to_json(&Problem::new(OVERLOADED, detail).members(id));
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\
         x-request-id: {id}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// Sets a socket up: answers are written whole, and a peer that is gone is noticed.
fn set_up(stream: &TcpStream, write_timeout: Duration) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_PROBES);
    // The system also gives up a peer that confirms and takes nothing: not before it has had its time.
    let unconfirmed = UNCONFIRMED.max(write_timeout + KEEPALIVE_EVERY);
    let kept =
        socket.set_tcp_keepalive(&keepalive).and_then(|()| socket.set_tcp_user_timeout(Some(unconfirmed)));
    if let Err(error) = kept {
        tracing::debug!(%error, "a connection is not watched by the system");
    }
}

/// Serves a connection to its end: its own, or the one that is asked of it.
async fn run<C>(mut served: Pin<Box<C>>, connection: &Connection)
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let mut asked = Asked::Nothing;
    let ended = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = served.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            asked = ready!(connection.poll_asked(cx, asked));
            match asked {
                Asked::Cut => return Poll::Ready(None),
                // Polled once more, so that it learns of it.
                _ => served.as_mut().graceful_shutdown(),
            }
        }
    });
    if let Some(Err(error)) = ended.await {
        tracing::debug!(%error, "a connection ended early");
    }
}
