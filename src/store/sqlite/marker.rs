//! A mark in the database file that shows whether the file is complete without its WAL. While a store is open, its
//! newest orders are in the WAL, so a copy of the file alone lacks them, but looks like a whole database. The mark is
//! the `application_id` of the file's header, set while the store is open: a marked file without a WAL is incomplete. A
//! killed process leaves both the mark and the WAL, which is complete.
//!
//! The mark contains the schema cookie of the header. SQLite changes the cookie in the copies that it makes itself (a
//! backup, `VACUUM INTO`), which are complete: there the mark does not count.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::error::OpenError;

/// The upper half of a mark: "OS". The lower half is the lower half of the schema cookie.
const MARK: u32 = 0x4f53_0000;

/// The length of a database file's header, and the offsets of the schema cookie and of the `application_id` in it.
const HEADER: usize = 100;
const COOKIE_AT: usize = 40;
const APPLICATION_ID_AT: usize = 68;

fn mark(cookie: u32) -> u32 {
    MARK | cookie & 0xffff
}

/// Refuses a database file that lacks its WAL. The caller must call this before SQLite opens the file: SQLite creates a
/// WAL, and closing a file that SQLite has open in this process releases its locks.
pub(super) fn require_wal(file: &Path) -> Result<(), OpenError> {
    let folder = || file.parent().unwrap_or(file).to_owned();
    match lacks_wal(file) {
        Ok(false) => Ok(()),
        Ok(true) => Err(OpenError::WithoutWal { file: file.to_owned() }),
        Err(error) => Err(OpenError::Io { folder: folder(), error }),
    }
}

fn lacks_wal(file: &Path) -> io::Result<bool> {
    if fs::metadata(beside(file, "-wal")).is_ok_and(|wal| wal.len() > 0) {
        return Ok(false);
    }
    let mut header = [0; HEADER];
    match File::open(file).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) => Ok(number(&header, APPLICATION_ID_AT) == mark(number(&header, COOKIE_AT))),
        // A file that does not exist, or is empty, is a new database.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// A number of four bytes in a header.
fn number(header: &[u8; HEADER], at: usize) -> u32 {
    header[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The path of a file that SQLite keeps beside a database.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut path = OsString::from(file);
    path.push(ending);
    path.into()
}

/// Marks the database as open. The checkpoint writes the mark to the file, unless a reader prevents that.
pub(super) fn set(connection: &Connection) -> rusqlite::Result<()> {
    let cookie: u32 = connection.pragma_query_value(None, "schema_version", |row| row.get(0))?;
    let found: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let mark = mark(cookie).cast_signed();
    if found != mark {
        connection.pragma_update(None, "application_id", mark)?;
    }
    checkpoint(connection)
}

/// Removes the mark, and lets the last closed connection copy the WAL into the file. If that fails, the WAL stays.
pub(super) fn clear(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", 0)?;
    checkpoint(connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(drop)
}

/// Keeps the WAL when the connection is closed: a marked file is not complete without it.
pub(super) fn keep_wal(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
