//! The wiring: settings become a store, a bus, a cache and a processor, and these become the roles `api` and `worker`.
//! The backends are chosen in `backends`; here the roles start, fail and stop in order.

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

/// How many connections the health of a worker may have open at once: probes and an operator.
const HEALTH_CONNECTIONS: usize = 64;

/// Runs api and worker in this process until `stop`, then shuts down in order: the api finishes its requests,
/// the worker what they caused, the store closes.
///
/// # Errors
/// The failure of a role or of a part of the backends; what is left is shut down in order then, too.
pub async fn up(
    parts: Backends,
    listeners: impl Into<Listeners>,
    settings: &Settings,
    stop: CancellationToken,
) -> Result<()> {
    let worker_stop = CancellationToken::new();
    let backends = spawn("backends", watch(parts.clone()), &stop, stop.clone());
    let worker = worker_of(parts.clone(), settings).trying_again_until(stop.clone());
    let worker = spawn("worker", run(worker, worker_stop.clone()), &worker_stop, stop.clone());
    let api = spawn("api", api(parts.clone(), listeners, settings, stop.clone()), &stop, stop.clone());
    let api = api.await;
    worker_stop.cancel();
    let worker = finished(worker, settings).await;
    let backends = failure(backends).await;
    parts.close().await;
    api??;
    worker?;
    backends
}

/// Runs the api by itself until `stop`.
///
/// # Errors
/// The failure of the role.
pub async fn api_alone(
    parts: Backends,
    listeners: impl Into<Listeners>,
    settings: &Settings,
    stop: CancellationToken,
) -> Result<()> {
    let backends = spawn("backends", watch(parts.clone()), &stop, stop.clone());
    let api = spawn("api", api(parts.clone(), listeners, settings, stop.clone()), &stop, stop.clone());
    let api = api.await;
    let backends = failure(backends).await;
    parts.close().await;
    api??;
    backends
}

/// Runs a worker by itself until `stop`, and says on `health`, if there is such a listener, how it is.
///
/// # Errors
/// The failure of the role.
pub async fn worker_alone(
    parts: Backends,
    health: Option<TcpListener>,
    settings: &Settings,
    stop: CancellationToken,
) -> Result<()> {
    let backends = spawn("backends", watch(parts.clone()), &stop, stop.clone());
    let worker = spawn("worker", worker(parts.clone(), settings, stop.clone()), &stop, stop.clone());
    let health = health.map(|listener| {
        let Backends { store, bus, cache, .. } = parts.clone();
        let options = api::Options { max_connections: HEALTH_CONNECTIONS, ..front(settings) };
        let checks = Arc::new(Checks::new(store, bus, cache));
        let served =
            api::serve_health(listener, checks, options, stop.clone()).map(|()| bail!("it ended by itself"));
        spawn("health of the worker", served, &stop, stop.clone())
    });
    stop.cancelled().await;
    let worker = finished(worker, settings).await;
    let backends = failure(backends).await;
    parts.close().await;
    if let Some(health) = health {
        failure(health).await?;
    }
    worker?;
    backends
}

/// The api role: takes orders until `stop`, then finishes what was taken.
///
/// # Errors
/// What the listeners say.
pub fn api(
    parts: Backends,
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
        let (service, background) = Service::new(parts.store, parts.bus, parts.cache, &options);
        let (drained, deadline) = (CancellationToken::new(), front.shutdown_timeout);
        let mut background = tokio::spawn(background.run(drained.clone()));
        let stop = stop.child_token();
        let mut serving = pin!(api::serve(listeners, service, front, stop.clone()));
        let served = tokio::select! {
            served = &mut serving => served,
            ended = &mut background => {
                // Requests under way are answered as far as they can be.
                stop.cancel();
                serving.await?;
                bail!("the service's own tasks ended while it was serving: {ended:?}");
            }
        };
        drained.cancel();
        if timeout(deadline, background).await.is_err() {
            tracing::warn!("events were still under way when the time to finish was over; they come again");
        }
        Ok(served?)
    }
}

/// What the fronts are told of the settings.
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
/// Where the bus cannot serve it.
pub fn worker(
    parts: Backends,
    settings: &Settings,
    stop: CancellationToken,
) -> impl Future<Output = Result<()>> + Send + use<> {
    run(worker_of(parts, settings), stop)
}

async fn run(worker: Worker, stop: CancellationToken) -> Result<()> {
    Ok(worker.run(stop).await?)
}

fn worker_of(parts: Backends, settings: &Settings) -> Worker {
    let Backends { store, bus, cache, processor } = parts;
    let (timeout, retry_for) = (settings.processor_timeout, settings.processor_retry_for);
    let options = worker::Options { timeout, retry_for };
    Worker::new(store, bus, cache, processor, options)
}
