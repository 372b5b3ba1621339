//! A part of an order's history that fits into one answer, however often other services change an order within one of
//! its versions.

use crate::order::{HistoryCursor, Sequence, Step, Version};

/// The most steps in a part. A version has two of its own, and one for each event of a service that knows no versions.
pub const MAX_PART: usize = 500;

/// Steps of whole versions, or of one that has more than [`MAX_PART`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// The steps, by ascending version and sequence.
    pub steps: Vec<Step>,
    /// Where the next part begins, where this one had no room for all that were asked for.
    pub next: Option<HistoryCursor>,
}

/// A row of the history. Of a step that cannot be read, the place is known.
pub(super) struct Found {
    pub(super) version: Version,
    pub(super) sequence: Sequence,
    pub(super) step: Option<Step>,
}

impl Part {
    /// Of what was found, by ascending version and sequence. Where that is more than [`MAX_PART`], the last version is
    /// left to the next part, so that an outcome and its request are in one; unless there is no other version.
    pub(super) fn of(mut found: Vec<Found>) -> Part {
        let mut next = None;
        if found.len() > MAX_PART {
            let beyond = found[MAX_PART].version;
            found.truncate(MAX_PART);
            if found[0].version < beyond {
                found.retain(|found| found.version < beyond);
                next = found.last().map(|last| HistoryCursor::behind(last.version));
            } else {
                next = found.last().map(|last| HistoryCursor::within(last.version, last.sequence));
            }
        }
        Part { steps: found.into_iter().filter_map(|found| found.step).collect(), next }
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
            sequence: Sequence(place, 0),
            step: None,
        });
        Part::of(found.take(MAX_PART + 1).collect()).next
    }

    #[test]
    fn a_part_ends_behind_a_whole_version_where_it_can() {
        let most = MAX_PART as u64;
        let (behind, within) = (HistoryCursor::behind, HistoryCursor::within);
        assert_eq!(next(&[]), None);
        assert_eq!(next(&[MAX_PART]), None);
        assert_eq!(next(&[2, MAX_PART - 2, 1]), Some(behind(2)));
        assert_eq!(next(&[2, 2, MAX_PART - 3]), Some(behind(2)));
        assert_eq!(next(&[2, MAX_PART]), Some(behind(1)));
        assert_eq!(next(&[MAX_PART, 2]), Some(behind(1)));
        assert_eq!(next(&[MAX_PART + 1]), Some(within(1, Sequence(most, 0))));
    }
}
