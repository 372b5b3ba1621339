//! Files that are being made and do not have their own name yet. A process that ends by a signal removes them, because
//! no destructor runs then. While one gets its name, the process does not end: it is there as a whole, or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The partial files of this process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct PartialFiles {
    // std Mutex: held to note a file, to finish one, or to the end of the process; never across .await
    files: Arc<Mutex<Vec<PathBuf>>>,
}

/// A file that is known as partial until this is dropped.
#[derive(Debug)]
pub struct PartialFile {
    files: PartialFiles,
    path: PathBuf,
}

/// Keeps the process from ending by a signal.
pub(super) type Held<'a> = MutexGuard<'a, Vec<PathBuf>>;

impl PartialFiles {
    /// Notes a file, before it is made.
    #[must_use]
    pub fn begin(&self, path: &Path) -> PartialFile {
        self.lock().push(path.to_owned());
        PartialFile { files: self.clone(), path: path.to_owned() }
    }

    /// Does what must not be left half done: a signal ends the process before it or after it.
    pub fn whole<T>(&self, work: impl FnOnce() -> T) -> T {
        let _held = self.lock();
        work()
    }

    /// Removes all of them; none is begun or finished while the result lives.
    pub(super) fn remove_all(&self) -> Held<'_> {
        let files = self.lock();
        for file in &*files {
            // What is not there needs no removal, and there is no caller left to tell of the rest.
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
