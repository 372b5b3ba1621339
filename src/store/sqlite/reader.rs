//! The readers: at most four connections that only read, used on blocking threads, never on an async one. They see
//! committed transactions only, and do not wait for the writer. A query runs to its end and keeps its connection, also
//! where its caller has left, so the number of running queries is bounded. A connection whose query failed must not be
//! used again. After the close, reads fail.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::rows::readable;
use super::schema;
use crate::store::Error;

/// How many reading connections there may be. More would not be faster: a read takes microseconds, and each connection
/// has a page cache.
const CONNECTIONS: usize = 4;

/// Reading connections, opened when they are needed and then kept.
pub(super) struct Readers {
    file: PathBuf,
    // std Mutex: held for a push or a pop, never across .await
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(file: PathBuf) -> Readers {
        Readers { file, idle: Arc::default(), permits: Arc::new(Semaphore::new(CONNECTIONS)) }
    }

    /// Runs a query on an idle connection; waits for one if all are busy.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let permits = Arc::clone(&self.permits);
        let permit = Arc::clone(&permits).acquire_owned().await.map_err(|_| closed())?;
        let (file, idle) = (self.file.clone(), Arc::clone(&self.idle));
        let work = move || {
            let _permit = permit;
            let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match kept {
                Some(connection) => connection,
                None => schema::open_reader(&file).map_err(|error| Error::Unavailable(error.to_string()))?,
            };
            let answer = query(&connection).map_err(failed)?;
            // A connection whose query failed is not kept: the next read begins with a fresh one.
            if !permits.is_closed() {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            Ok(answer)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::Unavailable(error.to_string()))?
    }

    /// Refuses further reads and closes the idle connections.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The error for the caller of a read. A damaged row only fails a read of that row.
fn failed(error: rusqlite::Error) -> Error {
    match readable::<()>(Err(error)) {
        Ok(Err(damaged)) => Error::Damaged(damaged),
        Ok(Ok(())) => closed(),
        Err(error) => Error::Unavailable(error.to_string()),
    }
}

fn closed() -> Error {
    Error::Unavailable("the store is closed".to_owned())
}
