//! The table of dead letters, for processes that share a database without a broker. Letters are kept for ever, as in a
//! topic of Kafka. A letter may be kept twice, where a process was killed between keeping it and settling its record.
//! The table must never be cleaned by this program: an operator decides about dead letters.

use jiff::Timestamp;
use tokio_postgres::{Client, Statement};

use crate::store::postgres::connection::pooled_connection::Prepare;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::rows::within;

/// The longest value that is kept whole, in bytes.
const MAX_WHOLE_BYTES: usize = 64 << 20;

/// How many bytes of a longer value are kept.
const CUT_BYTES: usize = 8 << 10;

const KEEP: &str = "
INSERT INTO orders_dead_letters (reason, source_topic, source_partition, source_offset, source_timestamp, key,
                                 header_names, header_values, value, cut_from)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// A record that no worker could process.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// Why not.
    pub reason: &'a str,
    /// The topic of the record.
    pub topic: &'a str,
    /// Its partition within the topic.
    pub partition: i32,
    /// Its offset within the partition.
    pub offset: i64,
    /// When it was created.
    pub timestamp: Timestamp,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its headers, names and values.
    pub headers: &'a [(String, Vec<u8>)],
    /// Its value. Only the beginning of a very long value is kept, with the length.
    pub value: &'a [u8],
}

/// A connection that keeps dead letters.
pub(in crate::store::postgres) struct DeadLetters {
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
    /// Keeps a letter.
    pub(in crate::store::postgres) async fn keep(&self, letter: &DeadLetter<'_>) -> Result<(), Failure> {
        let names: Vec<String> = letter.headers.iter().map(|(name, _)| text(name)).collect();
        let values: Vec<&[u8]> = letter.headers.iter().map(|(_, value)| value.as_slice()).collect();
        let (value, cut_from) = match letter.value.len() {
            length if length > MAX_WHOLE_BYTES => (&letter.value[..CUT_BYTES], i64::try_from(length).ok()),
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

/// Replaces NUL, which a text of Postgres cannot hold.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
