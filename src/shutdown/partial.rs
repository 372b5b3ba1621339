//! Partial files: files that are being written and do not have their final name yet. A process that ends by a signal
//! removes them, because no destructor runs then. While a file gets its name, a signal does not end the process: the
//! file exists as a whole, or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The partial files of this process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct PartialFiles {
    // std Mutex: held to register a file, to finish one, or to the end of the process; never across .await
    files: Arc<Mutex<Vec<PathBuf>>>,
}

/// A file that counts as partial until this is dropped.
#[derive(Debug)]
pub struct PartialFile {
    files: PartialFiles,
    path: PathBuf,
}

/// While this lives, no partial file is begun or finished.
pub(super) type Locked<'a> = MutexGuard<'a, Vec<PathBuf>>;

impl PartialFiles {
    /// Registers a file, before it is created.
    #[must_use]
    pub fn begin(&self, path: &Path) -> PartialFile {
        self.lock().push(path.to_owned());
        PartialFile { files: self.clone(), path: path.to_owned() }
    }

    /// Runs `work` as a whole: a signal ends the process before it or after it.
    pub fn whole<T>(&self, work: impl FnOnce() -> T) -> T {
        let _locked = self.lock();
        work()
    }

    /// Removes all partial files; none is begun or finished while the result lives.
    pub(super) fn remove_all(&self) -> Locked<'_> {
        let files = self.lock();
        for file in &*files {
            // The process is ending, so a failure to remove a file has no caller to report it to.
            let _ = fs::remove_file(file);
        }
        files
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        self.files.lock().retain(|file| *file != self.path);
    }
}
