//! The wiring: opens the backends that the settings choose (see `backends`), and runs the roles `api` and `worker` on
//! them. A role that fails stops the whole process in order, and the process then ends with that failure. Nothing here
//! knows a protocol or an order.

mod backends;
mod copies;
mod dead_letters;
mod migrate;
mod tasks;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Result, bail};
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Listeners};
use crate::config::Settings;
use crate::service::{self, Checks, Service};
use crate::worker::{self, Worker};

pub use backends::{Backends, ReadOnlyBackends, open_for_reading, require_shared_backends};
pub use copies::{back_up, restore};
pub use dead_letters::DeadLetterTable;
pub use migrate::{migrate, migrate_and_finish, migration_plan};
use tasks::{failure, finished, spawn, watch};

/// The most connections to the health port of a worker: probes and an operator.
const HEALTH_CONNECTIONS: usize = 64;

/// Runs api and worker in this process until `stop`, then shuts down in order: the api finishes its requests, the
/// worker their events, and the store closes.
///
/// # Errors
/// The failure of a role or of a backend; the rest is shut down in order then, too.
pub async fn up(
    backends: Backends,
    listeners: impl Into<Listeners>,
    settings: &Settings,
    stop: CancellationToken,
) -> Result<()> {
    let worker_stop = CancellationToken::new();
    let watcher = spawn("backends", watch(backends.clone()), &stop, stop.clone());
    let worker = worker_of(backends.clone(), settings).trying_again_until(stop.clone());
    let worker = spawn("worker", run(worker, worker_stop.clone()), &worker_stop, stop.clone());
    let api = spawn("api", api(backends.clone(), listeners, settings, stop.clone()), &stop, stop.clone());
    let api = api.await;
    worker_stop.cancel();
    let worker = finished(worker, settings).await;
    let watcher = failure(watcher).await;
    backends.close().await;
    api??;
    worker?;
    watcher
}

/// Runs the api by itself until `stop`.
///
/// # Errors
/// The failure of the role.
pub async fn api_alone(
    backends: Backends,
    listeners: impl Into<Listeners>,
    settings: &Settings,
    stop: CancellationToken,
) -> Result<()> {
    let watcher = spawn("backends", watch(backends.clone()), &stop, stop.clone());
    let api = spawn("api", api(backends.clone(), listeners, settings, stop.clone()), &stop, stop.clone());
    let api = api.await;
    let watcher = failure(watcher).await;
    backends.close().await;
    api??;
    watcher
}

/// Runs a worker by itself until `stop`, and serves its health on the listener `health`, if there is one.
///
/// # Errors
/// The failure of the role.
pub async fn worker_alone(
    backends: Backends,
    health: Option<TcpListener>,
    settings: &Settings,
    stop: CancellationToken,
) -> Result<()> {
    let watcher = spawn("backends", watch(backends.clone()), &stop, stop.clone());
    let worker = spawn("worker", worker(backends.clone(), settings, stop.clone()), &stop, stop.clone());
    let health = health.map(|listener| {
        let Backends { store, bus, cache, .. } = backends.clone();
        let options = api::Options { max_connections: HEALTH_CONNECTIONS, ..front(settings) };
        let checks = Arc::new(Checks::new(store, bus, cache));
        let served =
            api::serve_health(listener, checks, options, stop.clone()).map(|()| bail!("it ended early"));
        spawn("health of the worker", served, &stop, stop.clone())
    });
    stop.cancelled().await;
    let worker = finished(worker, settings).await;
    let watcher = failure(watcher).await;
    backends.close().await;
    if let Some(health) = health {
        failure(health).await?;
    }
    worker?;
    watcher
}

/// The api role: serves requests until `stop`, then finishes those in flight and their events.
///
/// # Errors
/// The failure of a listener.
pub fn api(
    backends: Backends,
    listeners: impl Into<Listeners>,
    settings: &Settings,
    stop: CancellationToken,
) -> impl Future<Output = Result<()>> + Send + 'static {
    let options = service::Options {
        ack_wait: settings.ack_wait,
        ack_wait_timeout: settings.ack_wait_timeout,
        history: settings.history.then_some(settings.history_retention),
        republish_after: (!settings.republish_after.is_zero()).then_some(settings.republish_after),
    };
    let (front, listeners) = (front(settings), listeners.into());
    async move {
        let (service, background) = Service::new(backends.store, backends.bus, backends.cache, &options);
        let (drained, deadline) = (CancellationToken::new(), front.shutdown_timeout);
        let mut background = tokio::spawn(background.run(drained.clone()));
        let stop = stop.child_token();
        let mut serving = pin!(api::serve(listeners, service, front, stop.clone()));
        let served = tokio::select! {
            served = &mut serving => served,
            ended = &mut background => {
                // Requests in flight are still answered, as far as possible.
                stop.cancel();
                serving.await?;
                bail!("a background task of the service ended while requests were served: {ended:?}");
            }
        };
        drained.cancel();
        if timeout(deadline, background).await.is_err() {
            tracing::warn!("shutdown timed out with events in flight; the next start publishes them again");
        }
        Ok(served?)
    }
}

/// The options of the api from the settings.
fn front(settings: &Settings) -> api::Options {
    api::Options {
        body_limit: settings.http_body_limit,
        memory_budget: settings.http_memory_budget,
        memory_share: settings.peer_memory_share.get(),
        max_connections: settings.max_connections.get() as usize,
        connection_share: settings.peer_connection_share.get(),
        max_calls: settings.max_grpc_calls.get() as usize,
        call_share: settings.peer_grpc_call_share.get(),
        max_streams: settings.max_streams.get() as usize,
        stream_share: settings.peer_stream_share.get(),
        trusted_proxies: settings.trusted_proxies.clone(),
        reflection: settings.grpc_reflection,
        header_timeout: settings.http_header_timeout,
        idle_timeout: settings.http_idle_timeout,
        body_timeout: settings.http_body_timeout,
        body_idle_timeout: settings.http_body_idle_timeout,
        write_timeout: settings.http_write_timeout,
        shutdown_delay: settings.shutdown_delay,
        shutdown_timeout: settings.shutdown_timeout,
        checks_host: settings.bind.to_canonical().is_loopback(),
        allowed_hosts: settings.allowed_hosts.clone(),
        cors_allowed_origins: settings.cors_allowed_origins.clone(),
    }
}

/// The worker role: processes orders until `stop`.
///
/// # Errors
/// Where the bus does not accept its subscription.
pub fn worker(
    backends: Backends,
    settings: &Settings,
    stop: CancellationToken,
) -> impl Future<Output = Result<()>> + Send + use<> {
    run(worker_of(backends, settings), stop)
}

async fn run(worker: Worker, stop: CancellationToken) -> Result<()> {
    Ok(worker.run(stop).await?)
}

fn worker_of(backends: Backends, settings: &Settings) -> Worker {
    let Backends { store, bus, cache, processor } = backends;
    let (timeout, retry_for) = (settings.processor_timeout, settings.processor_retry_for);
    let options = worker::Options { timeout, retry_for };
    Worker::new(store, bus, cache, processor, options)
}
