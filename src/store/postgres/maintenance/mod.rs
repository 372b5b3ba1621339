//! Maintenance of the store in Postgres: its clock, the cleaning of old rows, the check for writes, and the close.
//! Cleaning and checks have connections of their own, so that commands and completions do not wait for them. The clock
//! is the server's, so that all processes on it agree. A check takes at most ten seconds and also opens closed
//! connections for commands; a disk counts as full from a failed write until a check has found space.

pub(super) mod checking;
pub(super) mod cleaning;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::timeout;

use self::checking::Checking;
use self::cleaning::Cleaning;
use super::store::PostgresStore;
use crate::store::{Error, Maintenance};

/// How long a check waits for the server: long enough to open a new connection.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

#[async_trait]
impl Maintenance for PostgresStore {
    async fn now(&self) -> Result<Timestamp, Error> {
        self.sweep.read(|session| async move { session.now().await }).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn clean(
        &self,
        keys_before: Timestamp,
        events_before: Option<Timestamp>,
        limit: usize,
    ) -> Result<usize, Error> {
        let clean =
            |session: Arc<Cleaning>| async move { session.run(keys_before, events_before, limit).await };
        self.cleaning.read(clean).await
    }

    async fn check(&self) -> Result<(), Error> {
        let was_full = self.server.is_full();
        let check = |session: Arc<Checking>| async move {
            session.run().await?;
            if was_full { session.find_space().await } else { Ok(()) }
        };
        let checked = async {
            self.checking.read(check).await?;
            // Opens closed connections, so that no command has to wait for that.
            for connection in self.commands.all() {
                connection.session().await?;
            }
            Ok(())
        };
        let no_answer = || Err(Error::Unavailable("Postgres does not answer".to_owned()));
        timeout(CHECK_TIMEOUT, checked).await.unwrap_or_else(|_| no_answer())?;
        if was_full {
            self.server.set_full(false);
        }
        Ok(())
    }

    async fn close(&self) {
        self.server.close();
        tokio::join!(
            self.commands.close(),
            self.completions.close(),
            self.outbox.close(),
            self.sweep.close(),
            self.cleaning.close(),
            self.checking.close(),
            self.dead_letters.close(),
            self.reads.close()
        );
    }
}
