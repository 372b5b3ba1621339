//! Checks whether the server accepts writes. It has a connection of its own, so that commands and checks do not wait
//! for each other. It reads from all tables that the store works with, so that a missing migration fails the check: a
//! migration that adds a table needs a line here. A check must not change anything: the table that tests whether a full
//! disk has space again is temporary and ends with its transaction.

use tokio_postgres::{Client, Statement};

use crate::store::postgres::connection::pooled_connection::Prepare;
use crate::store::postgres::failure::Failure;

/// A connection for checks.
pub(in crate::store::postgres) struct Checking {
    client: Client,
    check: Statement,
}

/// Also fails where a table is missing.
const CHECK: &str = "
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool
  FROM (SELECT 1) AS one
  LEFT JOIN (SELECT 1 FROM orders_outbox LIMIT 1) AS two ON true
  LEFT JOIN (SELECT 1 FROM orders_keys LIMIT 1) AS three ON true
  LEFT JOIN (SELECT history_place, own_at FROM orders LIMIT 1) AS four ON true
  LEFT JOIN (SELECT 1 FROM orders_history, orders_history_origin, orders_history_dropped LIMIT 1) AS five ON true
  LEFT JOIN (SELECT 1 FROM orders_expansions LIMIT 1) AS six ON true
  LEFT JOIN (SELECT 1 FROM orders_dead_letters LIMIT 1) AS seven ON true";

/// Allocates as much space on the disk as a large batch, in rows too short to be compressed, and frees it.
const ALLOCATE: &str = "
CREATE TEMP TABLE orderstream_room ON COMMIT DROP AS SELECT repeat('x', 1900) AS filler FROM generate_series(1, 2200)";

impl Prepare for Checking {
    const WRITES: bool = true;

    async fn prepare(client: Client, _: bool) -> Result<Checking, tokio_postgres::Error> {
        let check = client.prepare(CHECK).await?;
        Ok(Checking { client, check })
    }

    fn client(&self) -> &Client {
        &self.client
    }
}

impl Checking {
    /// Whether the server accepts writes, and has the tables.
    pub(in crate::store::postgres) async fn run(&self) -> Result<(), Failure> {
        let row = self.client.query_one(&self.check, &[]).await?;
        match row.try_get(0)? {
            true => Err(Failure::ReadOnly),
            false => Ok(()),
        }
    }

    /// Whether a disk that was full has space again.
    pub(super) async fn find_space(&self) -> Result<(), Failure> {
        match self.client.batch_execute(ALLOCATE).await.map_err(Failure::from) {
            // Such a failure is not about the disk: the login may not create temporary tables, for instance.
            Err(failure) if !failure.is_disk_full() && !failure.ends_connection() => Ok(()),
            outcome => outcome,
        }
    }
}
