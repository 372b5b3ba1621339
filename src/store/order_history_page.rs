//! A part of an order's history that fits into one answer, however often other services change an order within one of
//! its versions.

use crate::order::{HistoryCursor, HistoryEvent, HistoryOffset, Version};

/// The most steps in a part. A version has two of its own, and one for each event of a service that knows no versions.
pub const MAX_PAGE_EVENTS: usize = 500;

/// Steps of whole versions, or of one that has more than [`MAX_PAGE_EVENTS`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OrderHistoryPage {
    /// The steps, by ascending version and sequence.
    pub events: Vec<HistoryEvent>,
    /// Where the next part begins, where this one had no room for all that were asked for.
    pub next: Option<HistoryCursor>,
}

/// A row of the history. Of a step that cannot be read, the place is known.
pub(super) struct Found {
    pub(super) version: Version,
    pub(super) offset: HistoryOffset,
    pub(super) step: Option<HistoryEvent>,
}

impl OrderHistoryPage {
    /// Of what was found, by ascending version and sequence. Where that is more than [`MAX_PAGE_EVENTS`], the last version is
    /// left to the next part, so that an outcome and its request are in one; unless there is no other version.
    pub(super) fn of(mut found: Vec<Found>) -> OrderHistoryPage {
        let mut next = None;
        if found.len() > MAX_PAGE_EVENTS {
            let beyond = found[MAX_PAGE_EVENTS].version;
            found.truncate(MAX_PAGE_EVENTS);
            if found[0].version < beyond {
                found.retain(|found| found.version < beyond);
                next = found.last().map(|last| HistoryCursor::behind(last.version));
            } else {
                next = found.last().map(|last| HistoryCursor::within(last.version, last.offset));
            }
        }
        OrderHistoryPage { events: found.into_iter().filter_map(|found| found.step).collect(), next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the next part begins behind one of so many steps of each version, from 1 on.
    fn next(counts: &[usize]) -> Option<HistoryCursor> {
        let versions = (1..).zip(counts).flat_map(|(version, count)| vec![version; *count]);
        let found = (1..).zip(versions).map(|(place, version)| Found {
            version,
            offset: HistoryOffset(place, 0),
            step: None,
        });
        OrderHistoryPage::of(found.take(MAX_PAGE_EVENTS + 1).collect()).next
    }

    #[test]
    fn a_part_ends_behind_a_whole_version_where_it_can() {
        let most = MAX_PAGE_EVENTS as u64;
        let (behind, within) = (HistoryCursor::behind, HistoryCursor::within);
        assert_eq!(next(&[]), None);
        assert_eq!(next(&[MAX_PAGE_EVENTS]), None);
        assert_eq!(next(&[2, MAX_PAGE_EVENTS - 2, 1]), Some(behind(2)));
        assert_eq!(next(&[2, 2, MAX_PAGE_EVENTS - 3]), Some(behind(2)));
        assert_eq!(next(&[2, MAX_PAGE_EVENTS]), Some(behind(1)));
        assert_eq!(next(&[MAX_PAGE_EVENTS, 2]), Some(behind(1)));
        assert_eq!(next(&[MAX_PAGE_EVENTS + 1]), Some(within(1, HistoryOffset(most, 0))));
    }
}
