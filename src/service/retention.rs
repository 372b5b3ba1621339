//! Retention: has the store drop what is kept for a time only, a little at a time, so that no writer waits
//! for it. What it does not come to in one run it does in the next; every process on a store may have one.
//!
//! Where the store's clock jumps ahead, what was written before is not older by that: it is kept until the time that
//! this process has seen pass says that it is old.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::store::jumps::{JUMP, Jump, Jumps};
use crate::store::{self, Maintenance};

/// How long the key of a request is kept at least: a request that comes again later is a new one.
pub const KEY_RETENTION: Duration = Duration::from_hours(24);

/// How often the retention job runs.
const TURN: Duration = Duration::from_secs(10);

/// How many keys, and steps, are dropped in one go from a store of this process's own, which does nothing else
/// meanwhile.
const BATCH: usize = 1000;

/// The same from a store that does other work meanwhile. 20,000 orders in a second have as many keys and twice as many
/// steps, and dropping must keep up with that: 10,000 of each take some 150 ms.
const LARGE_BATCH: usize = 10_000;

/// How long the others have the store to themselves after such a batch, at most.
const BREATH: Duration = Duration::from_millis(100);

/// Cleans for ever; `history` is how long steps are kept, where any are.
pub(super) async fn run(store: &dyn Maintenance, history: Option<Duration>) {
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut clock = StoreClock::default();
    loop {
        turns.tick().await;
        if let Err(error) = clean(store, history, &mut clock).await {
            tracing::warn!(%error, "old keys and steps cannot be dropped; the next turn tries again");
        }
    }
}

/// Drops all that is too old.
async fn clean(
    store: &dyn Maintenance,
    history: Option<Duration>,
    clock: &mut StoreClock,
) -> Result<(), store::Error> {
    let now = store.now().await?;
    clock.see(now, Instant::now());
    let Some(keys_before) = before(now, KEY_RETENTION) else { return Ok(()) };
    let steps_before = history.and_then(|kept| before(now, kept)).map(|before| clock.jumps.limit(before));
    let keys_before = clock.jumps.limit(keys_before);
    clock.jumps.drop_upto(steps_before.map_or(keys_before, |before| before.min(keys_before)));
    let batch = if store.is_shared() { LARGE_BATCH } else { BATCH };
    loop {
        let begun = Instant::now();
        if store.clean(keys_before, steps_before, batch).await? < batch {
            return Ok(());
        }
        // A store of many processes is busy for four fifths of the time at most, as long as it lags behind.
        let breath = if store.is_shared() { (begun.elapsed() / 4).min(BREATH) } else { BREATH };
        sleep(breath).await;
    }
}

/// What this process has seen of the store's clock.
#[derive(Default)]
struct StoreClock {
    /// The last time that it showed, and when that was.
    last: Option<(Timestamp, Instant)>,
    jumps: Jumps,
}

impl StoreClock {
    /// Notes a jump where the clock went further ahead than the time that passed.
    fn see(&mut self, now: Timestamp, at: Instant) {
        let Some((last, seen_at)) = self.last.replace((now, at)) else { return };
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        let went = now.as_microsecond().saturating_sub(last.as_microsecond());
        let by = went.saturating_sub(micros(at.duration_since(seen_at)));
        if by > micros(JUMP) {
            let seconds = by / 1_000_000;
            tracing::warn!(
                seconds,
                "the store's clock jumped ahead; old keys and steps are kept longer by that"
            );
            self.jumps.add(Jump { at: now.as_microsecond(), by });
        }
    }
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

    #[test]
    fn what_was_written_before_a_jump_of_the_clock_is_kept_as_long_as_anything() {
        let start: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let (begun, minute, year) = (Instant::now(), Duration::from_mins(1), Duration::from_hours(24 * 365));
        let mut clock = StoreClock::default();
        clock.see(start, begun);
        clock.see(start + minute, begun + minute);
        assert_eq!(clock.jumps, Jumps::default());
        // A jump, then an hour, then a day.
        clock.see(start + year, begun + minute);
        let limit = |after: Duration| clock.jumps.limit(before(start + year + after, KEY_RETENTION).unwrap());
        assert!(limit(60 * minute) < start);
        assert_eq!(limit(KEY_RETENTION), start + year);
        // Set back again: that is not a jump ahead.
        let by = i64::try_from((year - minute).as_micros()).unwrap();
        clock.see(start + 2 * minute, begun + 2 * minute);
        clock.see(start + 3 * minute, begun + 3 * minute);
        assert_eq!(clock.jumps, Jumps::of(vec![Jump { at: (start + year).as_microsecond(), by }]));
    }
}
