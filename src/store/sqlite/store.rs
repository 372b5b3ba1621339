//! The store in a data folder: how it is opened, and its parts. One thread owns the writing connection; reads run on
//! connections of their own. The traits of a store are implemented in `orders`, `outbox`, `history`, `lists` and
//! `maintenance`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint::Checkpoints;
use super::clock::Clock;
use super::error::OpenError;
use super::folder::{database_file, lock};
use super::index::Memtable;
use super::reader::Readers;
use super::statements::Shared;
use super::writer::Writer;
use super::{external, keys, marker, schema};
use crate::shutdown::Components;
use crate::store::Error;
use crate::store::damage::DamageLog;

/// The store in a data folder.
pub struct SqliteStore {
    pub(super) readers: Readers,
    pub(super) memtable: Arc<Memtable>,
    pub(super) clock: Arc<Clock>,
    pub(super) history: bool,
    pub(super) damage: Arc<DamageLog>,
    pub(super) writer: Option<Writer>,
    pub(super) components: Components,
}

impl SqliteStore {
    /// Opens a data folder, and creates and migrates it as needed. The folder stays locked until the store is closed or
    /// the process ends in any way.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(folder: &Path) -> Result<SqliteStore, OpenError> {
        SqliteStore::open_with(folder, true)
    }

    /// The same, with the choice whether to keep a history. Without one, history events are neither written nor read;
    /// earlier ones stay until the retention job drops them.
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
        let memtable = Arc::new(external::load(&connection)?);
        let shared = Shared {
            clock: Arc::clone(&clock),
            order_memtable: Arc::clone(&memtable),
            key_memtable: Arc::new(keys::load(&connection)?),
            history,
        };
        let components = Components::default();
        let checkpoints = Checkpoints::start(&file, &components)?;
        let writer = Writer::start(connection, shared, checkpoints, lock, &components)?;
        Ok(SqliteStore {
            readers: Readers::new(file),
            memtable,
            clock,
            history,
            damage: Arc::default(),
            writer: Some(writer),
            components,
        })
    }

    /// Opens a data folder for reading only, while another process may work in it. Look-ups by user and by external id
    /// find the orders from before the opening; all other reads see the current state.
    ///
    /// # Errors
    /// [`OpenError`], including a folder without a database, or with one that has not been migrated.
    pub fn open_read_only(folder: &Path) -> Result<SqliteStore, OpenError> {
        SqliteStore::read(database_file(folder))
    }

    /// The same for the database in that file.
    pub(super) fn read(file: PathBuf) -> Result<SqliteStore, OpenError> {
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
        let memtable = Arc::new(external::load(&reader)?);
        let clock = Arc::new(Clock::load(&reader)?);
        Ok(SqliteStore {
            readers: Readers::new(file),
            memtable,
            clock,
            history: true,
            damage: Arc::default(),
            writer: None,
            components: Components::default(),
        })
    }

    /// Creates and migrates a data folder. Returns how many migrations were applied, and the version now. A database
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

    /// The writing thread; an error in a store that was opened for reading only.
    pub(super) fn writer(&self) -> Result<&Writer, Error> {
        self.writer
            .as_ref()
            .ok_or_else(|| Error::Unavailable("the store was opened for reading only".to_owned()))
    }
}
