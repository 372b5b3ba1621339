//! The floor: the key at which a scan of the outbox begins. While any snapshot stays open, the server keeps every
//! removed row, and a scan from the first key reads all of them: millions after some minutes. Keys grow with time, so
//! the live rows are at the end.
//!
//! A scan from the first key is still needed, because an update of an old order has an old key. It runs as often as its
//! duration allows; the scans in between begin at the floor, which must not be above any live row that they could find.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use uuid::Uuid;

use crate::order::Version;

/// The pause until the next scan from the first key, as a multiple of the duration of the last one.
const REST_FACTOR: u32 = 20;

/// How far the floor is below the time of a scan: the id of an order may be that much older than its outbox row.
const MARGIN: Duration = Duration::from_secs(60);

/// The key before all keys.
pub(super) const FIRST: (Uuid, Version) = (Uuid::nil(), 0);

/// The floor of one connection's scans.
#[derive(Debug, Default)]
pub(super) struct Floor(Option<Scan>);

/// A scan from the first key.
#[derive(Debug)]
struct Scan {
    ended: Instant,
    took: Duration,
    floor: (Uuid, Version),
}

impl Floor {
    /// The key behind which the next scan begins.
    pub(in crate::store::postgres) fn start(&self, now: Instant) -> (Uuid, Version) {
        match &self.0 {
            Some(scan) if now.saturating_duration_since(scan.ended) < scan.took * REST_FACTOR => scan.floor,
            _ => FIRST,
        }
    }

    /// Takes note of a scan from the first key, for rows older than `before`; `found` is the first row that it found.
    pub(in crate::store::postgres) fn scanned(
        &mut self,
        ended: Instant,
        took: Duration,
        before: Timestamp,
        found: Option<(Uuid, Version)>,
    ) {
        let recent = (at(before.min(Timestamp::now()) - MARGIN), 0);
        // Just before the row, so that the next scan finds the row again.
        let floor = found.map_or(recent, |(id, version)| recent.min((id, version - 1)));
        self.0 = Some(Scan { ended, took, floor });
    }
}

/// The lowest UUIDv7 of that millisecond: RFC 9562, section 5.7.
fn at(time: Timestamp) -> Uuid {
    let milliseconds = u128::try_from(time.as_millisecond()).unwrap_or_default();
    Uuid::from_u128(milliseconds << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_begins_at_the_floor_until_the_pause_after_the_last_long_one_is_over() {
        let (now, before) = (Instant::now(), Timestamp::now());
        let mut floor = Floor::default();
        assert_eq!(floor.start(now), FIRST);
        floor.scanned(now, Duration::from_secs(3), before, None);
        let (id, _) = floor.start(now + Duration::from_secs(59));
        assert!(id > FIRST.0 && id < Uuid::now_v7());
        assert_eq!(floor.start(now + Duration::from_secs(61)), FIRST);
    }

    #[test]
    fn a_floor_is_never_above_a_row_that_was_found_or_may_be_added() {
        let (now, before) = (Instant::now(), Timestamp::now());
        let made = |ago: u64| at(before - Duration::from_secs(ago));
        for (found, floor) in [
            (Some((made(500), 3)), (made(500), 2)),
            (Some((made(5), 3)), (made(60), 0)),
            (None, (made(60), 0)),
        ] {
            let mut it = Floor::default();
            it.scanned(now, Duration::from_secs(1), before, found);
            assert_eq!(it.start(now), floor, "{found:?}");
        }
    }
}
