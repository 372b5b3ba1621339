//! The gRPC front: HTTP/2 with its limits, the middleware, and the services behind it. It serves connections that the
//! port has accepted, and ends streams without an end when the process stops.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::health::Health;
use super::middleware::Middleware;
use super::socket::Socket;
use super::{orders, preface, reflection};
use crate::api::server::connection::{CloseRequest, Connection};
use crate::api::server::forwarded::TrustedProxies;
use crate::api::state::ApiState;

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
pub(in crate::api) struct Grpc {
    http: http2::Builder<TokioExecutor>,
    middleware: Middleware,
    health: Health,
    state: Arc<ApiState>,
}

impl Grpc {
    /// Serves the calls of connections until `closing`, when streams without an end get theirs.
    pub(in crate::api) fn new(
        state: Arc<ApiState>,
        proxies: Arc<TrustedProxies>,
        closing: CancellationToken,
    ) -> Grpc {
        let health = Health::new(&state, closing.clone());
        let routes = Routes::new(orders::server(&state)).add_service(health.server());
        let routes = match state.options.reflection {
            true => reflection::add_to(routes),
            false => routes,
        };
        let middleware = Middleware::new(routes.prepare(), proxies, &state.options, closing);
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(CALLS_PER_CONNECTION)
            .max_header_list_size(METADATA_LIMIT);
        Grpc { http, middleware, health, state }
    }

    /// Keeps those up to date who watch the health, until `closing`.
    pub(in crate::api) async fn watch_health(&self) {
        self.health.follow().await;
    }

    /// What serves a connection, once it has begun as HTTP/2 does; `None` where it does not, or has to end before.
    pub(in crate::api) fn connection(
        &self,
        stream: TcpStream,
        connection: Arc<Connection>,
    ) -> impl Future<Output = Option<impl GracefulConnection<Error = hyper::Error>>> + Send + 'static {
        let (http, service) = (self.http.clone(), self.middleware.service(&connection));
        let limit = self.state.options.header_timeout;
        async move {
            let stream = tokio::select! {
                stream = preface::read(stream, limit) => stream,
                _ = poll_fn(|cx| connection.poll_close(cx, CloseRequest::None)) => None,
            };
            let socket = Socket::new(stream?, connection);
            Some(http.serve_connection(TokioIo::new(socket), service))
        }
    }
}
