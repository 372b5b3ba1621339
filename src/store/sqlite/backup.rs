//! Backup and restore: a copy of a whole store in one file, made while a process works with the store. A copy is made
//! under another name, checked and synced, and gets its own name last, so a file with that name is always complete.
//!
//! SQLite's online backup copies the pages, in steps, from one snapshot on a connection of its own: writers never wait
//! for it, and the WAL keeps their writes. `VACUUM INTO` would rebuild every table and index, in one step that cannot
//! pause for the server. The dead letters, which have a file of their own, are a table in the copy.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OptionalExtension};

use super::error::{CopyError, OpenError};
use super::folder::{Lock, database_file, lock};
use super::store::SqliteStore;
use super::{marker, schema};
use crate::shutdown::{PartialFile, PartialFiles};

/// How many pages are copied in a step: 2 MiB at 4 KiB a page.
const STEP: i32 = 512;

/// After how many steps the copy is synced, so that the disk never has to write much at once.
const SYNC_EVERY: u32 = 32;

/// How many bytes of dead letters are in a row of the copy.
const PART: usize = 1 << 20;

/// The endings of a database's files.
const ENDINGS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// A copy without its final name. Dropping it removes the files.
pub struct StoreCopy {
    partial: PathBuf,
    target: PathBuf,
    may_replace: bool,
    /// For a restore: the file for the dead letters, and the lock of the folder.
    folder: Option<(PathBuf, Lock)>,
    files: PartialFiles,
    _registered: [PartialFile; ENDINGS.len()],
}

impl StoreCopy {
    /// Backs up the store of a folder, and its dead letters, to `target`.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn of_store(
        folder: &Path,
        dead_letters: &Path,
        target: &Path,
        may_replace: bool,
        files: &PartialFiles,
    ) -> Result<StoreCopy, CopyError> {
        let file = database_file(folder);
        if !file.exists() {
            return Err(OpenError::Missing { folder: folder.to_owned() }.into());
        }
        let copy = StoreCopy::begin(target, may_replace, None, files)?;
        copy.copy_pages(&file)?;
        let mut connection = copy.connect()?;
        // After the orders, so that no dead letter of a copied order is missing.
        match fs::read(dead_letters) {
            Ok(text) => copy.naming_file(store_dead_letters(&mut connection, &text))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CopyError::Io { file: dead_letters.to_owned(), error }),
        }
        copy.check(&connection, &file)?;
        Ok(copy)
    }

    /// Restores a backup into a folder that no process works in.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn to_store(
        file: &Path,
        folder: &Path,
        dead_letters: &Path,
        may_replace: bool,
        files: &PartialFiles,
    ) -> Result<StoreCopy, CopyError> {
        if !file.is_file() {
            return Err(CopyError::Missing { file: file.to_owned() });
        }
        let lock = lock(folder)?;
        let folder_of_store = Some((dead_letters.to_owned(), lock));
        let copy = StoreCopy::begin(&database_file(folder), may_replace, folder_of_store, files)?;
        copy.copy_pages(file)?;
        let mut connection = copy.connect()?;
        if schema::version(&connection)? == 0 {
            return Err(CopyError::Foreign { file: file.to_owned() });
        }
        schema::migrate(&mut connection)?;
        copy.check(&connection, file)?;
        Ok(copy)
    }

    fn begin(
        target: &Path,
        may_replace: bool,
        folder: Option<(PathBuf, Lock)>,
        files: &PartialFiles,
    ) -> Result<StoreCopy, CopyError> {
        let partial = marker::beside(target, &format!(".{}.partial", std::process::id()));
        let registered = ENDINGS.map(|ending| files.begin(&marker::beside(&partial, ending)));
        let (target, files) = (target.to_owned(), files.clone());
        let copy = StoreCopy { partial, target, may_replace, folder, files, _registered: registered };
        copy.require_free_name()?;
        Ok(copy)
    }

    /// Refuses to replace existing files. A WAL alone counts, because SQLite would apply it to the copy.
    fn require_free_name(&self) -> Result<(), CopyError> {
        let files = ["", "-wal", "-journal"].map(|ending| marker::beside(&self.target, ending));
        match files.into_iter().find(|file| file.exists()) {
            Some(file) if !self.may_replace => Err(CopyError::Exists { file }),
            _ => Ok(()),
        }
    }

    /// Copies every page from one snapshot.
    fn copy_pages(&self, from: &Path) -> Result<(), CopyError> {
        marker::require_wal(from)?;
        let source = schema::open_reader(from).map_err(|error| match error {
            OpenError::Sqlite(error) => CopyError::Sqlite { file: from.to_owned(), error },
            other => CopyError::Open(other),
        })?;
        let mut target = self.naming_file(Connection::open(&self.partial))?;
        let mut copy = || -> rusqlite::Result<()> {
            // Neither a journal nor syncs are needed: the copy is removed where it is not completed.
            target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
            // One snapshot for all steps: without it a write of the server would restart the copy.
            source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")?;
            let backup = Backup::new(&source, &mut target)?;
            for step in 1_u32.. {
                let begun = Instant::now();
                if backup.step(STEP)? == StepResult::Done {
                    break;
                }
                if step.is_multiple_of(SYNC_EVERY) {
                    // An error here repeats at the end.
                    let _ = File::open(&self.partial).and_then(|file| file.sync_data());
                }
                // Leaves half of the time to the server's use of the disk.
                thread::sleep(begun.elapsed());
            }
            Ok(())
        };
        copy().map_err(|error| CopyError::Sqlite { file: from.to_owned(), error })
    }

    /// Opens the copy to complete it, without a WAL and without a mark.
    fn connect(&self) -> Result<Connection, CopyError> {
        let connection = self.naming_file(Connection::open(&self.partial))?;
        self.naming_file(
            connection.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA application_id = 0;"),
        )?;
        Ok(connection)
    }

    /// Has SQLite check every page and index of the copy.
    fn check(&self, connection: &Connection, from: &Path) -> Result<(), CopyError> {
        let found: String =
            self.naming_file(connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)))?;
        match found.as_str() {
            "ok" => Ok(()),
            _ => Err(CopyError::Damaged { file: from.to_owned(), what: found }),
        }
    }

    fn naming_file<T>(&self, result: rusqlite::Result<T>) -> Result<T, CopyError> {
        result.map_err(|error| CopyError::Sqlite { file: self.partial.clone(), error })
    }

    /// Opens the copy for reading, to be checked.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self) -> Result<SqliteStore, OpenError> {
        SqliteStore::read(self.partial.clone())
    }

    /// How many dead letters the copy has.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn dead_letters(&self) -> Result<u64, CopyError> {
        let text = self.naming_file(Connection::open(&self.partial).and_then(|it| dead_letters(&it)))?;
        Ok(text.iter().filter(|byte| **byte == b'\n').count() as u64)
    }

    /// Gives the copy its final name, once all of it is on the disk.
    ///
    /// # Errors
    /// [`CopyError`]; the files from before remain, but a database that was to be replaced may have lost its WAL.
    pub fn finish(self) -> Result<(), CopyError> {
        self.files.whole(|| self.give_name())
    }

    fn give_name(&self) -> Result<(), CopyError> {
        let io = |file: &Path| {
            let file = file.to_owned();
            move |error| CopyError::Io { file, error }
        };
        if let Some((file, _)) = &self.folder {
            self.restore_dead_letters(file).map_err(io(file))?;
        }
        let folder = folder_of(&self.target);
        File::open(&self.partial).and_then(|file| file.sync_all()).map_err(io(&self.partial))?;
        self.require_free_name()?;
        for ending in ["-wal", "-shm", "-journal"] {
            let file = marker::beside(&self.target, ending);
            remove(&file).map_err(io(&file))?;
        }
        // Synced in this order, because of power cuts: an old WAL would damage the copy.
        sync_folder(folder).map_err(io(folder))?;
        fs::rename(&self.partial, &self.target).map_err(io(&self.target))?;
        sync_folder(folder).map_err(io(folder))
    }

    /// Moves the dead letters from the copy into their file.
    fn restore_dead_letters(&self, file: &Path) -> io::Result<()> {
        let other = |error: rusqlite::Error| io::Error::other(error);
        let connection = Connection::open(&self.partial).map_err(other)?;
        let text = dead_letters(&connection).map_err(other)?;
        connection.execute_batch("DROP TABLE IF EXISTS dead_letters").map_err(other)?;
        if text.is_empty() {
            return remove(file);
        }
        let partial = marker::beside(file, ".partial");
        let mut written = File::create(&partial)?;
        written.write_all(&text)?;
        written.sync_all()?;
        fs::rename(partial, file)
    }
}

impl Drop for StoreCopy {
    fn drop(&mut self) {
        for ending in ENDINGS {
            // The copy has its final name already, or its remains do no harm.
            let _ = remove(&marker::beside(&self.partial, ending));
        }
    }
}

/// Stores the whole lines of dead letters in a table.
fn store_dead_letters(connection: &mut Connection, text: &[u8]) -> rusqlite::Result<()> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let transaction = connection.transaction()?;
    transaction
        .execute_batch("CREATE TABLE dead_letters (seq INTEGER PRIMARY KEY, part BLOB NOT NULL) STRICT")?;
    for part in text[..whole].chunks(PART) {
        transaction.execute("INSERT INTO dead_letters (part) VALUES (?1)", [part])?;
    }
    transaction.commit()
}

fn dead_letters(connection: &Connection) -> rusqlite::Result<Vec<u8>> {
    let named = "SELECT 1 FROM sqlite_schema WHERE name = 'dead_letters'";
    if connection.query_row(named, [], |_| Ok(())).optional()?.is_none() {
        return Ok(Vec::new());
    }
    let mut parts = connection.prepare("SELECT part FROM dead_letters ORDER BY seq")?;
    let parts = parts.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
    parts.collect::<rusqlite::Result<Vec<_>>>().map(|parts| parts.concat())
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
