//! The shared store: Postgres, for any number of processes. Each batch is one statement over arrays on a
//! connection of its own kind, and an order's outbox row is written by the very statement that writes the order.
//! Whatever the server or the network does, an answer says what is known: done, nothing happened, or not known.

mod bounded;
mod checking;
mod cleaning;
mod command_sql;
mod commands;
mod completions;
mod dead_letters;
mod dsn;
mod floor;
mod history;
mod link;
mod links;
mod lists;
mod load;
mod locks;
mod migrations;
mod missing;
mod online;
mod outbox;
mod payload_text;
mod pooler;
mod reads;
mod refusals;
mod rows;
mod server;
mod session;
mod statements;
mod survey;
mod tls;
mod transaction;
mod trouble;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::timeout;

use self::checking::Checking;
use self::cleaning::Cleaning;
use self::commands::Commands;
use self::completions::Completions;
use self::dead_letters::DeadLetters;
use self::link::{Link, Prepare};
use self::links::Links;
use self::outbox::Outbox;
use self::reads::Reads;
use self::server::{Purpose, Server};
use super::{
    Accepted, Completed, Completion, Cursor, Damaged, Error, MissingPage, Part, PendingPage, Postponed,
    Processed, Refusal, Store,
};
use crate::config::ReadFrom;
use crate::order::{
    Filter, HistoryCursor, Order, OrderId, Page, Position, Request, Sequence, Step, Stretch, UserId, Version,
    Whose,
};

pub use self::dead_letters::DeadLetter;
pub use self::dsn::DsnError;
pub use self::migrations::{MigrateError, Migrated};

/// How long a check waits for the server: long enough to connect anew.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// For how long a server is looked at before a process starts. One that is silent is not waited for.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// After how many rows the search for rows that are missing ends.
const MOST_FOUND: usize = 1_000;

/// How to reach Postgres, and how long to wait for it.
#[derive(Debug, Clone)]
pub struct Options {
    /// A `postgres://` URL or libpq's `key=value` pairs, with libpq's `sslmode` and `sslrootcert`.
    pub dsn: String,
    /// How many connections carry commands, and how many completions: what one waits for, another works through.
    pub write_connections: usize,
    /// How many connections reads share.
    pub read_connections: usize,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// How long a statement may take before the server ends it.
    pub statement_timeout: Duration,
    /// Whether to keep a history.
    pub history: bool,
    /// The file that the DSN was read from, if any. It is read again when no connection can be opened.
    pub dsn_file: Option<PathBuf>,
    /// Which server reads go to.
    pub read_from: ReadFrom,
}

/// Why a Postgres store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The DSN is not one.
    #[error("POSTGRES_DSN cannot be used")]
    Dsn(#[from] DsnError),
    /// The server, or what is in front of it, cannot be worked with, and waiting does not change that.
    #[error("{0}")]
    Unusable(String),
}

/// The store in a Postgres database.
pub struct PostgresStore {
    server: Arc<Server>,
    commands: Links<Commands>,
    completions: Links<Completions>,
    outbox: Link<Outbox>,
    /// The sweep's own: what waits for it does not wait for the marks of what was published.
    sweep: Link<Outbox>,
    cleaning: Link<Cleaning>,
    checking: Link<Checking>,
    /// Opened when there is a first one to keep.
    dead_letters: Link<DeadLetters>,
    reads: Links<Reads>,
}

impl PostgresStore {
    /// Takes the options. Connections are opened when they are first needed, and anew whenever they break: a
    /// server that is away is no error here.
    ///
    /// # Errors
    /// [`OpenError`] where the DSN cannot be used.
    pub fn open(options: &Options) -> Result<PostgresStore, OpenError> {
        let server = Arc::new(Server::new(options)?);
        Ok(PostgresStore {
            commands: Links::new(&server, options.write_connections),
            completions: Links::new(&server, options.write_connections),
            outbox: Link::new(Arc::clone(&server)),
            sweep: Link::new(Arc::clone(&server)),
            cleaning: Link::new(Arc::clone(&server)),
            checking: Link::new(Arc::clone(&server)),
            dead_letters: Link::new(Arc::clone(&server)),
            reads: Links::new(&server, options.read_connections),
            server,
        })
    }

    /// Connects once, to refuse a server that can never be worked with: one behind a pooler that shares connections
    /// between transactions, or one that loses confirmed orders in a crash. One that is away is not refused.
    ///
    /// # Errors
    /// [`OpenError::Unusable`] with the reason.
    pub async fn refuse_unusable(&self) -> Result<(), OpenError> {
        match timeout(FIRST_LOOK, self.server.connect(Purpose::Write)).await {
            Ok(Err(trouble)) if trouble.unusable().is_some() => {
                Err(OpenError::Unusable(self.server.unreachable(&trouble)))
            }
            _ => Ok(()),
        }
    }

    /// Brings the database's schema to this program's version, one process at a time, beside those who work there. A
    /// table that another service made is adopted as it is.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub async fn migrate(&self) -> Result<Migrated, MigrateError> {
        migrations::run(&self.server, false).await
    }

    /// The same, and drops what only the release before uses: none of its processes may be running.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub async fn migrate_and_finish(&self) -> Result<Migrated, MigrateError> {
        migrations::run(&self.server, true).await
    }

    /// The steps that a migration would take, and their locks, as text. Changes nothing.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub async fn migration_plan(&self, finish: bool) -> Result<Vec<String>, MigrateError> {
        migrations::plan(&self.server, finish).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn apply(&self, batch: Arc<[Request]>) -> Result<Vec<Result<Accepted, Refusal>>, Error> {
        let apply = |session: Arc<Commands>| {
            let batch = Arc::clone(&batch);
            Box::pin(async move { session.apply(&batch).await })
        };
        self.commands.write(apply).await
    }

    async fn complete(&self, batch: Arc<[Completion]>) -> Result<Vec<Completed>, Error> {
        let complete = |session: Arc<Completions>| {
            let batch = Arc::clone(&batch);
            Box::pin(async move { session.complete(&batch).await })
        };
        self.completions.write(complete).await
    }

    async fn published(&self, events: &[(OrderId, Version)]) -> Result<(), Error> {
        if events.is_empty() {
            return Ok(());
        }
        self.outbox.read(|session| async move { session.remove(events).await }).await
    }

    async fn outbox_orphans(&self) -> Result<Vec<OrderId>, Error> {
        let (mut found, mut after) = (Vec::new(), Some(survey::START));
        while let Some(from) = after.filter(|_| found.len() < MOST_FOUND) {
            let look = |reads: Arc<Reads>| async move { reads.survey.orphans(reads.client(), from).await };
            let part = self.reads.read(look).await?;
            found.extend(part.rows);
            after = part.next;
        }
        Ok(found)
    }

    async fn missing_outbox_entries(
        &self,
        before: Timestamp,
        after: Option<Cursor>,
        orders: usize,
    ) -> Result<MissingPage, Error> {
        let find = |session: Arc<Outbox>| async move {
            session.missing.find(session.client(), before, after, orders).await
        };
        self.sweep.read(find).await
    }

    async fn add_outbox_entries(&self, events: &[(OrderId, Version)]) -> Result<usize, Error> {
        let add = |session: Arc<Outbox>| async move { session.missing.add(session.client(), events).await };
        self.sweep.read(add).await
    }

    async fn postpone(&self, orders: &[Postponed]) -> Result<(), Error> {
        let postpone =
            |session: Arc<Outbox>| async move { session.missing.postpone(session.client(), orders).await };
        // The sweep does not wait for them.
        self.outbox.read(postpone).await
    }

    async fn now(&self) -> Result<Timestamp, Error> {
        self.sweep.read(|session| async move { session.now().await }).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn has_outbox(&self) -> bool {
        true
    }

    async fn claim(&self, events: &[(OrderId, Version)]) -> Result<Vec<bool>, Error> {
        self.sweep.read(|session| async move { session.claim(events).await }).await
    }

    async fn get(&self, order_id: OrderId) -> Result<Option<Order>, Error> {
        self.reads.read(|session| async move { session.get(order_id).await }).await
    }

    async fn find_by_external(&self, external_id: &str, user_id: UserId) -> Result<Option<Order>, Error> {
        let find = |session: Arc<Reads>| async move { session.find_by_external(external_id, user_id).await };
        self.reads.read(find).await
    }

    async fn processed_versions(&self, orders: &[OrderId]) -> Result<Vec<Option<Processed>>, Error> {
        let look = |session: Arc<Reads>| async move { session.processed_versions(orders).await };
        self.reads.read(look).await
    }

    async fn pending(
        &self,
        before: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<PendingPage, Error> {
        self.sweep.read(|session| async move { session.pending(before, after, limit).await }).await
    }

    async fn scan(&self, after: Option<OrderId>, limit: usize) -> Result<Vec<Result<Order, Damaged>>, Error> {
        self.reads.read(|session| async move { session.scan(after, limit).await }).await
    }

    async fn list(&self, filter: &Filter, after: Option<Position>, limit: usize) -> Result<Page, Error> {
        let list =
            |reads: Arc<Reads>| async move { reads.lists.page(reads.client(), filter, after, limit).await };
        self.reads.read(list).await
    }

    async fn history(&self, order_id: OrderId, after: HistoryCursor, versions: u32) -> Result<Part, Error> {
        let read = |reads: Arc<Reads>| async move {
            reads.history.of_order(reads.client(), order_id, after, versions).await
        };
        self.reads.read(read).await
    }

    async fn newest_step(&self, order_id: OrderId, version: Version) -> Result<Option<Step>, Error> {
        let read = |reads: Arc<Reads>| async move {
            reads.history.newest_step(reads.client(), order_id, version).await
        };
        self.reads.read(read).await
    }

    async fn steps(&self, of: Whose, after: Sequence, limit: usize) -> Result<Stretch, Error> {
        let read =
            |reads: Arc<Reads>| async move { reads.history.steps(reads.client(), of, after, limit).await };
        self.reads.read(read).await
    }

    async fn history_end(&self) -> Result<Sequence, Error> {
        self.reads.read(|reads: Arc<Reads>| async move { reads.history.end(reads.client()).await }).await
    }

    async fn history_newest(&self) -> Result<Sequence, Error> {
        self.reads.read(|reads: Arc<Reads>| async move { reads.history.newest(reads.client()).await }).await
    }

    async fn history_dropped(&self) -> Result<Sequence, Error> {
        self.reads.read(|reads: Arc<Reads>| async move { reads.history.dropped(reads.client()).await }).await
    }

    async fn clean(
        &self,
        keys_before: Timestamp,
        steps_before: Option<Timestamp>,
        limit: usize,
    ) -> Result<usize, Error> {
        let clean =
            |session: Arc<Cleaning>| async move { session.run(keys_before, steps_before, limit).await };
        self.cleaning.read(clean).await
    }

    async fn check(&self) -> Result<(), Error> {
        let was_full = self.server.is_full();
        let check = |session: Arc<Checking>| async move {
            session.run().await?;
            if was_full { session.take_room().await } else { Ok(()) }
        };
        let checked = async {
            self.checking.read(check).await?;
            // Opened where they are not, and asked nothing: no caller is the first to wait for them.
            for link in self.commands.all() {
                link.session().await?;
            }
            Ok(())
        };
        let silence = || Err(Error::Unavailable("Postgres does not answer".to_owned()));
        timeout(CHECK_LIMIT, checked).await.unwrap_or_else(|_| silence())?;
        if was_full {
            self.server.set_full(false);
        }
        Ok(())
    }

    async fn close(&self) {
        self.server.close();
        tokio::join!(
            self.commands.close(),
            self.completions.close(),
            self.outbox.close(),
            self.sweep.close(),
            self.cleaning.close(),
            self.checking.close(),
            self.dead_letters.close(),
            self.reads.close()
        );
    }
}
