//! The wiring: settings become a store, a bus, a cache and a processor, and these become the roles `api` and `worker`.
//! A backend is chosen here and nowhere else, and here the roles start, fail and stop in order.

use std::future::Future;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::bus::Bus;
use crate::bus::local::LocalBus;
use crate::cache::{Cache, NoCache, RedisCache};
use crate::config::Settings;
use crate::service::worker::Worker;
use crate::service::{self, AmountProcessor, Processor, Service};
use crate::store::Store;
use crate::store::sqlite::SqliteStore;

/// How many bytes of events the in-process bus holds: the same again as the relay, so that it never waits long.
const LOCAL_BUS_CAPACITY: usize = 32 << 20;

/// What the roles work with. Embedders put their own [`Processor`] in.
#[derive(Clone)]
pub struct Parts {
    /// Where orders are kept.
    pub store: Arc<dyn Store>,
    /// What carries events and ACKs.
    pub bus: Arc<dyn Bus>,
    /// What answers reads in the store's place.
    pub cache: Arc<dyn Cache>,
    /// What the worker does to an order.
    pub processor: Arc<dyn Processor>,
}

impl Parts {
    /// Opens the backends that the settings choose.
    ///
    /// # Errors
    /// What the backends say when they cannot be opened, and settings that this version has no backend for.
    pub async fn open(settings: &Settings) -> Result<Parts> {
        refuse_unknown_backends(settings)?;
        let folder = settings.data_dir.clone();
        let store = tokio::task::spawn_blocking(move || SqliteStore::open(&folder)).await??;
        let (bus, cache) = (local_bus(settings)?, cache(settings)?);
        Ok(Parts { store: Arc::new(store), bus, cache, processor: Arc::new(AmountProcessor) })
    }
}

/// The in-process bus; its dead letters lie beside the store.
fn local_bus(settings: &Settings) -> Result<Arc<LocalBus>> {
    let topic = &settings.orders_events_topic;
    let dead_letters = settings.data_dir.join(format!("{topic}.dlq.jsonl"));
    LocalBus::open(&dead_letters, topic, LOCAL_BUS_CAPACITY)
        .with_context(|| format!("the dead-letter file {} cannot be read", dead_letters.display()))
}

/// The cache. It is reached later, in the background.
fn cache(settings: &Settings) -> Result<Arc<dyn Cache>> {
    let Some(address) = &settings.redis_addr else { return Ok(Arc::new(NoCache)) };
    let cache = RedisCache::open(address.expose_secret(), settings.cache_ttl, settings.cache_timeout);
    Ok(Arc::new(cache.context("REDIS_ADDR cannot be read")?))
}

/// What the checker looks at.
pub struct Reading {
    /// The orders. Writing to it fails.
    pub store: Arc<dyn Store>,
    /// How many records lay in the dead-letter topic.
    pub dead_letters: u64,
}

/// Opens the backends that the settings choose for reading only, beside a process that may be working there.
///
/// # Errors
/// As [`Parts::open`]; also where there is no store yet.
pub async fn open_for_reading(settings: &Settings) -> Result<Reading> {
    refuse_unknown_backends(settings)?;
    let folder = settings.data_dir.clone();
    let store = tokio::task::spawn_blocking(move || SqliteStore::open_read_only(&folder)).await??;
    let dead_letters = local_bus(settings)?.dead_letters().await?;
    Ok(Reading { store: Arc::new(store), dead_letters })
}

fn refuse_unknown_backends(settings: &Settings) -> Result<()> {
    let set = [
        ("POSTGRES_DSN", settings.postgres_dsn.is_some()),
        ("KAFKA_BROKERS", !settings.kafka_brokers.is_empty()),
    ];
    match set.iter().find(|(_, is_set)| *is_set) {
        Some((name, _)) => bail!(
            "{name} is set, but this version has only the embedded store and the in-process bus; \
             unset it and run `orderstream up`"
        ),
        None => Ok(()),
    }
}

/// Refuses to run a single role where the bus does not leave the process.
///
/// # Errors
/// Names the setting that is missing.
pub fn require_shared_bus(settings: &Settings, role: &str) -> Result<()> {
    refuse_unknown_backends(settings)?;
    bail!(
        "KAFKA_BROKERS is not set: to run `{role}` alone takes a bus that leaves the process, and this version \
         has only the in-process one; run `orderstream up`"
    )
}

/// Runs api and worker in this process until `stop`, then shuts down in order: the api finishes its requests,
/// the worker what they caused, the store closes.
///
/// # Errors
/// The failure of a role; the other one is shut down in order then, too.
pub async fn up(
    parts: Parts,
    listener: TcpListener,
    settings: &Settings,
    stop: CancellationToken,
) -> Result<()> {
    let worker_stop = CancellationToken::new();
    let store = Arc::clone(&parts.store);
    let mut worker = spawn("worker", worker(parts.clone(), worker_stop.clone()), stop.clone());
    let api = spawn("api", self::api(parts, listener, settings, stop.clone()), stop);
    let api = api.await;
    worker_stop.cancel();
    let worker = timeout(settings.shutdown_timeout, &mut worker).await.unwrap_or_else(|_| {
        tracing::warn!("the worker was still busy when the time to finish was over; its orders come again");
        worker.abort();
        Ok(Ok(()))
    });
    store.close().await;
    api??;
    worker??;
    Ok(())
}

/// Runs a role as a task that takes the whole process down with it, in order, when it ends.
fn spawn<R: Future<Output = Result<()>> + Send + 'static>(
    name: &'static str,
    role: R,
    stop: CancellationToken,
) -> tokio::task::JoinHandle<Result<()>> {
    tokio::spawn(async move {
        // Also when the role panics.
        let _stop = stop.drop_guard();
        let ended = role.await.with_context(|| format!("the {name} failed"));
        if let Err(error) = &ended {
            tracing::error!("{error:#}");
        }
        ended
    })
}

/// The api role: takes orders until `stop`, then finishes what was taken.
///
/// # Errors
/// What the listener says.
pub fn api(
    parts: Parts,
    listener: TcpListener,
    settings: &Settings,
    stop: CancellationToken,
) -> impl Future<Output = Result<()>> + Send + 'static {
    let options = service::Options { ack_wait: settings.ack_wait.then_some(settings.ack_wait_timeout) };
    let front = api::Options {
        body_limit: settings.http_body_limit,
        memory_budget: settings.http_memory_budget,
        max_connections: settings.max_connections.get() as usize,
        header_timeout: settings.http_header_timeout,
        body_timeout: settings.http_body_timeout,
        shutdown_delay: settings.shutdown_delay,
        shutdown_timeout: settings.shutdown_timeout,
    };
    async move {
        let (service, background) = Service::new(parts.store, parts.bus, parts.cache, &options);
        let (drained, deadline) = (CancellationToken::new(), front.shutdown_timeout);
        let mut background = tokio::spawn(background.run(drained.clone()));
        let served = tokio::select! {
            served = api::serve(listener, service, front, stop) => served,
            ended = &mut background => bail!("the service's own tasks ended while it was serving: {ended:?}"),
        };
        drained.cancel();
        if timeout(deadline, background).await.is_err() {
            tracing::warn!("events were still under way when the time to finish was over; they come again");
        }
        Ok(served?)
    }
}

/// The worker role: processes orders until `stop`.
///
/// # Errors
/// Where the bus cannot serve it.
pub async fn worker(parts: Parts, stop: CancellationToken) -> Result<()> {
    Ok(Worker::new(parts.store, parts.bus, parts.cache, parts.processor).run(stop).await?)
}
