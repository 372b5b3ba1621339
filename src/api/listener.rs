//! The accept loops. They are our own because the ready-made ones have no limit on connections and no time limit on
//! headers. Each protocol has its port: to tell them apart on one would mean to wait for a silent connection.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::docs::Docs;
use super::edge::Edge;
use super::grpc::Grpc;
use super::health::Told;
use super::http::{Shared, router};
use super::{Listeners, Options};
use crate::service::Service;

/// The most bytes of request headers: enough for an external id of 4 KiB in percent-encoding, and then some.
const HEADER_LIMIT: usize = 64 << 10;

/// Serves until `shutdown`: then readiness turns 503, the listeners are closed after the delay, and requests in
/// flight get their time to finish. Connections that are left then are dropped.
///
/// # Errors
/// None so far; a listener that fails to accept is tried again.
pub async fn serve(
    listeners: Listeners,
    service: Arc<Service>,
    options: Options,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let shared = Arc::new(Shared {
        service,
        options: options.clone(),
        draining: shutdown.clone(),
        readiness: Told::default(),
        docs: Docs::new(),
        streams: Arc::new(Semaphore::new(options.max_streams.min(Semaphore::MAX_PERMITS))),
    });
    let budget = Budget::new(options.memory_budget);
    let graceful = GracefulShutdown::new();
    let closing = CancellationToken::new();
    let notice = async {
        shutdown.cancelled().await;
        sleep(options.shutdown_delay).await;
        closing.cancel();
    };
    let http = serve_http(listeners.http, &shared, budget.clone(), &graceful, &closing);
    let grpc = async {
        let Some(listener) = listeners.grpc else { return };
        let grpc = Grpc::new(Arc::clone(&shared), budget, closing.clone());
        let accepted =
            accept(listener, options.max_connections, &closing, |stream| grpc.connection(stream, &graceful));
        tokio::join!(accepted, grpc.watch_health());
    };
    tokio::join!(notice, http, grpc);
    if timeout(options.shutdown_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still in flight when the time to finish was over");
    }
    Ok(())
}

/// Takes connections of HTTP/1 until `closing`.
async fn serve_http(
    listener: TcpListener,
    shared: &Arc<Shared>,
    budget: Budget,
    graceful: &GracefulShutdown,
    closing: &CancellationToken,
) {
    let options = &shared.options;
    let edge = Edge::new(router(Arc::clone(shared)), budget, options.body_limit);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(options.header_timeout).max_buf_size(HEADER_LIMIT);
    // Head and body of an answer fit into one small buffer: to copy them costs less than to gather them.
    http.writev(false);
    accept(listener, options.max_connections, closing, |stream| {
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), edge.clone()));
        async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        }
    })
    .await;
}

/// Takes connections until `closing`, no more than the limit at a time, and runs what serves them.
async fn accept<C: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    limit: usize,
    closing: &CancellationToken,
    serve: impl Fn(TcpStream) -> C,
) {
    let connections = Arc::new(Semaphore::new(limit));
    loop {
        let accept = async {
            // Closed never: the semaphore lives as long as the loop.
            let permit = Arc::clone(&connections).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            accepted = accept => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: existing connections will give some back.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Answers are small and written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let connection = serve(stream);
        tokio::spawn(async move {
            connection.await;
            drop(permit);
        });
    }
}
