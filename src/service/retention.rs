//! Retention: has the store drop old idempotency keys and history events, a bounded batch at a time, so that writers do
//! not wait long for it. Each process on a store may run this job: a batch that one has dropped is gone for the others.
//!
//! Where the store's clock jumps ahead, rows that were written before are not older by that: they are kept until this
//! process has seen that much time pass.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::store::jumps::{JUMP, Jump, Jumps};
use crate::store::{self, Maintenance};

/// How long an idempotency key is kept at least: a request that is repeated later is a new one.
pub const KEY_RETENTION: Duration = Duration::from_hours(24);

/// How often the retention job runs.
const PERIOD: Duration = Duration::from_secs(10);

/// How many keys, and history events, are dropped in one go from the embedded store, which does nothing else meanwhile.
const BATCH: usize = 1000;

/// The same from a store that does other work meanwhile. 20,000 orders in a second have as many keys and twice as many
/// history events, and dropping must keep up with that: 10,000 of each take some 150 ms.
const LARGE_BATCH: usize = 10_000;

/// The longest pause after such a batch, in which the store works for its other clients.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Cleans periodically and never returns; `history` is how long history events are kept, where there are any.
pub(super) async fn run(store: &dyn Maintenance, history: Option<Duration>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut clock = StoreClock::default();
    loop {
        ticks.tick().await;
        if let Err(error) = clean(store, history, &mut clock).await {
            tracing::warn!(
                %error,
                "old idempotency keys and history events cannot be dropped; the next run tries again"
            );
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
    let events_before = history.and_then(|kept| before(now, kept)).map(|before| clock.jumps.limit(before));
    let keys_before = clock.jumps.limit(keys_before);
    clock.jumps.drop_upto(events_before.map_or(keys_before, |before| before.min(keys_before)));
    let batch = if store.is_shared() { LARGE_BATCH } else { BATCH };
    loop {
        let begun = Instant::now();
        if store.clean(keys_before, events_before, batch).await? < batch {
            return Ok(());
        }
        // While it lags behind, a shared store is busy with this for four fifths of the time at most.
        let pause = if store.is_shared() { (begun.elapsed() / 4).min(LONGEST_PAUSE) } else { LONGEST_PAUSE };
        sleep(pause).await;
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
                "the store's clock jumped ahead; old idempotency keys and history events are kept longer by that"
            );
            self.jumps.add(Jump { at: now.as_microsecond(), by });
        }
    }
}

/// The time that long ago; `None` where a store cannot hold anything so old.
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
