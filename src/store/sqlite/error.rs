//! The errors of opening a data folder, and of backup and restore. Each names the file or folder, and what to do. An
//! operator reads these texts at the start of a process, so each must be understandable without the code. A folder that
//! could lose orders is refused, not opened: one in use by another process, of a newer program, or copied without its
//! WAL. Errors of a store that is open are those of `store::Error`.

use std::io;
use std::path::PathBuf;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works in it.
    #[error("the data folder {} is in use by another process; stop that one or set DATA_DIR to another folder", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// A newer version of this program made it.
    #[error(
        "the data folder has schema version {found} and this program knows {known}; use a newer orderstream"
    )]
    TooNew {
        /// The folder's version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// An older version of this program made it, and it has not been migrated.
    #[error(
        "the data folder has schema version {found} and this program needs {known}; run `orderstream migrate` first"
    )]
    TooOld {
        /// The folder's version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Its database was copied while it was in use, without the WAL.
    #[error(
        "{} is a copy of a database that was in use, and its newest orders are missing: they are in {0}-wal, which does \
         not exist; copy both while the server is stopped, or make the copy with `orderstream backup`; if another \
         program (a sqlite3 shell) has emptied the WAL after a crash, or the missing orders may be lost, run \
         `orderstream migrate --accept-missing-wal` once",
        file.display()
    )]
    WithoutWal {
        /// The database file.
        file: PathBuf,
    },
    /// The linked SQLite is not safe.
    #[error(
        "this program is linked with SQLite {version}, which can lose committed orders when its WAL is restarted; build \
         it with SQLite 3.51.3 or newer, as the bundled one is: without LIBSQLITE3_SYS_USE_PKG_CONFIG"
    )]
    OldSqlite {
        /// Its version.
        version: &'static str,
    },
    /// It has no database.
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
        /// The error of the file system.
        error: io::Error,
    },
    /// SQLite refuses.
    #[error("the order database cannot be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// Why a backup or restore failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The store cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The target exists.
    #[error("{} exists; choose another file, or replace it with --force", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// The backup does not exist.
    #[error("{} does not exist", file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// It is another database.
    #[error("{} is not a backup of OrderStream", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// The file system refuses.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The error of the file system.
        error: io::Error,
    },
    /// SQLite refuses.
    #[error("{} cannot be copied: {error}", file.display())]
    Sqlite {
        /// The file.
        file: PathBuf,
        /// The error of SQLite.
        error: rusqlite::Error,
    },
    /// The copied database is damaged.
    #[error("the copy of {} is damaged, and was removed: {what}", file.display())]
    Damaged {
        /// The file that was copied.
        file: PathBuf,
        /// What SQLite found.
        what: String,
    },
}
