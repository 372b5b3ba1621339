//! A lock that a test holds in the database: a session that needs the locked rows or table stops at an exact point,
//! until the lock is released or the session is ended.

use tokio_postgres::Client;

use crate::harness::wait::until;

/// The lock. Dropping it releases it, too.
pub(crate) struct Lock {
    holder: Client,
    watcher: Client,
    process: i32,
}

impl Lock {
    /// Blocks all writes to a table; reads continue.
    pub(crate) async fn on_table(holder: Client, watcher: Client, table: &str) -> Lock {
        Lock::take(holder, watcher, &format!("LOCK TABLE {table} IN SHARE MODE")).await
    }

    /// Blocks all reads and writes of a table.
    pub(crate) async fn on_all(holder: Client, watcher: Client, table: &str) -> Lock {
        Lock::take(holder, watcher, &format!("LOCK TABLE {table}")).await
    }

    /// Blocks all writes to the existing orders; new orders can be created.
    pub(crate) async fn on_orders(holder: Client, watcher: Client) -> Lock {
        Lock::take(holder, watcher, "SELECT 1 FROM orders FOR UPDATE").await
    }

    async fn take(holder: Client, watcher: Client, sql: &str) -> Lock {
        holder.batch_execute(&format!("BEGIN; {sql}")).await.expect("a lock");
        let process = holder.query_one("SELECT pg_backend_pid()", &[]).await.expect("a session").get(0);
        Lock { holder, watcher, process }
    }

    /// Waits until a session waits for the lock.
    pub(crate) async fn is_waited_for(&self) {
        until("a session that waits for the lock", async || (self.waiting().await > 0).then_some(())).await;
    }

    /// Ends the sessions that wait for the lock, as an administrator would, and waits until they are gone.
    pub(crate) async fn end_waiting_sessions(&self) {
        let sql = format!("SELECT pg_terminate_backend(pid) {WAITING}");
        self.watcher.query(&sql, &[&self.process]).await.expect("an answer");
        until("the sessions to be gone", async || (self.waiting().await == 0).then_some(())).await;
    }

    /// Releases the lock, so that the waiting sessions continue.
    pub(crate) async fn release(self) {
        self.holder.batch_execute("ROLLBACK").await.expect("the lock's session");
    }

    async fn waiting(&self) -> i64 {
        let sql = format!("SELECT count(*) {WAITING}");
        self.watcher.query_one(&sql, &[&self.process]).await.expect("an answer").get(0)
    }
}

/// The sessions that wait for that process.
const WAITING: &str = "FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
