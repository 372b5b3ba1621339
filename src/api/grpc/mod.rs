//! The gRPC front, over the same service as HTTP. `edge` is what every call passes, `orders` the methods and
//! `status` what a problem looks like here. The messages are an older service's and stay as they are: what they have
//! no field for travels as metadata.

mod deadline;

mod health;
mod message;
mod middleware;
mod orders;
mod preface;
mod reflection;
mod socket;
mod status;
mod until;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use self::health::Health;
use self::middleware::Edge;
use self::socket::Socket;
use crate::api::http::router::Shared;
use crate::api::server::connection::{Asked, Connection};
use crate::api::server::forwarded::TrustedProxies;

/// The messages and services as Rust.
#[expect(
    clippy::allow_attributes,
    clippy::doc_markdown,
    unreachable_pub,
    reason = "it is generated from the files in api/"
)]
mod proto {
    include!(concat!(env!("OUT_DIR"), "/server/mod.rs"));
}

/// What clients are told of the files in `api/`.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orders.bin"));

/// How many calls of one connection may be under way at once; a client waits with more.
const CALLS_PER_CONNECTION: u32 = 128;

/// After how long a silent peer is asked whether it is there, and how long it has to say so: a link that was cut frees
/// its calls in less than a minute.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How many bytes of a call's answer the library takes from us before the peer has room for them.
const SEND_BUFFER: usize = 64 << 10;

/// How many bytes of a call, and of all calls of a connection, the library takes before we have read them.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// The most bytes of a call's metadata.
const METADATA_LIMIT: u32 = 16 << 10;

/// What serves connections.
pub(super) struct Grpc {
    http: http2::Builder<TokioExecutor>,
    edge: Edge,
    health: Health,
    shared: Arc<Shared>,
}

impl Grpc {
    /// Serves the calls of connections until `closing`, when streams without an end get theirs.
    pub(super) fn new(shared: Arc<Shared>, proxies: Arc<TrustedProxies>, closing: CancellationToken) -> Grpc {
        let health = Health::new(Arc::clone(&shared), closing.clone());
        let routes = Routes::new(orders::server(&shared)).add_service(health.server());
        let routes = match shared.options.reflection {
            true => reflection::add_to(routes),
            false => routes,
        };
        let edge = Edge::new(routes.prepare(), proxies, &shared.options, closing);
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(CALLS_PER_CONNECTION)
            .max_header_list_size(METADATA_LIMIT);
        Grpc { http, edge, health, shared }
    }

    /// Keeps those up to date who watch the health, until `closing`.
    pub(super) async fn watch_health(&self) {
        self.health.follow().await;
    }

    /// What serves a connection, once it has begun as HTTP/2 does; `None` where it does not, or has to end before.
    pub(super) fn connection(
        &self,
        stream: TcpStream,
        connection: Arc<Connection>,
    ) -> impl Future<Output = Option<impl GracefulConnection<Error = hyper::Error>>> + Send + 'static {
        let (http, door) = (self.http.clone(), self.edge.door(&connection));
        let limit = self.shared.options.header_timeout;
        async move {
            let stream = tokio::select! {
                stream = preface::read(stream, limit) => stream,
                _ = poll_fn(|cx| connection.poll_asked(cx, Asked::Nothing)) => None,
            };
            let socket = Socket::new(stream?, connection);
            Some(http.serve_connection(TokioIo::new(socket), door))
        }
    }
}
