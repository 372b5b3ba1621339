//! The data folder: the path of its database, and the lock that refuses a second process. The database relies on the
//! lock: two writing processes would each have a memtable of the index, and neither would find the other's entries. The
//! writing thread holds the lock until its end, and the operating system releases it with the process, so a `LOCK` file
//! that remains locks nothing. A store that only reads does not take the lock.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::error::OpenError;

/// The database file of a data folder.
pub(super) fn database_file(folder: &Path) -> PathBuf {
    folder.join("orders.db")
}

/// The lock of a folder. The operating system releases it when the process ends.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is being started holds a copy until its exec.
        let _ = self.0.unlock();
    }
}

/// Locks the folder for this process.
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
