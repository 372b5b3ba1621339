//! A page of an order's history. Its size has a limit, even where other services change an order many times within one
//! of its versions. A page must never end between a command and its outcome where it can end behind a whole version. It
//! relies on rows by ascending version and offset, and on one row more than fits where there are more. A row that
//! cannot be read counts like the others, so that the next page begins behind it.

use crate::order::{HistoryCursor, HistoryEvent, HistoryOffset, Version};

/// The most history events in a page. A version has two of its own, and one for each event without a version that
/// another service sent.
pub const MAX_PAGE_EVENTS: usize = 500;

/// The history events of whole versions, or a part of a version that has more than [`MAX_PAGE_EVENTS`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OrderHistoryPage {
    /// The history events, by ascending version and offset.
    pub events: Vec<HistoryEvent>,
    /// The cursor of the next page, where this one has no room for all requested versions.
    pub next: Option<HistoryCursor>,
}

/// A row of the history. The offset is known even where the event cannot be read.
pub(super) struct Found {
    pub(super) version: Version,
    pub(super) offset: HistoryOffset,
    pub(super) event: Option<HistoryEvent>,
}

impl OrderHistoryPage {
    /// Makes a page of rows by ascending version and offset. Where they are more than [`MAX_PAGE_EVENTS`], the last
    /// version is left to the next page, so that an outcome and its command are on one page, unless it is the only
    /// version.
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
        OrderHistoryPage { events: found.into_iter().filter_map(|found| found.event).collect(), next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next cursor of a page with so many events of each version, from 1 on.
    fn next(counts: &[usize]) -> Option<HistoryCursor> {
        let versions = (1..).zip(counts).flat_map(|(version, count)| vec![version; *count]);
        let found = (1..).zip(versions).map(|(offset, version)| Found {
            version,
            offset: HistoryOffset(offset, 0),
            event: None,
        });
        OrderHistoryPage::of(found.take(MAX_PAGE_EVENTS + 1).collect()).next
    }

    #[test]
    fn a_page_ends_behind_a_whole_version_where_it_can() {
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
