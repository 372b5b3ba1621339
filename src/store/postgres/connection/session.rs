//! A session: its purpose, and its settings before it does any work: when a commit counts as durable, and how long the
//! server waits for statements and for lost clients. The setup takes one round trip, which also checks whether the
//! server is fit for the purpose. A session on which a commit would not be durable must never be used for writes.

use std::time::Duration;

use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::postgres::failure::Failure;

/// How much longer than the server's own limit the client waits for an answer.
pub(super) const ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// The purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::postgres) enum Purpose {
    /// Writes: the server must accept them.
    Write,
    /// Reads that must see every confirmed write.
    Read,
    /// Reads that may see the state of a moment ago.
    ReadAnywhere,
}

/// Opens a connection without any settings of ours.
pub(in crate::store::postgres) async fn open(
    config: &Config,
    tls: &MakeRustlsConnect,
) -> Result<Client, Failure> {
    let (client, connection) = config.connect(tls.clone()).await?;
    tokio::spawn(async move {
        // Every call on the connection then fails with the reason, so a line for debugging is enough.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to Postgres ended");
        }
    });
    Ok(client)
}

/// Sets a session up.
///
/// # Errors
/// [`Failure`] with the reason where the server is not fit for the purpose.
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

/// A commit must be on disk before it is confirmed, even where the server's own setting is weaker; a stronger setting,
/// which waits for standbys, stays. JIT is off, because statements are shorter than their compilation. A transaction is
/// sent as a whole, so a session that is idle in a transaction has lost its client. The server detects lost clients as
/// fast as clients detect a lost server.
fn sql(limit: Duration) -> String {
    let (limit, lost_client) = (limit.as_millis(), (limit + ANSWER_MARGIN).as_millis());
    format!(
        "SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {lost_client};
         SET timezone = 'UTC'; SET jit = off;
         SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
         SET tcp_user_timeout = {lost_client};
         SELECT pg_is_in_recovery() AS in_recovery, current_setting('transaction_read_only')::bool AS read_only,
                set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                           WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false) AS durability"
    )
}
