//! A session: what it is for, how its connection is opened, and what it is set to before it does any work: when a
//! commit counts as durable, and how long the server waits for statements and for clients that have vanished. One round
//! trip, which also tells whether the server is fit for the purpose of the connection.

use std::time::Duration;

use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::postgres::failure::Failure;

/// How much longer than the server's own limit an answer is waited for.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::postgres) enum Purpose {
    /// Writes: the server must take them.
    Write,
    /// Reads that must see every write that was confirmed before.
    Read,
    /// Reads that may be a little late.
    ReadAnywhere,
}

/// Opens a connection on which nothing is set.
pub(in crate::store::postgres) async fn open(
    config: &Config,
    tls: &MakeRustlsConnect,
) -> Result<Client, Failure> {
    let (client, connection) = config.connect(tls.clone()).await?;
    tokio::spawn(async move {
        // Its end shows in every call; the reason is told there, or was told to those who waited.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to Postgres ended");
        }
    });
    Ok(client)
}

/// Sets a session up, or says why it cannot be used.
pub(super) async fn set_up(client: &Client, purpose: Purpose, limit: Duration) -> Result<(), Failure> {
    let rows = client.simple_query(&sql(limit)).await?;
    let row = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or(Failure::Timeout)?;
    let is_on = |name: &str| row.try_get(name).map(|value| value == Some("t"));
    let (in_recovery, is_read_only) = (is_on("in_recovery")?, is_on("read_only")?);
    let durability = row.try_get("durability")?.unwrap_or_default();
    match purpose {
        Purpose::Write if in_recovery || is_read_only => return Err(Failure::ReadOnly),
        Purpose::Read if in_recovery => return Err(Failure::Standby),
        _ => {}
    }
    if purpose == Purpose::Write && !matches!(durability, "on" | "remote_apply") {
        return Err(Failure::Unusable(format!(
            "synchronous_commit stays {durability:?}: a crash of the server would lose orders that were confirmed; \
             let this login set it to on"
        )));
    }
    Ok(())
}

/// A commit must be on disk before it is confirmed, also where the server's own setting says otherwise; one that waits
/// for standbys, too, stays. No statement here runs for as long as compiling it would take. A transaction is sent as a
/// whole, so a session that is idle in the middle of one has lost its client. The server looks for vanished clients as
/// often as they look for it.
fn sql(limit: Duration) -> String {
    let (limit, vanished) = (limit.as_millis(), (limit + SILENCE).as_millis());
    format!(
        "SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {vanished};
         SET timezone = 'UTC'; SET jit = off;
         SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
         SET tcp_user_timeout = {vanished};
         SELECT pg_is_in_recovery() AS in_recovery, current_setting('transaction_read_only')::bool AS read_only,
                set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                           WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false) AS durability"
    )
}
