//! Dead letters in the database: keeps and counts them, for processes that share a store and have no broker. The
//! in-process bus of such a process uses it through a sink that `app` wires. A dead letter must be durable before its
//! record is settled.

mod table;

use std::sync::Arc;

use super::connection::pooled_connection::Prepare;
use super::reads::Reads;
use super::store::PostgresStore;
use crate::store::Error;

pub use self::table::DeadLetter;
pub(super) use self::table::DeadLetters;

impl PostgresStore {
    /// Keeps a dead letter in the database, for ever. Returns when it is durable. A retry is harmless: the letter is
    /// then kept twice.
    ///
    /// # Errors
    /// [`Error`] where it may not have been kept.
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
