//! Copies of a whole store in one file, made beside a process that works with it, and put back. A copy is made under
//! another name, checked and synced, and gets its own name last, so a file of that name is always complete.
//!
//! SQLite's online backup copies the pages, in steps, from one snapshot on a connection of its own: writers never wait
//! for it, and the WAL keeps what they write meanwhile. `VACUUM INTO` would build every table and index anew, in one
//! step that cannot pause for the server. The dead letters, which are in a file of their own, go into the copy as a
//! table.

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

/// After how many steps what was copied is synced, so that the disk never has to take much at once.
const SYNC_EVERY: u32 = 32;

/// How much of the dead letters is in a row.
const PART: usize = 1 << 20;

/// What the files of a database end with.
const ENDINGS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// A copy that does not have its name yet. It is removed where it is dropped before that.
pub struct StoreCopy {
    partial: PathBuf,
    place: PathBuf,
    may_replace: bool,
    /// Of a copy that is put back: the file for the dead letters, and the lock of the folder.
    folder: Option<(PathBuf, Lock)>,
    files: PartialFiles,
    _noted: [PartialFile; ENDINGS.len()],
}

impl StoreCopy {
    /// Copies the store of a folder, and its dead letters, for `place`.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn of_store(
        folder: &Path,
        dead_letters: &Path,
        place: &Path,
        may_replace: bool,
        files: &PartialFiles,
    ) -> Result<StoreCopy, CopyError> {
        let file = database_file(folder);
        if !file.exists() {
            return Err(OpenError::Missing { folder: folder.to_owned() }.into());
        }
        let copy = StoreCopy::begin(place, may_replace, None, files)?;
        copy.copy_pages(&file)?;
        let mut connection = copy.connect()?;
        // After the orders: none of theirs is missing.
        match fs::read(dead_letters) {
            Ok(text) => copy.told(keep_dead_letters(&mut connection, &text))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CopyError::Io { file: dead_letters.to_owned(), error }),
        }
        copy.check(&connection, &file)?;
        Ok(copy)
    }

    /// Copies such a file into a folder that no process works in, to be the store there.
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
        place: &Path,
        may_replace: bool,
        folder: Option<(PathBuf, Lock)>,
        files: &PartialFiles,
    ) -> Result<StoreCopy, CopyError> {
        let partial = marker::beside(place, &format!(".{}.partial", std::process::id()));
        let noted = ENDINGS.map(|ending| files.begin(&marker::beside(&partial, ending)));
        let (place, files) = (place.to_owned(), files.clone());
        let copy = StoreCopy { partial, place, may_replace, folder, files, _noted: noted };
        copy.require_room()?;
        Ok(copy)
    }

    /// Refuses to replace what is there. A WAL alone would be taken for one of the copy.
    fn require_room(&self) -> Result<(), CopyError> {
        let files = ["", "-wal", "-journal"].map(|ending| marker::beside(&self.place, ending));
        match files.into_iter().find(|file| file.exists()) {
            Some(file) if !self.may_replace => Err(CopyError::Exists { file }),
            _ => Ok(()),
        }
    }

    /// Copies every page, as it is at one moment.
    fn copy_pages(&self, from: &Path) -> Result<(), CopyError> {
        marker::require_wal(from)?;
        let source = schema::open_reader(from).map_err(|error| match error {
            OpenError::Sqlite(error) => CopyError::Sqlite { file: from.to_owned(), error },
            other => CopyError::Open(other),
        })?;
        let mut target = self.told(Connection::open(&self.partial))?;
        let mut copy = || -> rusqlite::Result<()> {
            // Nothing reads it before it is complete, and it is removed where it does not get there.
            target.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
            // One snapshot for all steps: without it a write of the server would begin the copy anew.
            source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")?;
            let backup = Backup::new(&source, &mut target)?;
            for step in 1_u32.. {
                let begun = Instant::now();
                if backup.step(STEP)? == StepResult::Done {
                    break;
                }
                if step.is_multiple_of(SYNC_EVERY) {
                    // What fails here fails at the end, too.
                    let _ = File::open(&self.partial).and_then(|file| file.sync_data());
                }
                // Half of the time the disk is the server's alone.
                thread::sleep(begun.elapsed());
            }
            Ok(())
        };
        copy().map_err(|error| CopyError::Sqlite { file: from.to_owned(), error })
    }

    /// Opens the copy to finish it: it is a file without a WAL and without a mark.
    fn connect(&self) -> Result<Connection, CopyError> {
        let connection = self.told(Connection::open(&self.partial))?;
        self.told(connection.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA application_id = 0;"))?;
        Ok(connection)
    }

    /// Has SQLite check every page and index of the copy.
    fn check(&self, connection: &Connection, from: &Path) -> Result<(), CopyError> {
        let found: String =
            self.told(connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)))?;
        match found.as_str() {
            "ok" => Ok(()),
            _ => Err(CopyError::Damaged { file: from.to_owned(), what: found }),
        }
    }

    fn told<T>(&self, result: rusqlite::Result<T>) -> Result<T, CopyError> {
        result.map_err(|error| CopyError::Sqlite { file: self.partial.clone(), error })
    }

    /// Opens the copy for reading, to be checked.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self) -> Result<SqliteStore, OpenError> {
        SqliteStore::read(self.partial.clone())
    }

    /// How many dead letters there are in the copy.
    ///
    /// # Errors
    /// [`CopyError`].
    pub fn dead_letters(&self) -> Result<u64, CopyError> {
        let text = self.told(Connection::open(&self.partial).and_then(|it| dead_letters(&it)))?;
        Ok(text.iter().filter(|byte| **byte == b'\n').count() as u64)
    }

    /// Gives the copy its name, once all of it is on the disk.
    ///
    /// # Errors
    /// [`CopyError`]; what was there before is there still, or, where it was to be replaced, is without its WAL.
    pub fn finish(self) -> Result<(), CopyError> {
        self.files.whole(|| self.give_name())
    }

    fn give_name(&self) -> Result<(), CopyError> {
        let io = |file: &Path| {
            let file = file.to_owned();
            move |error| CopyError::Io { file, error }
        };
        if let Some((file, _)) = &self.folder {
            self.put_dead_letters_back(file).map_err(io(file))?;
        }
        let folder = folder_of(&self.place);
        File::open(&self.partial).and_then(|file| file.sync_all()).map_err(io(&self.partial))?;
        self.require_room()?;
        for ending in ["-wal", "-shm", "-journal"] {
            let file = marker::beside(&self.place, ending);
            remove(&file).map_err(io(&file))?;
        }
        // In this order also after a power cut: a WAL of what was there before would damage the copy.
        sync_folder(folder).map_err(io(folder))?;
        fs::rename(&self.partial, &self.place).map_err(io(&self.place))?;
        sync_folder(folder).map_err(io(folder))
    }

    /// Moves the dead letters from the copy into their file.
    fn put_dead_letters_back(&self, file: &Path) -> io::Result<()> {
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
            // It has its name already, or the rest of it does no harm.
            let _ = remove(&marker::beside(&self.partial, ending));
        }
    }
}

/// Keeps whole lines of dead letters in a table.
fn keep_dead_letters(connection: &mut Connection, text: &[u8]) -> rusqlite::Result<()> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let step = connection.transaction()?;
    step.execute_batch("CREATE TABLE dead_letters (seq INTEGER PRIMARY KEY, part BLOB NOT NULL) STRICT")?;
    for part in text[..whole].chunks(PART) {
        step.execute("INSERT INTO dead_letters (part) VALUES (?1)", [part])?;
    }
    step.commit()
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
