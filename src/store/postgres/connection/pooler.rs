//! Detects a pooler that shares connections between transactions, as `PgBouncer` does with `pool_mode = transaction`.
//! Prepared statements, settings and locks of a session would then leak into other clients' sessions. The check runs
//! once for each server, before anything is set, so that it leaves nothing on a shared connection.

use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::session::open;
use crate::store::postgres::failure::Failure;

/// How often two connections are compared. A pooler may use any of several idle sessions, usually the newest.
const COMPARISONS: usize = 3;

/// The session of the server that answers: its process, and when that began. Sent in the simple protocol, because a
/// pooler may not support the extended one.
const SESSION_ID: &str =
    "SELECT pg_backend_pid() || ' ' || coalesce((SELECT backend_start FROM pg_stat_activity
                      WHERE pid = pg_backend_pid())::text, '')";

/// Fails where one session answers two open connections, or several sessions answer one.
pub(super) async fn refuse_shared(config: &Config, tls: &MakeRustlsConnect) -> Result<(), Failure> {
    let first = open(config, tls).await?;
    let Ok(second) = open(config, tls).await else {
        // The server may accept only one more connection. Then the check is not possible.
        return Ok(());
    };
    let mut known: Option<(String, String)> = None;
    for _ in 0..COMPARISONS {
        let seen = (session_id(&first).await?, session_id(&second).await?);
        let changed = known.replace(seen.clone()).is_some_and(|known| known != seen);
        if changed || seen.0 == seen.1 {
            return Err(Failure::Unusable(
                "a pooler shares its connections between transactions (PgBouncer: pool_mode = transaction or \
                 statement); connect to Postgres itself, or through a pool with pool_mode = session"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

async fn session_id(client: &Client) -> Result<String, Failure> {
    let messages = client.simple_query(SESSION_ID).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(row.ok_or(Failure::Timeout)?.to_owned())
}
