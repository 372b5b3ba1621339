//! Dropping what is kept for a time only, on a connection of its own: no other work waits behind it.

use jiff::Timestamp;
use tokio_postgres::{Client, Statement};

use crate::store::postgres::connection::pooled_connection::Prepare;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::rows::within;

/// A connection that cleans.
pub(in crate::store::postgres) struct Cleaning {
    client: Client,
    keys: Statement,
    history_events: Statement,
}

/// Keys that another process is dropping at this moment are left to it.
const KEYS: &str = "
DELETE FROM orders_keys WHERE digest = ANY (ARRAY(
    SELECT digest FROM orders_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

/// In the order of their places, up to the first that is too young, so that never one is left that is before one that
/// was dropped. Two processes that drop the same steps meet them in the order in which they lie.
/// The newest of them is noted, for readers who come back later.
const STEPS: &str = "
WITH gone AS (
    DELETE FROM orders_history WHERE ctid = ANY (ARRAY(
        SELECT row FROM (
            SELECT ctid AS row, max(at) OVER (ORDER BY place, seq) AS newest
              FROM (SELECT ctid, at, place, seq FROM orders_history ORDER BY place, seq LIMIT $2) AS oldest
        ) AS ordered WHERE newest < $1))
    RETURNING place, seq
), noted AS (
    UPDATE orders_history_dropped d SET place = n.place, seq = n.seq
      FROM (SELECT place, seq FROM gone ORDER BY place DESC, seq DESC LIMIT 1) AS n
     WHERE d.single AND (d.place, d.seq) < (n.place, n.seq)
)
SELECT count(*) FROM gone";

impl Prepare for Cleaning {
    const WRITES: bool = true;

    async fn prepare(client: Client, _: bool) -> Result<Cleaning, tokio_postgres::Error> {
        let (keys, history_events) = tokio::try_join!(client.prepare(KEYS), client.prepare(STEPS))?;
        Ok(Cleaning { client, keys, history_events })
    }

    fn client(&self) -> &Client {
        &self.client
    }
}

impl Cleaning {
    /// Drops keys and steps that were written before a time each, at most so many of each. Answers how many.
    pub(in crate::store::postgres) async fn run(
        &self,
        keys_before: Timestamp,
        steps_before: Option<Timestamp>,
        limit: usize,
    ) -> Result<usize, Failure> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let keys = self.client.execute(&self.keys, &[&within(keys_before), &limit]).await?;
        let steps = match steps_before {
            None => 0,
            Some(before) => {
                let row = self.client.query_one(&self.history_events, &[&within(before), &limit]).await?;
                row.try_get::<_, i64>(0)?.unsigned_abs()
            }
        };
        Ok(usize::try_from(keys + steps).unwrap_or(usize::MAX))
    }
}
