//! The backends: opens the store, the bus, the cache and the processor that the settings choose. A backend is chosen
//! here and nowhere else. A server that is away is not an error here; the backend connects later. A Postgres that can
//! never be used, as one that loses confirmed orders in a crash, is refused at once. The embedded store opens its files
//! on a blocking thread. The backends for reading create no topic and migrate nothing, so other processes may run on
//! them. The bus closes before the store, because what it still sends is in the store.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};

use super::dead_letters::{DeadLetterTable, dead_letter_file};
use crate::bus::kafka::{self, KafkaBus};
use crate::bus::local::LocalBus;
use crate::bus::{Bus, PublishError};
use crate::cache::{Cache, NoCache, RedisCache};
use crate::config::Settings;
use crate::store::Store;
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::SqliteStore;
use crate::worker::{AmountProcessor, Processor};

/// The bytes of events that the in-process bus holds: as many as the relay, so that the relay never waits long.
const LOCAL_BUS_CAPACITY: usize = 32 << 20;

/// The backends that the roles run on. An embedding program may set its own [`Processor`].
#[derive(Clone)]
pub struct Backends {
    /// Keeps the orders.
    pub store: Arc<dyn Store>,
    /// Carries events and ACKs.
    pub bus: Arc<dyn Bus>,
    /// Answers reads without the store.
    pub cache: Arc<dyn Cache>,
    /// Processes orders for the worker.
    pub processor: Arc<dyn Processor>,
}

impl Backends {
    /// Opens the backends that the settings choose, for a process of that role: `api`, `worker` or `up`.
    ///
    /// # Errors
    /// Where a backend cannot be opened.
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

    /// Closes the backends, the bus first: what it still sends is in the store.
    pub(super) async fn close(&self) {
        self.bus.close().await;
        self.store.close().await;
    }
}

/// The store in Postgres. It connects later, so a server that is away is not an error here.
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

/// The bus. Brokers that are away are not an error here; `make_topics` creates missing topics. Without Kafka, dead
/// letters are kept in the Postgres database, or in the data directory of the embedded store.
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
    Ok(bus.with_context(|| {
        format!("the dead-letter file {} cannot be read; repair or move it", file.display())
    })?)
}

/// The cache. It connects later, in the background.
fn cache(settings: &Settings) -> Result<Arc<dyn Cache>> {
    let Some(address) = &settings.redis_addr else { return Ok(Arc::new(NoCache)) };
    let (prefix, ttl) = (&settings.cache_key_prefix, settings.cache_ttl);
    let cache = RedisCache::open_with(address.expose_secret(), prefix, ttl, settings.cache_timeout);
    Ok(Arc::new(
        cache.context(
            "REDIS_ADDR is not an address of Redis; write host:port, or a redis:// or rediss:// URL",
        )?,
    ))
}

/// The backends that the checker reads.
pub struct ReadOnlyBackends {
    /// Keeps the orders.
    pub store: Arc<dyn Store>,
    /// Carries events and ACKs. This process runs no worker on it.
    pub bus: Arc<dyn Bus>,
}

impl ReadOnlyBackends {
    /// How many dead letters there are.
    ///
    /// # Errors
    /// The reason why they cannot be counted.
    pub async fn dead_letters(&self) -> Result<u64> {
        match self.bus.dead_letters().await {
            // Without Kafka they are in the store or in a file, so it is not the bus that failed.
            Err(PublishError::Unavailable(reason)) => bail!("the dead letters cannot be counted: {reason}"),
            count => Ok(count?),
        }
    }
}

/// Opens the backends that the settings choose for reading, while other processes may run on them.
///
/// # Errors
/// As [`Backends::open`]; also where the store does not exist yet.
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

/// Fails for a single role on backends that other processes cannot share.
///
/// # Errors
/// Names the setting that is missing.
pub fn require_shared_backends(settings: &Settings, role: &str) -> Result<()> {
    let missing = match (settings.kafka_brokers.is_empty(), settings.postgres_dsn.is_none()) {
        (true, _) => "KAFKA_BROKERS is not set, and the in-process bus",
        (_, true) => "POSTGRES_DSN is not set, and the embedded store",
        _ => return Ok(()),
    };
    bail!(
        "{missing} cannot be shared with other processes: set it to run `{role}` alone, or run `orderstream up`"
    )
}
