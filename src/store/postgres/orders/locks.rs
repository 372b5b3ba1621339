//! Locks on the rows of a transaction. A batch with several statements locks the rows of all of them first, in the
//! order of their ids. Without that, one batch could hold order 5 and wait for order 3 while another one holds 3 and
//! waits for 5: a deadlock, which the server ends after a second by failing one of the two.

use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::store::postgres::failure::Failure;

/// The statement that locks rows.
pub(super) struct Locks(Statement);

/// Takes the lock that an update of the row takes. A nested loop reads the rows in the order of the array; an ORDER BY
/// would add a sort, or a plan that scans the whole table.
const TAKE: &str = "SELECT FROM unnest($1::uuid[]) AS c (id) JOIN orders o ON o.order_id = ANY (ARRAY[c.id])
    FOR NO KEY UPDATE OF o";

impl Locks {
    /// Prepares the statement.
    pub(in crate::store::postgres) async fn prepare(client: &Client) -> Result<Locks, tokio_postgres::Error> {
        Ok(Locks(client.prepare(TAKE).await?))
    }

    /// Locks the orders of several statements that follow in the same transaction. A single statement locks its own
    /// rows in order, so nothing is sent for it.
    pub(in crate::store::postgres) async fn take(
        &self,
        client: &Client,
        statements: impl IntoIterator<Item = Vec<Uuid>>,
    ) -> Result<(), Failure> {
        let statements: Vec<Vec<Uuid>> = statements.into_iter().filter(|ids| !ids.is_empty()).collect();
        if statements.len() < 2 {
            return Ok(());
        }
        let mut ids = statements.concat();
        ids.sort_unstable();
        client.execute(&self.0, &[&ids]).await?;
        Ok(())
    }
}
