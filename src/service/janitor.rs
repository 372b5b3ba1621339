//! The janitor: has the store drop what is kept for a time only, a little at a time, so that nobody who writes waits
//! for it. Whatever it does not come to today it does tomorrow; every process on a store may have one.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::store::{self, Store};

/// How long the key of a request is kept at least: a request that comes again later is a new one.
pub const KEY_RETENTION: Duration = Duration::from_hours(24);

/// How often the janitor comes round.
const TURN: Duration = Duration::from_secs(10);

/// How many keys, and steps, are dropped in one go.
const BATCH: usize = 1000;

/// How long the others have the store to themselves after such a batch.
const BREATH: Duration = Duration::from_millis(100);

/// Cleans for ever; `history` is how long steps are kept, where any are.
pub(super) async fn run(store: &dyn Store, history: Option<Duration>) {
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if let Err(error) = clean(store, history).await {
            tracing::warn!(%error, "old keys and steps cannot be dropped; the next turn tries again");
        }
    }
}

/// Drops all that is too old.
async fn clean(store: &dyn Store, history: Option<Duration>) -> Result<(), store::Error> {
    let now = store.now().await?;
    let Some(keys_before) = before(now, KEY_RETENTION) else { return Ok(()) };
    let steps_before = history.and_then(|kept| before(now, kept));
    while store.clean(keys_before, steps_before, BATCH).await? >= BATCH {
        sleep(BREATH).await;
    }
    Ok(())
}

/// The time that long ago; `None` where no store can hold anything so old.
fn before(now: Timestamp, kept: Duration) -> Option<Timestamp> {
    now.checked_sub(kept).ok().filter(|time| *time > Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_ever_is_never_too_old() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        assert_eq!(before(now, KEY_RETENTION), "2026-01-01T00:00:00Z".parse().ok());
        assert_eq!(before(now, Duration::from_hours(24 * 365 * 100)), None);
        assert_eq!(before(now, Duration::MAX), None);
    }
}
