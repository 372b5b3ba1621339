//! The store's clock: the system's, but it never runs backwards, neither within a run of the program nor between two
//! runs. Rows that are numbered in the order of their arrival therefore have ascending times, and are found by them.
//! Where the system's clock was set back, this clock continues from its newest time, a little slower, until both agree.
//!
//! Where the system's clock jumps ahead, this clock follows and records the jump, in the store as well, so that
//! retention counts only the time that passed. The time between two runs counts as a jump, because the passed time is
//! not known.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use rusqlite::{Connection, Statement};

use crate::store::jumps::{JUMP, Jump, Jumps};

/// A clock.
pub(super) struct Clock {
    // std Mutex: held to read or set a few numbers, never while the store is written
    state: Mutex<State>,
}

struct State {
    /// The newest returned time, in microseconds; 0 before the first one of an empty store.
    last: i64,
    /// When it was returned; `None` where an earlier run returned it.
    returned_at: Option<Instant>,
    jumps: Jumps,
    /// Jumps that are not in the store yet.
    unsaved: Vec<Jump>,
}

impl Clock {
    /// A clock that begins at the time of the newest row or later.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Clock> {
        let newest = "SELECT max(
            coalesce((SELECT created_at FROM orders ORDER BY seq DESC LIMIT 1), 0),
            coalesce((SELECT at FROM history ORDER BY seq DESC LIMIT 1), 0),
            coalesce((SELECT created_at FROM keys ORDER BY seq DESC LIMIT 1), 0))";
        let last = connection.query_row(newest, [], |row| row.get(0))?;
        let mut jumps = connection.prepare("SELECT at, by FROM clock_jumps")?;
        let jumps = jumps.query_map([], |row| Ok(Jump { at: row.get(0)?, by: row.get(1)? }))?;
        let jumps = Jumps::of(jumps.collect::<rusqlite::Result<_>>()?);
        let (state, system) = (State { last, returned_at: None, jumps, unsaved: Vec::new() }, system());
        if last > system.saturating_add(micros(JUMP)) {
            let newest = Timestamp::from_microsecond(last).unwrap_or(Timestamp::MAX);
            tracing::warn!(%newest, "the system's clock is behind the store's newest row; times continue from that row on");
        }
        Ok(Clock { state: Mutex::new(state) })
    }

    /// The time now, in whole microseconds.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.lock().advance(system(), Instant::now());
        Timestamp::from_microsecond(now).unwrap_or(Timestamp::MAX)
    }

    /// The limit of age `before`, without the jumps.
    pub(super) fn limit(&self, before: Timestamp) -> Timestamp {
        self.lock().jumps.limit(before)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The time to return when the system's clock shows `system`.
    fn advance(&mut self, system: i64, at: Instant) -> i64 {
        let passed = self.returned_at.map_or(0, |returned| micros(at.saturating_duration_since(returned)));
        let expected = self.last.saturating_add(passed);
        let ahead = system.saturating_sub(expected);
        if self.last > 0 && ahead > micros(JUMP) {
            if self.returned_at.is_some() {
                let seconds = ahead / 1_000_000;
                tracing::warn!(seconds, "the system's clock jumped ahead; retention does not count the jump");
            }
            let jump = Jump { at: system, by: ahead };
            self.jumps.add(jump);
            self.unsaved.push(jump);
        }
        // A clock that is ahead of the system's runs slower by an eighth, until both agree.
        self.last = system.max(self.last.saturating_add(passed - passed / 8));
        self.returned_at = Some(at);
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

/// The writer's side: stores each jump in the transaction that stores the first times after it, or earlier.
pub(super) struct JumpTable<'c> {
    insert: Statement<'c>,
    drop: Statement<'c>,
    /// How many of the unsaved jumps the current transaction saves.
    saved: usize,
}

impl<'c> JumpTable<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<JumpTable<'c>> {
        Ok(JumpTable {
            insert: connection.prepare("INSERT OR REPLACE INTO clock_jumps (at, by) VALUES (?1, ?2)")?,
            drop: connection.prepare("DELETE FROM clock_jumps WHERE at <= ?1")?,
            saved: 0,
        })
    }

    /// Adds the unsaved jumps to the transaction that is about to be committed.
    pub(super) fn save(&mut self, clock: &Clock) -> rusqlite::Result<()> {
        let unsaved = clock.lock().unsaved.clone();
        for Jump { at, by } in &unsaved {
            self.insert.execute([at, by])?;
        }
        self.saved = unsaved.len();
        Ok(())
    }

    /// Takes note that the transaction is committed.
    pub(super) fn committed(&mut self, clock: &Clock) {
        if self.saved > 0 {
            clock.lock().unsaved.drain(..std::mem::take(&mut self.saved));
        }
    }

    /// Drops the jumps that no later limit needs.
    pub(super) fn drop_upto(&mut self, clock: &Clock, upto: Timestamp) -> rusqlite::Result<()> {
        if clock.lock().jumps.drop_upto(upto) {
            self.drop.execute([upto.as_microsecond()])?;
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

    fn state(last: i64, returned_at: Option<Instant>) -> State {
        State { last, returned_at, jumps: Jumps::default(), unsaved: Vec::new() }
    }

    #[test]
    fn a_clock_that_is_set_back_runs_slower_until_the_system_catches_up() {
        let start = Instant::now();
        let mut clock = state(20 * DAY, Some(start));
        let mut last = clock.last;
        for second in 1..=10 {
            let now =
                clock.advance(DAY + second * SECOND, start + Duration::from_secs(second.unsigned_abs()));
            assert_eq!(now - last, SECOND - SECOND / 8);
            last = now;
        }
        // The system's clock is set right: it is not ahead of the passed time, so this is not a jump.
        assert_eq!(
            clock.advance(20 * DAY + 12 * SECOND, start + Duration::from_secs(11)),
            20 * DAY + 12 * SECOND
        );
        assert_eq!(clock.unsaved, []);
    }

    #[test]
    fn a_jump_is_the_lead_of_the_clock_over_the_passed_time() {
        let start = Instant::now();
        let mut clock = state(DAY, Some(start));
        assert_eq!(clock.advance(DAY + 61 * SECOND, start + Duration::from_secs(1)), DAY + 61 * SECOND);
        assert_eq!(clock.unsaved, []);
        clock.advance(9 * DAY, start + Duration::from_secs(1));
        assert_eq!(clock.unsaved, [Jump { at: 9 * DAY, by: 8 * DAY - 61 * SECOND }]);
        // An hour without a call: the time passed, so this is not a jump.
        clock.advance(9 * DAY + 3600 * SECOND, start + Duration::from_secs(3601));
        assert_eq!(clock.unsaved.len(), 1);
    }

    #[test]
    fn the_time_between_two_runs_counts_as_a_jump_and_an_empty_store_has_none() {
        let mut clock = state(DAY, None);
        clock.advance(3 * DAY, Instant::now());
        assert_eq!(clock.unsaved, [Jump { at: 3 * DAY, by: 2 * DAY }]);
        let mut empty = state(0, None);
        empty.advance(3 * DAY, Instant::now());
        assert_eq!(empty.unsaved, []);
    }
}
