//! Whether the server takes writes, asked on a connection of its own: no command waits behind the question, and it
//! waits behind no command.

use tokio_postgres::{Client, Statement};

use crate::store::postgres::connection::pooled_connection::Prepare;
use crate::store::postgres::failure::Failure;

/// A connection that asks.
pub(in crate::store::postgres) struct Checking {
    client: Client,
    check: Statement,
}

/// Fails where a table is missing, too.
const CHECK: &str = "
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool
  FROM (SELECT 1) AS one
  LEFT JOIN (SELECT 1 FROM orders_outbox LIMIT 1) AS two ON true
  LEFT JOIN (SELECT 1 FROM orders_keys LIMIT 1) AS three ON true
  LEFT JOIN (SELECT history_place, own_at FROM orders LIMIT 1) AS four ON true
  LEFT JOIN (SELECT 1 FROM orders_history, orders_history_origin, orders_history_dropped LIMIT 1) AS five ON true
  LEFT JOIN (SELECT 1 FROM orders_expansions LIMIT 1) AS six ON true
  LEFT JOIN (SELECT 1 FROM orders_dead_letters LIMIT 1) AS seven ON true";

/// Takes as much room on the disk as a large batch does, in rows too short to be compressed, and gives it back.
const TAKE_ROOM: &str = "
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
    /// Whether this server takes writes, and has the tables.
    pub(in crate::store::postgres) async fn run(&self) -> Result<(), Failure> {
        let row = self.client.query_one(&self.check, &[]).await?;
        match row.try_get(0)? {
            true => Err(Failure::ReadOnly),
            false => Ok(()),
        }
    }

    /// Whether a disk that was full has room again.
    pub(super) async fn take_room(&self) -> Result<(), Failure> {
        match self.client.batch_execute(TAKE_ROOM).await.map_err(Failure::from) {
            // It says nothing about the disk: a login may not make temporary tables, for instance.
            Err(failure) if !failure.is_about_a_full_disk() && !failure.ends_connection() => Ok(()),
            outcome => outcome,
        }
    }
}
