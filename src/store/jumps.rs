//! Jumps of a clock: how far it went ahead while little time passed. Retention must not count a jump as time: for rows
//! that were written before a jump, the limit of age is earlier by as much. Both backends' clocks use this. Nothing may
//! be dropped earlier than its time because of a jump.

use std::time::Duration;

use jiff::Timestamp;

/// How far a clock may run ahead of the passed time. More counts as a jump.
pub const JUMP: Duration = Duration::from_mins(1);

/// The jumps of a clock that still matter, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jumps(Vec<Jump>);

/// A jump of a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// The time right after it, in microseconds.
    pub at: i64,
    /// How far the clock went, in microseconds.
    pub by: i64,
}

impl Jumps {
    /// Makes the jumps of a list in any order.
    #[must_use]
    pub fn of(mut jumps: Vec<Jump>) -> Jumps {
        jumps.sort_unstable_by_key(|jump| jump.at);
        Jumps(jumps)
    }

    /// Adds the newest jump.
    pub fn add(&mut self, jump: Jump) {
        self.0.push(jump);
    }

    /// The limit of age `before`, moved back by the jumps that lie behind it.
    #[must_use]
    pub fn limit(&self, before: Timestamp) -> Timestamp {
        let mut limit = before.as_microsecond();
        for jump in self.0.iter().rev() {
            if limit >= jump.at {
                break;
            }
            limit = limit.saturating_sub(jump.by);
        }
        if limit == before.as_microsecond() {
            return before;
        }
        Timestamp::from_microsecond(limit).unwrap_or(Timestamp::MIN)
    }

    /// Drops the jumps up to a time, which no later limit needs. Returns whether there were any.
    pub fn drop_upto(&mut self, upto: Timestamp) -> bool {
        let before = self.0.len();
        self.0.retain(|jump| jump.at > upto.as_microsecond());
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(micros).unwrap()
    }

    #[test]
    fn rows_from_before_a_jump_age_only_by_the_passed_time() {
        let jumps = Jumps::of(vec![Jump { at: 5_000, by: 1_000 }, Jump { at: 2_000, by: 500 }]);
        for (before, limit) in
            [(6_000, 6_000), (5_000, 5_000), (4_999, 3_999), (3_100, 2_100), (2_900, 1_400)]
        {
            assert_eq!(jumps.limit(at(before)), at(limit), "{before}");
        }
        assert_eq!(Jumps::default().limit(at(7)), at(7));
        assert_eq!(Jumps::of(vec![Jump { at: 9, by: i64::MAX }]).limit(at(7)), Timestamp::MIN);
        assert_eq!(jumps.limit(Timestamp::MAX), Timestamp::MAX);
    }

    #[test]
    fn a_jump_is_dropped_when_no_limit_needs_it() {
        let mut jumps = Jumps::default();
        jumps.add(Jump { at: 10, by: 5 });
        assert!(!jumps.drop_upto(at(9)));
        assert_eq!(jumps.limit(at(9)), at(4));
        assert!(jumps.drop_upto(at(10)) && jumps == Jumps::default());
    }
}
