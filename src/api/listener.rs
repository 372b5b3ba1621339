//! The accept loop. It is our own because the ready-made one has no limit on connections and no time limit on
//! headers; and HTTP/1 only, because the sniffing of HTTP/2 would wait for ever on a silent connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Options;
use super::docs::Docs;
use super::edge::Edge;
use super::health::Told;
use super::http::{Shared, router};
use crate::service::Service;

/// The most bytes of request headers: enough for an external id of 4 KiB in percent-encoding, and then some.
const HEADER_LIMIT: usize = 64 << 10;

/// Serves until `shutdown`: then readiness turns 503, the listener is closed after the delay, and requests in
/// flight get their time to finish. Connections that are left then are dropped.
///
/// # Errors
/// None so far; a listener that fails to accept is tried again.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    options: Options,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let connections = Arc::new(Semaphore::new(options.max_connections));
    let shared = Arc::new(Shared {
        service,
        options: options.clone(),
        draining: shutdown.clone(),
        readiness: Told::default(),
        docs: Docs::new(),
    });
    let edge = Edge::new(router(shared), options.memory_budget, options.body_limit);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(options.header_timeout).max_buf_size(HEADER_LIMIT);
    // Head and body of an answer fit into one small buffer: to copy them costs less than to gather them.
    http.writev(false);
    let graceful = GracefulShutdown::new();
    let closing = async {
        shutdown.cancelled().await;
        sleep(options.shutdown_delay).await;
    };
    tokio::pin!(closing);
    loop {
        let accept = async {
            // Closed never: the semaphore lives as long as the loop.
            let permit = Arc::clone(&connections).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = &mut closing => break,
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
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), edge.clone()));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if timeout(options.shutdown_timeout, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still in flight when the time to finish was over");
    }
    Ok(())
}
