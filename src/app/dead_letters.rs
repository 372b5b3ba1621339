//! Dead letters of the in-process bus. A process with an embedded store keeps them in a file of its data directory.
//! Processes that share a Postgres keep them in a table of that database, which all of them see, and need no folder.
//! The bus and the store do not know each other; this adapter knows both.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::bus::{DeadLetter, DeadLetterSink, PublishError};
use crate::config::Settings;
use crate::store::Error;
use crate::store::postgres::{self, PostgresStore};

/// The dead letters in a Postgres database.
pub struct DeadLetterTable(Arc<PostgresStore>);

impl DeadLetterTable {
    /// The table in the database of this store.
    #[must_use]
    pub fn of(store: Arc<PostgresStore>) -> DeadLetterTable {
        DeadLetterTable(store)
    }
}

#[async_trait]
impl DeadLetterSink for DeadLetterTable {
    async fn keep(&self, letter: DeadLetter) -> Result<(), PublishError> {
        let DeadLetter { reason, source, record } = &letter;
        let letter = postgres::DeadLetter {
            reason,
            topic: &source.topic,
            partition: source.partition,
            offset: source.offset,
            timestamp: source.timestamp,
            key: record.key.as_deref(),
            headers: &record.headers,
            value: &record.value,
        };
        self.0.keep_dead_letter(&letter).await.map_err(unavailable)
    }

    async fn count(&self) -> Result<u64, PublishError> {
        self.0.dead_letters().await.map_err(unavailable)
    }
}

fn unavailable(error: Error) -> PublishError {
    PublishError::Unavailable(format!("dead letters are kept in Postgres: {error}"))
}

/// The file of the dead letters beside an embedded store.
pub(super) fn dead_letter_file(settings: &Settings) -> PathBuf {
    settings.data_dir.join(format!("{}.dlq.jsonl", settings.orders_events_topic))
}
