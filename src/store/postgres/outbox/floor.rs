//! Where a walk through the outbox begins. While any snapshot stays open, the server keeps every row that was removed,
//! and a walk from the first key passes all of them: millions after some minutes. Keys grow with time, so the live rows
//! are at the end.
//!
//! A walk from the first key is needed all the same, because an update of an old order has an old key. It is made as
//! often as its duration allows; the walks between begin at the floor.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use crate::order::Version;

/// How many times as long as a walk from the first key took, until the next one.
const REST_FACTOR: u32 = 20;

/// How far below the time of a walk its floor lies: the id of an order may be that much older than its outbox row.
const MARGIN: Duration = Duration::from_secs(60);

/// The place before all keys.
pub(super) const FIRST: (Uuid, Version) = (Uuid::nil(), 0);

/// The floor of one connection's walks.
#[derive(Debug, Default)]
pub(super) struct Floor(Option<Walk>);

/// A walk from the first key.
#[derive(Debug)]
struct Walk {
    ended: Instant,
    took: Duration,
    floor: (Uuid, Version),
}

impl Floor {
    /// Behind which key the next walk begins.
    pub(in crate::store::postgres) fn start(&self, now: Instant) -> (Uuid, Version) {
        match &self.0 {
            Some(walk) if now.saturating_duration_since(walk.ended) < walk.took * REST_FACTOR => walk.floor,
            _ => FIRST,
        }
    }

    /// A walk from the first key for rows older than `before` has ended; `found` is the first row that it met.
    pub(in crate::store::postgres) fn walked(
        &mut self,
        ended: Instant,
        took: Duration,
        before: Timestamp,
        found: Option<(Uuid, Version)>,
    ) {
        let recent = (at(before.min(Timestamp::now()) - MARGIN), 0);
        // Behind the place just before the row, so that the row is met again.
        let floor = found.map_or(recent, |(id, version)| recent.min((id, version - 1)));
        self.0 = Some(Walk { ended, took, floor });
    }
}

/// The lowest key of that millisecond, as UUIDv7 has it: RFC 9562, section 5.7.
fn at(time: Timestamp) -> Uuid {
    let milliseconds = u128::try_from(time.as_millisecond()).unwrap_or_default();
    Uuid::from_u128(milliseconds << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_begins_at_the_floor_until_the_rest_of_the_last_long_one_is_over() {
        let (now, before) = (Instant::now(), Timestamp::now());
        let mut floor = Floor::default();
        assert_eq!(floor.start(now), FIRST);
        floor.walked(now, Duration::from_secs(3), before, None);
        let (id, _) = floor.start(now + Duration::from_secs(59));
        assert!(id > FIRST.0 && id < Uuid::now_v7());
        assert_eq!(floor.start(now + Duration::from_secs(61)), FIRST);
    }

    #[test]
    fn a_floor_is_never_above_a_row_that_was_met_nor_above_one_that_may_come() {
        let (now, before) = (Instant::now(), Timestamp::now());
        let made = |ago: u64| at(before - Duration::from_secs(ago));
        for (found, floor) in [
            (Some((made(500), 3)), (made(500), 2)),
            (Some((made(5), 3)), (made(60), 0)),
            (None, (made(60), 0)),
        ] {
            let mut it = Floor::default();
            it.walked(now, Duration::from_secs(1), before, found);
            assert_eq!(it.start(now), floor, "{found:?}");
        }
    }
}
