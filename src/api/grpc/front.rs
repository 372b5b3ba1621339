//! The gRPC server: HTTP/2 with its limits, the middleware, and the services behind it. It serves connections that the
//! port has accepted, and ends endless streams when the process stops. The limits on calls, windows, send buffer and
//! metadata bound what the library holds for one connection before the middleware counts any memory. A silent peer is
//! pinged, so that a broken link frees its calls in less than a minute. It must never accept a connection itself: only
//! the port counts connections.

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

/// The most calls of one connection in flight; the client delays more.
const CALLS_PER_CONNECTION: u32 = 128;

/// The pause before a silent peer is pinged, and the timeout of the ping: a broken link frees its calls in less than a
/// minute.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The bytes of a call's response that the library buffers before the peer has room for them.
const SEND_BUFFER: usize = 64 << 10;

/// The bytes of a call, and of all calls of a connection, that the library buffers before we read them.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

/// The most bytes of a call's metadata.
const METADATA_LIMIT: u32 = 16 << 10;

/// The gRPC server. It serves connections.
pub(in crate::api) struct Grpc {
    http: http2::Builder<TokioExecutor>,
    middleware: Middleware,
    health: Health,
    state: Arc<ApiState>,
}

impl Grpc {
    /// A server that ends endless streams once `closing` is cancelled.
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

    /// Keeps health watchers up to date until `closing` is cancelled.
    pub(in crate::api) async fn watch_health(&self) {
        self.health.follow().await;
    }

    /// The server of one connection, once its preface has arrived; `None` where it is not HTTP/2, or must close before.
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
