//! The gRPC front, over the same service as HTTP. `edge` is what every call passes, `orders` the methods and
//! `status` what a problem looks like here. The messages are an older service's and stay as they are: what they have
//! no field for travels as metadata.

mod deadline;
mod edge;
mod health;
mod message;
mod orders;
mod preface;
mod reflection;
mod status;
mod until;

use std::future::Future;
use std::sync::Arc;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use self::edge::Edge;
use self::health::Health;
use super::budget::Budget;
use super::http::Shared;

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
const CALLS_PER_CONNECTION: u32 = 1_000;

/// The most bytes of a call's metadata.
const METADATA_LIMIT: u32 = 16 << 10;

/// What serves connections.
pub(super) struct Grpc {
    http: http2::Builder<TokioExecutor>,
    edge: Edge,
    health: Health,
    shared: Arc<Shared>,
    closing: CancellationToken,
}

impl Grpc {
    /// Serves the calls of connections until `closing`, when streams without an end get theirs.
    pub(super) fn new(shared: Arc<Shared>, budget: Budget, closing: CancellationToken) -> Grpc {
        let health = Health::new(Arc::clone(&shared), closing.clone());
        let routes = Routes::new(orders::server(&shared)).add_service(health.server());
        let edge = Edge::new(reflection::add_to(routes).prepare(), budget, &shared.options, closing.clone());
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            // A peer that is silent for so long is asked whether it is there, and has as long again to say so.
            .keep_alive_interval(shared.options.header_timeout)
            .keep_alive_timeout(shared.options.header_timeout)
            .max_concurrent_streams(CALLS_PER_CONNECTION)
            .max_header_list_size(METADATA_LIMIT);
        Grpc { http, edge, health, shared, closing }
    }

    /// Keeps those up to date who watch the health, until `closing`.
    pub(super) async fn watch_health(&self) {
        self.health.follow().await;
    }

    /// Serves one connection to its end.
    pub(super) fn connection(
        &self,
        stream: TcpStream,
        graceful: &GracefulShutdown,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (http, edge, watcher) = (self.http.clone(), self.edge.clone(), graceful.watcher());
        let (limit, closing) = (self.shared.options.header_timeout, self.closing.clone());
        async move {
            // The rest of a connection's life is the protocol's; before that, nobody else counts the time.
            let stream = tokio::select! {
                stream = preface::read(stream, limit) => stream,
                () = closing.cancelled() => None,
            };
            let Some(stream) = stream else { return };
            if let Err(error) = watcher.watch(http.serve_connection(stream, edge)).await {
                tracing::debug!(%error, "a gRPC connection ended early");
            }
        }
    }
}
