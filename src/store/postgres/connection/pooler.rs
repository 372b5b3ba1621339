//! Whether a pooler shares connections between transactions, as `PgBouncer` does with `pool_mode = transaction`.
//! Prepared statements, settings of a session and locks of a session would then meet other clients' sessions. Asked
//! once for each server, before anything is set, so that nothing is left behind on a shared connection.

use tokio_postgres::{Client, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::session::open;
use crate::store::postgres::failure::Failure;

/// How often two connections are compared. A pooler may hand out one of several idle sessions; the newest as a rule.
const ROUNDS: usize = 3;

/// Which session of the server answers: its process, and when that began. Asked in the simple protocol, since a pooler
/// may know no other statements.
const WHICH: &str = "SELECT pg_backend_pid() || ' ' || coalesce((SELECT backend_start FROM pg_stat_activity
                      WHERE pid = pg_backend_pid())::text, '')";

/// Fails where two connections that are open at a time are answered by one session, or one by several.
pub(super) async fn refuse_shared(config: &Config, tls: &MakeRustlsConnect) -> Result<(), Failure> {
    let first = open(config, tls).await?;
    let Ok(second) = open(config, tls).await else {
        // The server may have room for one more alone; it cannot be told then.
        return Ok(());
    };
    let mut known: Option<(String, String)> = None;
    for _ in 0..ROUNDS {
        let seen = (which(&first).await?, which(&second).await?);
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

async fn which(client: &Client) -> Result<String, Failure> {
    let messages = client.simple_query(WHICH).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(row.ok_or(Failure::Timeout)?.to_owned())
}
