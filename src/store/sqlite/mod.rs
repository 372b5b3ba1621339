//! The embedded store: SQLite in a folder of its own. One thread owns the connection that writes and commits
//! whatever has queued up while it was busy in one transaction, with one fsync; reads run beside it on
//! connections of their own. A second process that opens the folder is refused.

mod backup;
mod checkpoint;
mod clean;
mod clock;
mod commands;
mod completions;
mod condition;
mod external;
mod history;
mod index;
mod keys;
mod lists;
mod marker;
mod reader;
mod rows;
mod schema;
mod search;
mod statements;
mod writer;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;

pub use self::backup::{CopyError, StoreCopy};
use self::checkpoint::Checkpoints;
use self::clock::Clock;
use self::index::Young;
use self::reader::Readers;
use self::statements::Shared;
use self::writer::Writer;
use super::damage::DamageLog;
use super::{
    Accepted, Completed, Completion, Cursor, Damaged, Error, Part, PendingPage, Processed, Refusal, Store,
};
use crate::order::{
    Filter, HistoryCursor, Order, OrderId, Page, Position, Request, Sequence, Step, Stretch, UserId, Version,
    Whose,
};
use crate::shutdown::Parts;

/// The store in a folder.
pub struct SqliteStore {
    readers: Readers,
    young: Arc<Young>,
    clock: Arc<Clock>,
    history: bool,
    damage: Arc<DamageLog>,
    writer: Option<Writer>,
    parts: Parts,
}

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works in it.
    #[error("the data folder {} is in use by another process; stop that one or set DATA_DIR to another folder", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// It was made by a newer version of this program.
    #[error(
        "the data folder has schema version {found} and this program knows {known}; use a newer orderstream"
    )]
    TooNew {
        /// The folder's version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// It was made by an older version of this program, and has not been migrated.
    #[error(
        "the data folder has schema version {found} and this program needs {known}; run `orderstream migrate` first"
    )]
    TooOld {
        /// The folder's version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Its database was in use when it was copied, and the copy lacks the WAL.
    #[error(
        "{} is a copy of a database that was in use, and its newest orders are missing: they are in {0}-wal, which is \
         not there; copy both while the server is stopped, or make the copy with `orderstream backup`; where another \
         program (a sqlite3 shell) has emptied the WAL after a crash, or what is missing may be lost, run \
         `orderstream migrate --accept-missing-wal` once",
        file.display()
    )]
    WithoutWal {
        /// The database file.
        file: PathBuf,
    },
    /// The SQLite that is linked in is not safe.
    #[error(
        "this program is linked with SQLite {version}, which can lose committed orders when its WAL begins anew; build \
         it with SQLite 3.51.3 or newer, as the bundled one is: without LIBSQLITE3_SYS_USE_PKG_CONFIG"
    )]
    OldSqlite {
        /// Its version.
        version: &'static str,
    },
    /// There is no database in it.
    #[error("there is no order database in {}; set DATA_DIR to the folder that `orderstream up` used", folder.display())]
    Missing {
        /// The folder.
        folder: PathBuf,
    },
    /// The file system refuses.
    #[error("the data folder {} cannot be used: {error}; set DATA_DIR to a folder that can be written", folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// SQLite refuses.
    #[error("the order database cannot be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

impl SqliteStore {
    /// Opens a data folder, making and migrating it as needed. The folder stays locked until the store is
    /// closed or the process ends, however it ends.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(folder: &Path) -> Result<SqliteStore, OpenError> {
        SqliteStore::open_with(folder, true)
    }

    /// The same, with the choice whether to keep a history. Without one no step is written and none is read; those
    /// that are there from before stay until they are cleaned away.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(folder: &Path, history: bool) -> Result<SqliteStore, OpenError> {
        let lock = lock(folder)?;
        let file = database_file(folder);
        marker::require_wal(&file)?;
        let mut connection = schema::open_writer(&file)?;
        schema::migrate(&mut connection)?;
        marker::set(&connection)?;
        let clock = Arc::new(Clock::load(&connection)?);
        let young = Arc::new(external::load(&connection)?);
        let shared = Shared {
            clock: Arc::clone(&clock),
            young_orders: Arc::clone(&young),
            young_keys: Arc::new(keys::load(&connection)?),
            history,
        };
        let parts = Parts::default();
        let checkpoints = Checkpoints::start(&file, &parts)?;
        let writer = Writer::start(connection, shared, checkpoints, lock, &parts)?;
        Ok(SqliteStore {
            readers: Readers::new(file),
            young,
            clock,
            history,
            damage: Arc::default(),
            writer: Some(writer),
            parts,
        })
    }

    /// Opens a data folder for reading only, beside a process that may be working in it. By user and by external id it
    /// finds the orders that were there when it was opened; everything else it reads as it is.
    ///
    /// # Errors
    /// [`OpenError`]; also where the folder holds no database, or one that has not been migrated.
    pub fn open_read_only(folder: &Path) -> Result<SqliteStore, OpenError> {
        SqliteStore::read(database_file(folder))
    }

    /// The same for the database in that file.
    fn read(file: PathBuf) -> Result<SqliteStore, OpenError> {
        let missing = || OpenError::Missing { folder: file.parent().unwrap_or(&file).to_owned() };
        if !file.exists() {
            return Err(missing());
        }
        marker::require_wal(&file)?;
        let reader = schema::open_reader(&file)?;
        match schema::version(&reader)? {
            0 => return Err(missing()),
            found if found < schema::VERSION => {
                return Err(OpenError::TooOld { found, known: schema::VERSION });
            }
            _ => {}
        }
        let young = Arc::new(external::load(&reader)?);
        let clock = Arc::new(Clock::load(&reader)?);
        Ok(SqliteStore {
            readers: Readers::new(file),
            young,
            clock,
            history: true,
            damage: Arc::default(),
            writer: None,
            parts: Parts::default(),
        })
    }

    /// Makes and migrates a data folder, and answers how many migrations were applied and the version now. A database
    /// that lacks its WAL is refused unless the caller accepts that.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn migrate(folder: &Path, accept_missing_wal: bool) -> Result<(u32, u32), OpenError> {
        let _lock = lock(folder)?;
        let file = database_file(folder);
        if !accept_missing_wal {
            marker::require_wal(&file)?;
        }
        let mut connection = schema::open_writer(&file)?;
        let applied = schema::migrate(&mut connection)?;
        marker::clear(&connection)?;
        Ok((applied, schema::VERSION))
    }

    fn writer(&self) -> Result<&Writer, Error> {
        self.writer
            .as_ref()
            .ok_or_else(|| Error::Unavailable("the store was opened for reading only".to_owned()))
    }
}

fn database_file(folder: &Path) -> PathBuf {
    folder.join("orders.db")
}

/// The lock of a folder. The operating system lets go of it when the process dies.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is being started beside us holds a copy until its exec.
        let _ = self.0.unlock();
    }
}

/// Takes the folder for this process.
fn lock(folder: &Path) -> Result<Lock, OpenError> {
    let refused = |error| OpenError::Io { folder: folder.to_owned(), error };
    fs::create_dir_all(folder).map_err(refused)?;
    let lock = File::create(folder.join("LOCK")).map_err(refused)?;
    match lock.try_lock() {
        Ok(()) => Ok(Lock(lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn apply(&self, batch: Arc<[Request]>) -> Result<Vec<Result<Accepted, Refusal>>, Error> {
        self.writer()?.apply(batch).await
    }

    async fn complete(&self, batch: Arc<[Completion]>) -> Result<Vec<Completed>, Error> {
        self.writer()?.complete(batch).await
    }

    async fn now(&self) -> Result<Timestamp, Error> {
        Ok(self.clock.now())
    }

    async fn get(&self, order_id: OrderId) -> Result<Option<Order>, Error> {
        self.readers.run(move |connection| reader::get(connection, order_id)).await
    }

    async fn find_by_external(&self, external_id: &str, user_id: UserId) -> Result<Option<Order>, Error> {
        let (external_id, young) = (external_id.to_owned(), Arc::clone(&self.young));
        self.readers.run(move |connection| external::find(connection, &young, &external_id, user_id)).await
    }

    async fn processed_versions(&self, orders: &[OrderId]) -> Result<Vec<Option<Processed>>, Error> {
        let (orders, damage) = (orders.to_vec(), Arc::clone(&self.damage));
        self.readers.run(move |connection| reader::processed_versions(connection, &damage, &orders)).await
    }

    async fn pending(
        &self,
        before: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<PendingPage, Error> {
        let (damage, age) = (Arc::clone(&self.damage), (before, clock::system()));
        self.readers.run(move |connection| reader::pending(connection, &damage, age, after, limit)).await
    }

    async fn scan(&self, after: Option<OrderId>, limit: usize) -> Result<Vec<Result<Order, Damaged>>, Error> {
        self.readers.run(move |connection| reader::scan(connection, after, limit)).await
    }

    async fn list(&self, filter: &Filter, after: Option<Position>, limit: usize) -> Result<Page, Error> {
        let (filter, young, damage) = (filter.clone(), Arc::clone(&self.young), Arc::clone(&self.damage));
        let list =
            move |connection: &Connection| lists::list(connection, (&young, &damage), &filter, after, limit);
        self.readers.run(list).await
    }

    async fn history(&self, order_id: OrderId, after: HistoryCursor, versions: u32) -> Result<Part, Error> {
        if !self.history {
            return Ok(Part::default());
        }
        self.readers.run(move |connection| history::of_order(connection, order_id, after, versions)).await
    }

    async fn newest_step(&self, order_id: OrderId, version: Version) -> Result<Option<Step>, Error> {
        if !self.history {
            return Ok(None);
        }
        self.readers.run(move |connection| history::newest_step(connection, order_id, version)).await
    }

    async fn steps(&self, of: Whose, after: Sequence, limit: usize) -> Result<Stretch, Error> {
        if !self.history {
            return Ok(Stretch { steps: Vec::new(), upto: after, more: false });
        }
        self.readers.run(move |connection| history::steps(connection, of, after, limit)).await
    }

    async fn history_end(&self) -> Result<Sequence, Error> {
        self.readers.run(history::end).await
    }

    async fn history_dropped(&self) -> Result<Sequence, Error> {
        self.readers.run(history::dropped).await
    }

    async fn clean(
        &self,
        keys_before: Timestamp,
        steps_before: Option<Timestamp>,
        limit: usize,
    ) -> Result<usize, Error> {
        self.writer()?.clean(keys_before, steps_before, limit).await
    }

    async fn check(&self) -> Result<(), Error> {
        match &self.writer {
            Some(writer) => writer.check(),
            None => self.readers.run(|_| Ok(())).await,
        }
    }

    async fn failed(&self) -> &'static str {
        self.parts.failed().await
    }

    async fn close(&self) {
        self.readers.close();
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }
}
