//! Maintenance of the embedded store: its clock, the cleaning of old rows, the check of the writing thread, and the
//! close. A store that was opened for reading only refuses to clean. A check of the thread reports its last write or
//! probe, and neither writes nor waits. A close refuses new reads and jobs, and returns when the thread has finished
//! the jobs in its queue.

use async_trait::async_trait;
use jiff::Timestamp;

use super::store::SqliteStore;
use crate::store::{Error, Maintenance};

#[async_trait]
impl Maintenance for SqliteStore {
    async fn now(&self) -> Result<Timestamp, Error> {
        Ok(self.clock.now())
    }

    async fn clean(
        &self,
        keys_before: Timestamp,
        events_before: Option<Timestamp>,
        limit: usize,
    ) -> Result<usize, Error> {
        self.writer()?.clean(keys_before, events_before, limit).await
    }

    async fn check(&self) -> Result<(), Error> {
        match &self.writer {
            Some(writer) => writer.check(),
            None => self.readers.run(|_| Ok(())).await,
        }
    }

    async fn failed(&self) -> &'static str {
        self.components.failed().await
    }

    async fn close(&self) {
        self.readers.close();
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }
}
