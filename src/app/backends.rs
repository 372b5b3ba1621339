//! The backends: the settings become a store, a bus, a cache and a processor. A backend is chosen here and nowhere
//! else.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};

use super::dead_letters::{DeadLetterTable, dead_letter_file};
use crate::bus::Bus;
use crate::bus::kafka::{self, KafkaBus};
use crate::bus::local::LocalBus;
use crate::cache::{Cache, NoCache, RedisCache};
use crate::config::Settings;
use crate::store::Store;
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::SqliteStore;
use crate::worker::{AmountProcessor, Processor};

/// How many bytes of events the in-process bus holds: the same again as the relay, so that it never waits long.
const LOCAL_BUS_CAPACITY: usize = 32 << 20;

/// What the roles work with. Embedders put their own [`Processor`] in.
#[derive(Clone)]
pub struct Backends {
    /// Where orders are kept.
    pub store: Arc<dyn Store>,
    /// What carries events and ACKs.
    pub bus: Arc<dyn Bus>,
    /// What answers reads in the store's place.
    pub cache: Arc<dyn Cache>,
    /// What the worker does to an order.
    pub processor: Arc<dyn Processor>,
}

impl Backends {
    /// Opens the backends that the settings choose, for a process of that role: `api`, `worker` or `up`.
    ///
    /// # Errors
    /// What the backends say when they cannot be opened.
    pub async fn open(settings: &Settings, role: &str) -> Result<Backends> {
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
        Ok(Backends { store, bus, cache, processor: Arc::new(AmountProcessor::default()) })
    }

    /// Lets go of the backends, the bus first: what it still sends is in the store.
    pub(super) async fn close(&self) {
        self.bus.close().await;
        self.store.close().await;
    }
}

/// The store in Postgres. A server that is away is no error yet.
pub(super) fn postgres(dsn: &SecretString, settings: &Settings) -> Result<PostgresStore> {
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

/// The cache. It is reached later, in the background.
fn cache(settings: &Settings) -> Result<Arc<dyn Cache>> {
    let Some(address) = &settings.redis_addr else { return Ok(Arc::new(NoCache)) };
    let (prefix, ttl) = (&settings.cache_key_prefix, settings.cache_ttl);
    let cache = RedisCache::open_with(address.expose_secret(), prefix, ttl, settings.cache_timeout);
    Ok(Arc::new(cache.context("REDIS_ADDR cannot be read")?))
}

/// What the checker looks at.
pub struct ReadOnlyBackends {
    /// The orders.
    pub store: Arc<dyn Store>,
    /// The bus. No worker of this process works on it.
    pub bus: Arc<dyn Bus>,
}

/// Opens the backends that the settings choose to look at them, beside processes that may be working there.
///
/// # Errors
/// As [`Backends::open`]; also where there is no store yet.
pub async fn open_for_reading(settings: &Settings) -> Result<ReadOnlyBackends> {
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
    Ok(ReadOnlyBackends { store, bus })
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
