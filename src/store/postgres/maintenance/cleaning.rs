//! Drops old keys and history events for the retention job, on a connection of its own, so that other work does not
//! wait for it. It must never drop an event while an older one remains, because readers could not notice the gap; the
//! offset of the newest dropped event is stored by the same statement. Several processes may clean at a time: a key
//! that another one is dropping is skipped, and events are locked in the order of their offsets.

use jiff::Timestamp;
use tokio_postgres::{Client, Statement};

use crate::store::postgres::connection::pooled_connection::Prepare;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::rows::within;

/// A connection for the cleaning.
pub(in crate::store::postgres) struct Cleaning {
    client: Client,
    keys: Statement,
    history_events: Statement,
}

/// Skips keys that another process is dropping at this moment.
const KEYS: &str = "
DELETE FROM orders_keys WHERE digest = ANY (ARRAY(
    SELECT digest FROM orders_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

/// Drops events in the order of their offsets, up to the first one that is recent enough, so that no event remains
/// before a dropped one. Two processes that drop the same events lock them in the same order. The offset of the newest
/// dropped event is stored, for readers that continue later.
const EVENTS: &str = "
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
        let (keys, history_events) = tokio::try_join!(client.prepare(KEYS), client.prepare(EVENTS))?;
        Ok(Cleaning { client, keys, history_events })
    }

    fn client(&self) -> &Client {
        &self.client
    }
}

impl Cleaning {
    /// Drops keys and history events that were written before these times, at most `limit` of each. Returns how many.
    pub(in crate::store::postgres) async fn run(
        &self,
        keys_before: Timestamp,
        events_before: Option<Timestamp>,
        limit: usize,
    ) -> Result<usize, Failure> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let keys = self.client.execute(&self.keys, &[&within(keys_before), &limit]).await?;
        let events = match events_before {
            None => 0,
            Some(before) => {
                let row = self.client.query_one(&self.history_events, &[&within(before), &limit]).await?;
                row.try_get::<_, i64>(0)?.unsigned_abs()
            }
        };
        Ok(usize::try_from(keys + events).unwrap_or(usize::MAX))
    }
}
