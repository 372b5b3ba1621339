//! The dead letters of processes that share a database without a broker: rows of a table, which all of them see. They
//! are kept for ever, as in a topic of Kafka. A letter may be there twice, where a process was killed between keeping
//! it and settling its record.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_postgres::{Client, Statement};

use super::PostgresStore;
use super::link::Prepare;
use super::reads::Reads;
use super::rows::within;
use super::trouble::Trouble;
use crate::store::Error;

/// The longest value that is kept whole.
const LONGEST: usize = 64 << 20;

/// How much is kept of a value that is longer.
const KEPT: usize = 8 << 10;

const KEEP: &str = "
INSERT INTO orders_dead_letters (reason, source_topic, source_partition, source_offset, source_timestamp, key,
                                 header_names, header_values, value, cut_from)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// A record that no worker could deal with.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// Why no worker could.
    pub reason: &'a str,
    /// The topic that the record came from.
    pub topic: &'a str,
    /// Its partition within the topic.
    pub partition: i32,
    /// Its place within the partition.
    pub offset: i64,
    /// When it was made.
    pub timestamp: Timestamp,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its headers, names and values.
    pub headers: &'a [(String, Vec<u8>)],
    /// Its value. Of a very long one the beginning is kept, and the length.
    pub value: &'a [u8],
}

/// A connection that keeps dead letters.
pub(super) struct DeadLetters {
    client: Client,
    keep: Statement,
}

impl Prepare for DeadLetters {
    const WRITES: bool = true;

    async fn prepare(client: Client, _: bool) -> Result<DeadLetters, tokio_postgres::Error> {
        let keep = client.prepare(KEEP).await?;
        Ok(DeadLetters { client, keep })
    }

    fn client(&self) -> &Client {
        &self.client
    }
}

impl DeadLetters {
    async fn keep(&self, letter: &DeadLetter<'_>) -> Result<(), Trouble> {
        let names: Vec<String> = letter.headers.iter().map(|(name, _)| text(name)).collect();
        let values: Vec<&[u8]> = letter.headers.iter().map(|(_, value)| value.as_slice()).collect();
        let (value, cut_from) = match letter.value.len() {
            length if length > LONGEST => (&letter.value[..KEPT], i64::try_from(length).ok()),
            _ => (letter.value, None),
        };
        let (reason, topic, timestamp) = (text(letter.reason), text(letter.topic), within(letter.timestamp));
        let DeadLetter { partition, offset, key, .. } = letter;
        self.client
            .execute(
                &self.keep,
                &[&reason, &topic, partition, offset, &timestamp, key, &names, &values, &value, &cut_from],
            )
            .await?;
        Ok(())
    }
}

/// Postgres has no NUL in a text.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

impl PostgresStore {
    /// Keeps a dead letter in the database, for ever. Answers when it is durable. Keeping it again is harmless: it is
    /// there twice then.
    ///
    /// # Errors
    /// [`Error`] where it may not be there.
    pub async fn keep_dead_letter(&self, letter: &DeadLetter<'_>) -> Result<(), Error> {
        self.dead_letters.read(|session: Arc<DeadLetters>| async move { session.keep(letter).await }).await
    }

    /// How many dead letters all processes have kept in the database.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn dead_letters(&self) -> Result<u64, Error> {
        let count = |reads: Arc<Reads>| async move {
            let row = reads.client().query_one("SELECT count(*) FROM orders_dead_letters", &[]).await?;
            Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
        };
        self.reads.read(count).await
    }
}
