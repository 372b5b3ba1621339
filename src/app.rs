//! The wiring: settings become a store, a bus, a cache and a processor, and these become the roles `api` and `worker`.
//! A backend is chosen here and nowhere else, and here the roles start, fail and stop in order.

mod copies;
mod dead_letters;
mod tasks;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Listeners};
use crate::bus::Bus;
use crate::bus::kafka::{self, KafkaBus};
use crate::bus::local::LocalBus;
use crate::cache::{Cache, NoCache, RedisCache};
use crate::config::Settings;
use crate::service::{self, Checks, Service};
use crate::store::Store;
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::SqliteStore;
use crate::worker::{self, AmountProcessor, Processor, Worker};

use self::dead_letters::dead_letter_file;

pub use copies::{back_up, restore};
pub use dead_letters::DeadLetterTable;
use tasks::{failure, finished, spawn, watch};

/// How many bytes of events the in-process bus holds: the same again as the relay, so that it never waits long.
const LOCAL_BUS_CAPACITY: usize = 32 << 20;

/// How many connections the health of a worker may have open at once: probes and an operator.
const HEALTH_CONNECTIONS: usize = 64;

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
    /// Opens the backends that the settings choose, for a process of that role: `api`, `worker` or `up`.
    ///
    /// # Errors
    /// What the backends say when they cannot be opened.
    pub async fn open(settings: &Settings, role: &str) -> Result<Parts> {
        let (store, bus): (Arc<dyn Store>, _) = match &settings.postgres_dsn {
            Some(dsn) => {
                let store = Arc::new(postgres(dsn, settings)?);
                store.refuse_unusable().await?;
                let bus = bus(settings, role, true, Some(&store))?;
                (store, bus)
            }
            None => {
                let (folder, history) = (settings.data_dir.clone(), settings.history);
                let open = move || SqliteStore::open_with(&folder, history);
                (Arc::new(tokio::task::spawn_blocking(open).await??), bus(settings, role, true, None)?)
            }
        };
        let cache = cache(settings)?;
        Ok(Parts { store, bus, cache, processor: Arc::new(AmountProcessor::default()) })
    }

    /// Lets go of the backends, the bus first: what it still sends is in the store.
    async fn close(&self) {
        self.bus.close().await;
        self.store.close().await;
    }
}

/// The store in Postgres. A server that is away is no error yet.
fn postgres(dsn: &SecretString, settings: &Settings) -> Result<PostgresStore> {
    Ok(PostgresStore::open(&postgres::Options {
        dsn: dsn.expose_secret().to_owned(),
        write_connections: settings.postgres_write_connections.get() as usize,
        read_connections: settings.postgres_read_connections.get() as usize,
        connect_timeout: settings.postgres_connect_timeout,
        statement_timeout: settings.postgres_statement_timeout,
        history: settings.history,
        dsn_file: settings.secret_files.get("postgres_dsn").cloned(),
        read_from: settings.postgres_read_from,
    })?)
}

/// The bus. Brokers that are away are no error yet; topics that do not exist are made on request. Without a broker, the
/// dead letters of processes that may share a database lie there, and those of a process alone in its data directory.
fn bus(
    settings: &Settings,
    role: &str,
    make_topics: bool,
    shared: Option<&Arc<PostgresStore>>,
) -> Result<Arc<dyn Bus>> {
    if !settings.kafka_brokers.is_empty() {
        return Ok(KafkaBus::open(kafka::Options::of(settings, role, make_topics))?);
    }
    let topic = &settings.orders_events_topic;
    if let Some(store) = shared {
        let table = DeadLetterTable::of(Arc::clone(store));
        return Ok(LocalBus::with_dead_letters(Arc::new(table), topic, LOCAL_BUS_CAPACITY));
    }
    let file = dead_letter_file(settings);
    let bus = LocalBus::open(&file, topic, LOCAL_BUS_CAPACITY);
    Ok(bus.with_context(|| format!("the dead-letter file {} cannot be read", file.display()))?)
}

/// Brings the store's schema to this program's version, and says so. An embedded store that lacks its WAL is refused
/// unless the operator accepts that.
///
/// # Errors
/// What the store says; what was done before the step that failed stays done.
pub async fn migrate(settings: &Settings, accept_missing_wal: bool) -> Result<String> {
    migrated(settings, accept_missing_wal, false).await
}

/// Brings a Postgres schema to this program's version, and drops what only the release before uses: none of its
/// processes may be running.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_and_finish(settings: &Settings) -> Result<String> {
    migrated(settings, false, true).await
}

async fn migrated(settings: &Settings, accept_missing_wal: bool, finish: bool) -> Result<String> {
    let (place, applied, version, is_unfinished) = match &settings.postgres_dsn {
        Some(dsn) => {
            let store = postgres(dsn, settings)?;
            let migrated = if finish { store.migrate_and_finish().await? } else { store.migrate().await? };
            ("Postgres".to_owned(), migrated.applied, migrated.version, migrated.is_unfinished)
        }
        None => {
            let (applied, version) = SqliteStore::migrate(&settings.data_dir, accept_missing_wal)?;
            (settings.data_dir.display().to_string(), applied, version, false)
        }
    };
    let s = if applied == 1 { "" } else { "s" };
    let rest = match is_unfinished {
        true => {
            "; when no process of the release before runs, `orderstream migrate --finish` drops what it used"
        }
        false => "",
    };
    Ok(format!("{place}: schema version {version}, {applied} migration{s} applied{rest}"))
}

/// What [`migrate`] would do, as text.
///
/// # Errors
/// What the store says.
pub async fn migration_plan(settings: &Settings, finish: bool) -> Result<String> {
    match &settings.postgres_dsn {
        Some(dsn) => Ok(postgres(dsn, settings)?.migration_plan(finish).await?.join("\n")),
        None => {
            bail!("--plan tells the steps in Postgres; the embedded store is migrated while no one uses it")
        }
    }
}

/// The cache. It is reached later, in the background.
fn cache(settings: &Settings) -> Result<Arc<dyn Cache>> {
    let Some(address) = &settings.redis_addr else { return Ok(Arc::new(NoCache)) };
    let (prefix, ttl) = (&settings.cache_key_prefix, settings.cache_ttl);
    let cache = RedisCache::open_with(address.expose_secret(), prefix, ttl, settings.cache_timeout);
    Ok(Arc::new(cache.context("REDIS_ADDR cannot be read")?))
}

/// What the checker looks at.
pub struct Reading {
    /// The orders.
    pub store: Arc<dyn Store>,
    /// The bus. Nobody works on it.
    pub bus: Arc<dyn Bus>,
}

/// Opens the backends that the settings choose to look at them, beside processes that may be working there.
///
/// # Errors
/// As [`Parts::open`]; also where there is no store yet.
pub async fn open_for_reading(settings: &Settings) -> Result<Reading> {
    let (store, bus): (Arc<dyn Store>, _) = match &settings.postgres_dsn {
        Some(dsn) => {
            let store = Arc::new(postgres(dsn, settings)?);
            let bus = bus(settings, "reader", false, Some(&store))?;
            (store, bus)
        }
        None => {
            let folder = settings.data_dir.clone();
            let open = move || SqliteStore::open_read_only(&folder);
            (Arc::new(tokio::task::spawn_blocking(open).await??), bus(settings, "reader", false, None)?)
        }
    };
    Ok(Reading { store, bus })
}

/// Refuses to run a single role on backends that do not leave the process.
///
/// # Errors
/// Names the setting that is missing.
pub fn require_shared_backends(settings: &Settings, role: &str) -> Result<()> {
    let missing = match (settings.kafka_brokers.is_empty(), settings.postgres_dsn.is_none()) {
        (true, _) => "KAFKA_BROKERS is not set, and the in-process bus",
        (_, true) => "POSTGRES_DSN is not set, and the embedded store",
        _ => return Ok(()),
    };
    bail!("{missing} does not leave the process: set it to run `{role}` alone, or run `orderstream up`")
}

/// Runs api and worker in this process until `stop`, then shuts down in order: the api finishes its requests,
/// the worker what they caused, the store closes.
///
/// # Errors
/// The failure of a role or of a part of the backends; what is left is shut down in order then, too.
pub async fn up(
    parts: Parts,
    listeners: impl Into<Listeners>,
    settings: &Settings,
    stop: CancellationToken,
) -> Result<()> {
    let worker_stop = CancellationToken::new();
    let backends = spawn("backends", watch(parts.clone()), &stop, stop.clone());
    let worker = worker_of(parts.clone(), settings).trying_again_until(stop.clone());
    let working = worker_stop.clone();
    let worker = async move { Ok(worker.run(working).await?) };
    let worker = spawn("worker", worker, &worker_stop, stop.clone());
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
    parts: Parts,
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
    parts: Parts,
    health: Option<TcpListener>,
    settings: &Settings,
    stop: CancellationToken,
) -> Result<()> {
    let backends = spawn("backends", watch(parts.clone()), &stop, stop.clone());
    let worker = spawn("worker", worker(parts.clone(), settings, stop.clone()), &stop, stop.clone());
    let health = health.map(|listener| {
        let Parts { store, bus, cache, .. } = parts.clone();
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
    parts: Parts,
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
    parts: Parts,
    settings: &Settings,
    stop: CancellationToken,
) -> impl Future<Output = Result<()>> + Send + use<> {
    let worker = worker_of(parts, settings);
    async move { Ok(worker.run(stop).await?) }
}

fn worker_of(parts: Parts, settings: &Settings) -> Worker {
    let Parts { store, bus, cache, processor } = parts;
    let (timeout, retry_for) = (settings.processor_timeout, settings.processor_retry_for);
    let options = worker::Options { timeout, retry_for };
    Worker::new(store, bus, cache, processor, options)
}
