//! Serves the two protocols, each on its port, until the process stops: then readiness turns 503, the listeners close
//! after a delay, and requests in flight get their time to finish. This file wires the parts of this room together; no
//! other part knows all of them.

use std::io;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::grpc::Grpc;
use super::health::ProcessHealth;
use super::http::middleware::Middleware;
use super::http::policy::Policy;
use super::http::problem_response::too_many_connections;
use super::http::router::{health_router, router};
use super::http::socket::{Limits, Socket};
use super::options::{Listeners, Options};
use super::server::admission::Admission;
use super::server::clock::Clock;
use super::server::connection::CloseRequest;
use super::server::forwarded::TrustedProxies;
use super::server::port::{Port, run};
use super::state::ApiState;
use crate::service::quota::{Quotas, Resource};
use crate::service::{Checks, Service};

/// The most bytes of a request's head: enough for an external id of 4 KiB in percent-encoding, and usual headers.
const HEADER_LIMIT: usize = 64 << 10;

/// Serves until `shutdown`: then readiness turns 503, the listeners close after the delay, and requests in flight get
/// their time to finish. Connections that are open after that are closed.
///
/// # Errors
/// Where the task that checks the connections ends early. A listener that fails to accept is tried again.
pub async fn serve(
    listeners: Listeners,
    service: Arc<Service>,
    options: Options,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let ports = Ports::new(&options);
    let (http, grpc) = (
        ports.open(Resource::HttpConnections, Some(too_many_connections)),
        ports.open(Resource::GrpcConnections, None),
    );
    let state = Arc::new(ApiState::new(service, options.clone(), shutdown.clone()));
    let closing = async {
        shutdown.cancelled().await;
        sleep(options.shutdown_delay).await;
        http.closing.cancel();
        grpc.closing.cancel();
    };
    let middleware = Middleware::new(router(Arc::clone(&state)), Policy::new(&options), ports.proxies());
    let served = serve_http(listeners.http, &http, middleware, &options);
    let calls = async {
        match listeners.grpc {
            Some(listener) => serve_grpc(listener, &grpc, state, ports.proxies()).await,
            // Without this the stop would wait for connections that cannot arrive.
            None => drop(grpc.tasks.close()),
        }
    };
    let ended = async {
        tokio::join!(closing, served, calls);
        let ended = async { tokio::join!(http.tasks.wait(), grpc.tasks.wait()) };
        timeout(options.shutdown_timeout, ended).await
    };
    // These run until all connections have ended.
    let watched = async { tokio::join!(ports.clock.run(), http.watch(), grpc.watch()) };
    let ended = tokio::select! {
        ended = ended => ended,
        _ = watched => return Err(io::Error::other("the task that checks the connections ended early")),
    };
    if ended.is_err() {
        tracing::warn!("shutdown timed out with requests in flight; their connections are closed");
        [&http, &grpc].into_iter().for_each(|port| port.close(CloseRequest::Immediate));
    }
    Ok(())
}

/// Serves only the paths about health, for a process that takes no orders, until it is dropped. Once `draining` is
/// cancelled, readiness is `stopping`.
pub async fn serve_health(
    listener: TcpListener,
    checks: Arc<Checks>,
    options: Options,
    draining: CancellationToken,
) {
    let ports = Ports::new(&options);
    let port = ports.open(Resource::HttpConnections, Some(too_many_connections));
    let router = health_router(ProcessHealth::new(checks, draining));
    let middleware = Middleware::new(router, Policy::new(&options), ports.proxies());
    tokio::join!(serve_http(listener, &port, middleware, &options), ports.clock.run(), port.watch());
}

/// The objects that the ports of a process share.
struct Ports<'o> {
    options: &'o Options,
    quotas: Arc<Quotas>,
    proxies: Arc<TrustedProxies>,
    clock: Arc<Clock>,
}

impl Ports<'_> {
    fn new(options: &Options) -> Ports<'_> {
        let quotas = Quotas::new(|resource| options.limit(resource));
        let proxies = Arc::new(TrustedProxies::new(options.trusted_proxies.clone()));
        Ports { options, quotas, proxies, clock: Clock::new() }
    }

    fn proxies(&self) -> Arc<TrustedProxies> {
        Arc::clone(&self.proxies)
    }

    /// A port whose connections count as that resource.
    fn open(&self, resource: Resource, rejection: Option<fn() -> Vec<u8>>) -> Port {
        let (quotas, clock) = (Arc::clone(&self.quotas), Arc::clone(&self.clock));
        let admission = Admission::new(resource, quotas, self.proxies(), clock);
        Port::new(admission, rejection, self.options.write_timeout)
    }
}

/// Serves connections of HTTP/1 until the port closes.
async fn serve_http(listener: TcpListener, port: &Port, middleware: Arc<Middleware>, options: &Options) {
    let mut http = http1::Builder::new();
    http.max_buf_size(HEADER_LIMIT).writev(true);
    let limits = Limits { idle: options.idle_timeout, head: options.header_timeout };
    port.accept(listener, |stream, connection| {
        let socket = Socket::new(stream, Arc::clone(&connection), limits);
        let service = middleware.service(&connection);
        let served = Box::pin(http.serve_connection(TokioIo::new(socket), service));
        async move { run(served, &connection).await }
    })
    .await;
}

/// Serves connections of gRPC until the port closes.
async fn serve_grpc(listener: TcpListener, port: &Port, state: Arc<ApiState>, proxies: Arc<TrustedProxies>) {
    let calls = Grpc::new(state, proxies, port.closing.clone());
    let accepted = port.accept(listener, |stream, connection| {
        let served = calls.connection(stream, Arc::clone(&connection));
        async move {
            if let Some(served) = served.await {
                run(Box::pin(served), &connection).await;
            }
        }
    });
    tokio::join!(accepted, calls.watch_health());
}
