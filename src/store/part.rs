//! A part of an order's history that fits into one answer, however often other services change an order within one of
//! its versions.

use crate::order::{Step, Version};

/// The most steps in a part. A version has two of its own, and one for each event of a service that knows no versions.
pub const MAX_PART: usize = 500;

/// Steps of whole versions. Of a version that has more than [`MAX_PART`] alone, its first ones.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// The steps, by ascending version and sequence.
    pub steps: Vec<Step>,
    /// The last version that the part has steps of, where it had no room for all that were asked for.
    pub upto: Option<Version>,
}

impl Part {
    /// Of steps by ascending version and sequence, each with its version, `None` for one that cannot be read. Where
    /// there are more than [`MAX_PART`], those of the last version are left to the next part.
    pub(super) fn of(mut found: Vec<(Version, Option<Step>)>) -> Part {
        let upto = match (found.first(), found.get(MAX_PART)) {
            (Some((first, _)), Some((last, _))) => {
                let (first, last) = (*first, *last);
                found.truncate(MAX_PART);
                if first < last {
                    found.retain(|(version, _)| *version < last);
                }
                found.last().map(|(version, _)| *version)
            }
            _ => None,
        };
        Part { steps: found.into_iter().filter_map(|(_, step)| step).collect(), upto }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many steps of each version, from 1 on.
    fn part(counts: &[usize]) -> Option<Version> {
        let versions = (1..).zip(counts).flat_map(|(version, count)| vec![(version, None); *count]);
        Part::of(versions.take(MAX_PART + 1).collect()).upto
    }

    #[test]
    fn a_part_ends_behind_a_whole_version() {
        assert_eq!(part(&[]), None);
        assert_eq!(part(&[MAX_PART]), None);
        assert_eq!(part(&[2, MAX_PART - 2, 1]), Some(2));
        assert_eq!(part(&[2, 2, MAX_PART - 3]), Some(2));
        assert_eq!(part(&[2, MAX_PART]), Some(1));
        assert_eq!(part(&[MAX_PART + 1]), Some(1));
        assert_eq!(part(&[MAX_PART, 2]), Some(1));
    }
}
