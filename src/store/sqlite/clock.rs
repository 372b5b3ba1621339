//! The store's clock: the system's, but it never runs backwards, neither within a run of the program nor from one to
//! the next. Whatever is numbered in the order of its arrival therefore has ascending times, and is found by them.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use rusqlite::Connection;

/// A clock.
#[derive(Default)]
pub(super) struct Clock {
    /// The newest time given out, in microseconds.
    last: AtomicI64,
}

impl Clock {
    /// A clock that begins no earlier than the newest rows.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Clock> {
        let newest = "SELECT max(
            coalesce((SELECT created_at FROM orders ORDER BY seq DESC LIMIT 1), 0),
            coalesce((SELECT at FROM history ORDER BY seq DESC LIMIT 1), 0),
            coalesce((SELECT created_at FROM keys ORDER BY seq DESC LIMIT 1), 0))";
        Ok(Clock { last: AtomicI64::new(connection.query_row(newest, [], |row| row.get(0))?) })
    }

    /// The time now, in whole microseconds.
    pub(super) fn now(&self) -> Timestamp {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        let now = self.last.fetch_max(now, Ordering::Relaxed).max(now);
        Timestamp::from_microsecond(now).unwrap_or(Timestamp::MAX)
    }
}
