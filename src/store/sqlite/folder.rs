//! The data folder: where the database is in it, and the lock that keeps a second process out.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::error::OpenError;

/// The database file of a data folder.
pub(super) fn database_file(folder: &Path) -> PathBuf {
    folder.join("orders.db")
}

/// The lock of a folder. The operating system lets go of it when the process dies.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is being started beside us holds a copy until its exec.
        let _ = self.0.unlock();
    }
}

/// Takes the folder for this process.
pub(super) fn lock(folder: &Path) -> Result<Lock, OpenError> {
    let refused = |error| OpenError::Io { folder: folder.to_owned(), error };
    fs::create_dir_all(folder).map_err(refused)?;
    let lock = File::create(folder.join("LOCK")).map_err(refused)?;
    match lock.try_lock() {
        Ok(()) => Ok(Lock(lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}
