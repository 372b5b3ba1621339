//! Several statements as one transaction, in one round trip: everything is sent before the first answer is read. An
//! error must mean that nothing of the transaction happened, or that its outcome is not known. It relies on a driver
//! that sends statements in the order of their first poll, and on a connection on which no other statement is sent
//! during that poll. The driver does not report that the server answered the COMMIT with a ROLLBACK; the SELECT before
//! it fails then, and shows it.

use tokio_postgres::Client;

use crate::store::postgres::failure::Failure;

/// Runs statements that are sent when the future is first polled, between BEGIN and COMMIT where `needed`. An error
/// of any of them undoes all of them: the server answers the COMMIT after it with a ROLLBACK.
///
/// No other statement may be sent on this connection during that poll: a
/// [`PooledConnection`](crate::store::postgres::connection::pooled_connection::PooledConnection) sees to that.
pub(super) async fn around<T>(
    client: &Client,
    needed: bool,
    statements: impl Future<Output = Result<T, Failure>> + Send,
) -> Result<T, Failure> {
    if !needed {
        return statements.await;
    }
    // Polled, and so sent, in this order. Not try_join: the COMMIT must be sent even where a statement fails. The
    // driver does not report that the server answered the COMMIT with a ROLLBACK; but the SELECT in front of it fails
    // in an aborted transaction, so both together show it.
    let (begun, done, intact, ended) = tokio::join!(
        biased;
        client.batch_execute("BEGIN"),
        statements,
        client.batch_execute("SELECT"),
        client.batch_execute("COMMIT")
    );
    begun?;
    let done = done?;
    ended?;
    match intact {
        Ok(()) => Ok(done),
        Err(error) if error.as_db_error().is_some() => Err(Failure::RolledBack),
        Err(error) => Err(error.into()),
    }
}
