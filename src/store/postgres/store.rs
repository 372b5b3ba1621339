//! The store in a Postgres database: how it is opened, and which connections it has. The traits of a store are
//! implemented in `orders`, `outbox`, `history`, `lists` and `maintenance`. Opening the store connects to nothing, so
//! that a process starts while Postgres is not available.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::connection::dsn::DsnError;
use super::connection::pool::ConnectionPool;
use super::connection::pooled_connection::PooledConnection;
use super::connection::server::Server;
use super::connection::session::Purpose;
use super::dead_letters::DeadLetters;
use super::maintenance::checking::Checking;
use super::maintenance::cleaning::Cleaning;
use super::migrations::{self, MigrateError, Migrated};
use super::options::Options;
use super::orders::commands::Commands;
use super::orders::completions::Completions;
use super::outbox::entries::Outbox;
use super::reads::Reads;

/// How long the check of the server before the start may take. A process starts without a server that does not answer.
const FIRST_CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a Postgres store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The DSN cannot be used.
    #[error("POSTGRES_DSN cannot be used")]
    Dsn(#[from] DsnError),
    /// The server, or a pooler in front of it, cannot be used, and waiting does not change that.
    #[error("{0}")]
    Unusable(String),
}

/// The store in a Postgres database.
pub struct PostgresStore {
    pub(super) server: Arc<Server>,
    pub(super) commands: ConnectionPool<Commands>,
    pub(super) completions: ConnectionPool<Completions>,
    pub(super) outbox: PooledConnection<Outbox>,
    /// The sweep's own connection: a sweep does not wait for events that are being marked published.
    pub(super) sweep: PooledConnection<Outbox>,
    pub(super) cleaning: PooledConnection<Cleaning>,
    pub(super) checking: PooledConnection<Checking>,
    /// Opened by the first dead letter.
    pub(super) dead_letters: PooledConnection<DeadLetters>,
    pub(super) reads: ConnectionPool<Reads>,
}

impl PostgresStore {
    /// Creates the store. Connections are opened when they are first needed, and replaced when they break: an
    /// unavailable server is not an error here.
    ///
    /// # Errors
    /// [`OpenError`] where the DSN cannot be used.
    pub fn open(options: &Options) -> Result<PostgresStore, OpenError> {
        let server = Arc::new(Server::new(options)?);
        Ok(PostgresStore {
            commands: ConnectionPool::new(&server, options.write_connections),
            completions: ConnectionPool::new(&server, options.write_connections),
            outbox: PooledConnection::new(Arc::clone(&server)),
            sweep: PooledConnection::new(Arc::clone(&server)),
            cleaning: PooledConnection::new(Arc::clone(&server)),
            checking: PooledConnection::new(Arc::clone(&server)),
            dead_letters: PooledConnection::new(Arc::clone(&server)),
            reads: ConnectionPool::new(&server, options.read_connections),
            server,
        })
    }

    /// Connects once, to refuse a server that can never be used: one behind a pooler that shares connections between
    /// transactions, or one that loses confirmed orders in a crash. An unavailable server is not refused.
    ///
    /// # Errors
    /// [`OpenError::Unusable`] with the reason.
    pub async fn refuse_unusable(&self) -> Result<(), OpenError> {
        match timeout(FIRST_CHECK_TIMEOUT, self.server.connect(Purpose::Write)).await {
            Ok(Err(failure)) if failure.unusable().is_some() => {
                Err(OpenError::Unusable(self.server.unreachable(&failure)))
            }
            _ => Ok(()),
        }
    }

    /// Brings the database's schema to this program's version, one process at a time, while other processes work. A
    /// table that another service created is adopted unchanged.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub async fn migrate(&self) -> Result<Migrated, MigrateError> {
        migrations::run(&self.server, false).await
    }

    /// The same, and drops what only the previous release uses: none of its processes may be running.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub async fn migrate_and_finish(&self) -> Result<Migrated, MigrateError> {
        migrations::run(&self.server, true).await
    }

    /// The statements that a migration would run, and their locks, as text. Changes nothing.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub async fn migration_plan(&self, finish: bool) -> Result<Vec<String>, MigrateError> {
        migrations::plan(&self.server, finish).await
    }
}
