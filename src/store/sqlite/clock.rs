//! The store's clock: the system's, but it never runs backwards, neither within a run of the program nor from one to
//! the next. Whatever is numbered in the order of its arrival therefore has ascending times, and is found by them.
//! Where the system's clock was set back, this one goes on from its newest time, a little slower, until both agree.
//!
//! Where the system's clock jumps ahead, this one follows and notes the jump, in the store as well: what is kept for a
//! time is kept for as long as really passed. The time between two runs counts as a jump, because how much of it
//! passed is not known.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use rusqlite::{Connection, Statement};

use crate::store::jumps::{JUMP, Jump, Jumps};

/// A clock.
pub(super) struct Clock {
    // std Mutex: held for a few words, never while anything is written
    state: Mutex<State>,
}

struct State {
    /// The newest time given out, in microseconds; 0 before the first one of an empty store.
    last: i64,
    /// When it was given out; `None` where an earlier run did.
    given_at: Option<Instant>,
    jumps: Jumps,
    /// Those that the store does not hold yet.
    unsaved: Vec<Jump>,
}

impl Clock {
    /// A clock that begins no earlier than the newest rows.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Clock> {
        let newest = "SELECT max(
            coalesce((SELECT created_at FROM orders ORDER BY seq DESC LIMIT 1), 0),
            coalesce((SELECT at FROM history ORDER BY seq DESC LIMIT 1), 0),
            coalesce((SELECT created_at FROM keys ORDER BY seq DESC LIMIT 1), 0))";
        let last = connection.query_row(newest, [], |row| row.get(0))?;
        let mut jumps = connection.prepare("SELECT at, by FROM clock_jumps")?;
        let jumps = jumps.query_map([], |row| Ok(Jump { at: row.get(0)?, by: row.get(1)? }))?;
        let jumps = Jumps::of(jumps.collect::<rusqlite::Result<_>>()?);
        let (state, system) = (State { last, given_at: None, jumps, unsaved: Vec::new() }, system());
        if last > system.saturating_add(micros(JUMP)) {
            let newest = Timestamp::from_microsecond(last).unwrap_or(Timestamp::MAX);
            tracing::warn!(%newest, "the system's clock is behind the store's newest entry; times go on from there");
        }
        Ok(Clock { state: Mutex::new(state) })
    }

    /// The time now, in whole microseconds.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.lock().step(system(), Instant::now());
        Timestamp::from_microsecond(now).unwrap_or(Timestamp::MAX)
    }

    /// The limit for what was written before `before`, by the time that really passed.
    pub(super) fn limit(&self, before: Timestamp) -> Timestamp {
        self.lock().jumps.limit(before)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The time to give out where the system's clock shows `system`.
    fn step(&mut self, system: i64, at: Instant) -> i64 {
        let passed = self.given_at.map_or(0, |given| micros(at.saturating_duration_since(given)));
        let expected = self.last.saturating_add(passed);
        let ahead = system.saturating_sub(expected);
        if self.last > 0 && ahead > micros(JUMP) {
            if self.given_at.is_some() {
                let seconds = ahead / 1_000_000;
                tracing::warn!(
                    seconds,
                    "the clock jumped ahead; nothing that is kept for a time is older by that"
                );
            }
            let jump = Jump { at: system, by: ahead };
            self.jumps.add(jump);
            self.unsaved.push(jump);
        }
        // Slower by an eighth where it is ahead, so that it is not for ever.
        self.last = system.max(self.last.saturating_add(passed - passed / 8));
        self.given_at = Some(at);
        self.last
    }
}

/// The system's clock, in microseconds since 1970.
pub(super) fn system() -> i64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The writer's side: keeps the jumps in the store, no later than the first times after them.
pub(super) struct JumpTable<'c> {
    insert: Statement<'c>,
    forget: Statement<'c>,
    /// How many of those that were not saved are, after the transaction under way.
    saved: usize,
}

impl<'c> JumpTable<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<JumpTable<'c>> {
        Ok(JumpTable {
            insert: connection.prepare("INSERT OR REPLACE INTO clock_jumps (at, by) VALUES (?1, ?2)")?,
            forget: connection.prepare("DELETE FROM clock_jumps WHERE at <= ?1")?,
            saved: 0,
        })
    }

    /// Adds what is not saved to the transaction that is about to be committed.
    pub(super) fn save(&mut self, clock: &Clock) -> rusqlite::Result<()> {
        let unsaved = clock.lock().unsaved.clone();
        for Jump { at, by } in &unsaved {
            self.insert.execute([at, by])?;
        }
        self.saved = unsaved.len();
        Ok(())
    }

    /// The transaction is committed.
    pub(super) fn committed(&mut self, clock: &Clock) {
        if self.saved > 0 {
            clock.lock().unsaved.drain(..std::mem::take(&mut self.saved));
        }
    }

    /// Drops the jumps that no later limit needs.
    pub(super) fn forget(&mut self, clock: &Clock, upto: Timestamp) -> rusqlite::Result<()> {
        if clock.lock().jumps.forget(upto) {
            self.forget.execute([upto.as_microsecond()])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: i64 = 1_000_000;
    const DAY: i64 = 86_400 * SECOND;

    fn state(last: i64, given_at: Option<Instant>) -> State {
        State { last, given_at, jumps: Jumps::default(), unsaved: Vec::new() }
    }

    #[test]
    fn a_clock_that_is_set_back_goes_on_slower_until_the_system_catches_up() {
        let start = Instant::now();
        let mut clock = state(20 * DAY, Some(start));
        let mut last = clock.last;
        for second in 1..=10 {
            let now = clock.step(DAY + second * SECOND, start + Duration::from_secs(second.unsigned_abs()));
            assert_eq!(now - last, SECOND - SECOND / 8);
            last = now;
        }
        // Set right again: that is no more than the time that passed, and not a jump.
        assert_eq!(
            clock.step(20 * DAY + 12 * SECOND, start + Duration::from_secs(11)),
            20 * DAY + 12 * SECOND
        );
        assert_eq!(clock.unsaved, []);
    }

    #[test]
    fn a_jump_is_what_the_clock_went_ahead_of_the_time_that_passed() {
        let start = Instant::now();
        let mut clock = state(DAY, Some(start));
        assert_eq!(clock.step(DAY + 61 * SECOND, start + Duration::from_secs(1)), DAY + 61 * SECOND);
        assert_eq!(clock.unsaved, []);
        clock.step(9 * DAY, start + Duration::from_secs(1));
        assert_eq!(clock.unsaved, [Jump { at: 9 * DAY, by: 8 * DAY - 61 * SECOND }]);
        // An hour without a call, and then one: the time really passed.
        clock.step(9 * DAY + 3600 * SECOND, start + Duration::from_secs(3601));
        assert_eq!(clock.unsaved.len(), 1);
    }

    #[test]
    fn the_time_between_two_runs_counts_as_a_jump_and_an_empty_store_has_none() {
        let mut clock = state(DAY, None);
        clock.step(3 * DAY, Instant::now());
        assert_eq!(clock.unsaved, [Jump { at: 3 * DAY, by: 2 * DAY }]);
        let mut empty = state(0, None);
        empty.step(3 * DAY, Instant::now());
        assert_eq!(empty.unsaved, []);
    }
}
