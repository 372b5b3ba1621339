//! What became of the records of one partition, from their arrival to their settling. A worker has several
//! batches in hand and settles them in any order, so an offset may be committed only when everything before it
//! is settled. A delivery that is dropped unsettled is lost here, and its record is to be read again; those
//! around it are not.
//!
//! A record that waits for the dead-letter topic is kept in memory: it counts as open, in bytes too, and is not read
//! again. A tracker lives as long as the partition is this worker's; when it is retired, what is settled late counts
//! no more.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::bus::Settle;

/// How long a record that is read again may take to arrive before it is asked for once more.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often an offset that does not move is committed again: nothing tells of a commit that failed on its way, as it
/// may while the group is rebalanced.
const COMMIT_AGAIN: Duration = Duration::from_secs(5);

/// The records of one partition.
#[derive(Debug, Default)]
pub(super) struct OffsetTracker {
    // std Mutex: held for one record or one look, never across .await
    state: Mutex<State>,
    settled: Condvar,
    /// Cancelled when it is retired.
    retired: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    /// What has arrived and cannot be committed yet, by rising offset.
    open: VecDeque<(i64, Stage)>,
    /// Behind the last record that arrived; `None` before the first.
    end: Option<i64>,
    /// What has been committed, or is about to be, and when.
    committed: Option<(i64, Instant)>,
    /// What is read for the second time, since a dropped delivery had the partition read again.
    again: Range<i64>,
    /// How many deliveries are under way, without those that are stuck.
    in_hand: usize,
    /// In how many bytes deliveries are kept.
    kept_bytes: usize,
    retired: bool,
}

/// How much a partition holds on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    /// How many records lie between the last commit and the last arrival.
    pub(super) open: usize,
    /// In how many bytes records are kept that wait for the dead-letter topic.
    pub(super) kept_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A delivery is under way.
    InHand,
    /// The same, and it is kept in so many bytes until it is a dead letter.
    Kept(usize),
    /// The same, but that was tried in vain.
    Stuck(usize),
    Settled,
    /// Its delivery was dropped; the record must be read again.
    Lost,
    /// It is being read again, since then.
    Asked(Instant),
}

/// What to do with a record that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is to be delivered.
    Deliver,
    /// It has been delivered already.
    Known,
    /// It lies before what has been dealt with: the topic was made again, or cut.
    Restarted,
}

impl OffsetTracker {
    /// Takes note of a record that arrives.
    pub(super) fn arrived(&self, offset: i64) -> Arrival {
        let mut state = self.lock();
        if state.end.is_none_or(|end| offset >= end) {
            state.again = Range::default();
            state.open.push_back((offset, Stage::InHand));
            state.end = Some(offset + 1);
        } else {
            match state.find(offset) {
                Ok(at) if matches!(state.open[at].1, Stage::Lost | Stage::Asked(_)) => {
                    state.open[at].1 = Stage::InHand;
                }
                Err(0) if !state.again.contains(&offset) => return Arrival::Restarted,
                _ => return Arrival::Known,
            }
        }
        state.in_hand += 1;
        Arrival::Deliver
    }

    /// The offset that is read next; `None` before the first record.
    pub(super) fn end(&self) -> Option<i64> {
        self.lock().end
    }

    /// The offset to commit, where it moved since the last call, or was committed a while ago.
    pub(super) fn to_commit(&self) -> Option<i64> {
        self.to_commit_at(Instant::now())
    }

    fn to_commit_at(&self, now: Instant) -> Option<i64> {
        let mut state = self.lock();
        let position = state.position()?;
        let is_recent =
            |(at, when): (i64, Instant)| at == position && now.saturating_duration_since(when) < COMMIT_AGAIN;
        if state.committed.is_some_and(is_recent) {
            return None;
        }
        state.committed = Some((position, now));
        Some(position)
    }

    /// The last commit failed; the next one includes it.
    pub(super) fn commit_failed(&self) {
        self.lock().committed = None;
    }

    /// Where to read again from: the lowest record whose delivery was dropped. What follows it counts as asked
    /// for; `None` where nothing was dropped since.
    pub(super) fn to_read_again(&self, now: Instant) -> Option<i64> {
        let mut state = self.lock();
        let overdue = |stage: Stage| matches!(stage, Stage::Asked(at) if now.duration_since(at) >= PATIENCE);
        if !state.open.iter().any(|(_, stage)| *stage == Stage::Lost || overdue(*stage)) {
            return None;
        }
        let missing = |stage: Stage| matches!(stage, Stage::Lost | Stage::Asked(_));
        let first = state.open.iter().find(|(_, stage)| missing(*stage)).map(|(offset, _)| *offset)?;
        state.again = first..state.end.unwrap_or(first);
        state.open.iter_mut().filter(|(_, stage)| missing(*stage)).for_each(|entry| {
            entry.1 = Stage::Asked(now);
        });
        Some(first)
    }

    /// The log begins there now: what was before it and is missing never comes again.
    pub(super) fn begins_at(&self, offset: i64) {
        let mut state = self.lock();
        for (at, stage) in &mut state.open {
            if *at < offset && matches!(stage, Stage::Lost | Stage::Asked(_)) {
                *stage = Stage::Settled;
            }
        }
        state.advance();
    }

    /// How much it holds on to.
    pub(super) fn load(&self) -> Load {
        let state = self.lock();
        Load { open: state.open.len(), kept_bytes: state.kept_bytes }
    }

    /// Waits until nothing of the partition is in a worker's hands, at most until `deadline`. What is stuck is not
    /// waited for.
    pub(super) fn drained(&self, deadline: Instant) -> bool {
        let state = self.lock();
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.settled.wait_timeout_while(state, left, |state| state.in_hand > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.in_hand == 0
    }

    /// The partition is not this worker's any more.
    pub(super) fn retire(&self) {
        self.lock().retired = true;
        self.retired.cancel();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, offset: i64) -> Result<usize, usize> {
        self.open.binary_search_by_key(&offset, |(offset, _)| *offset)
    }

    fn position(&self) -> Option<i64> {
        self.open.front().map(|(offset, _)| *offset).or(self.end)
    }

    /// Lets go of what is settled at the front.
    fn advance(&mut self) {
        while self.open.front().is_some_and(|(_, stage)| *stage == Stage::Settled) {
            self.open.pop_front();
        }
    }
}

/// The index of a delivery is its offset.
impl Settle for OffsetTracker {
    fn ended(&self, index: usize, settled: bool) {
        let mut state = self.lock();
        if let Ok(at) = state.find(index as i64) {
            match state.open[at].1 {
                Stage::InHand => state.in_hand -= 1,
                Stage::Kept(bytes) => {
                    state.in_hand -= 1;
                    state.kept_bytes -= bytes;
                }
                Stage::Stuck(bytes) => state.kept_bytes -= bytes,
                Stage::Settled | Stage::Lost | Stage::Asked(_) => {}
            }
            // After it was retired the record stays where it is, so that nothing more is committed.
            state.open[at].1 = match (state.retired, settled) {
                (false, true) => Stage::Settled,
                _ => Stage::Lost,
            };
            state.advance();
        }
        drop(state);
        self.settled.notify_all();
    }

    fn kept(&self, index: usize, bytes: usize) {
        let mut state = self.lock();
        if let Ok(at) = state.find(index as i64)
            && state.open[at].1 == Stage::InHand
        {
            state.open[at].1 = Stage::Kept(bytes);
            state.kept_bytes += bytes;
        }
    }

    fn stuck(&self, index: usize) {
        let mut state = self.lock();
        if let Ok(at) = state.find(index as i64)
            && let Stage::Kept(bytes) = state.open[at].1
        {
            state.open[at].1 = Stage::Stuck(bytes);
            state.in_hand -= 1;
        }
        drop(state);
        self.settled.notify_all();
    }

    fn unwanted(&self) -> CancellationToken {
        self.retired.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tracker of records that were all delivered.
    fn delivered(offsets: impl IntoIterator<Item = i64>) -> OffsetTracker {
        let tracker = OffsetTracker::default();
        for offset in offsets {
            assert_eq!(tracker.arrived(offset), Arrival::Deliver);
        }
        tracker
    }

    #[test]
    fn only_what_has_nothing_unsettled_before_it_is_committed() {
        let tracker = delivered([10, 11, 14]);
        assert_eq!(tracker.to_commit(), Some(10));
        tracker.ended(11, true);
        assert_eq!(tracker.to_commit(), None);
        tracker.ended(10, true);
        assert_eq!(tracker.to_commit(), Some(14), "12 and 13 are a gap in the log");
        tracker.ended(14, true);
        assert_eq!((tracker.to_commit(), tracker.to_commit()), (Some(15), None));
        tracker.commit_failed();
        let now = Instant::now();
        assert_eq!((tracker.to_commit_at(now), tracker.to_commit_at(now)), (Some(15), None));
        assert_eq!(tracker.to_commit_at(now + COMMIT_AGAIN), Some(15), "nothing told that it succeeded");
    }

    #[test]
    fn what_is_dropped_is_read_again_and_what_is_around_it_is_not() {
        let tracker = delivered(0..5);
        let now = Instant::now();
        tracker.ended(2, true);
        assert_eq!(tracker.to_read_again(now), None);
        tracker.ended(1, false);
        tracker.ended(3, false);
        assert_eq!(tracker.to_read_again(now), Some(1));
        assert_eq!(tracker.to_read_again(now), None, "it is on its way");
        assert_eq!(
            [1, 2, 3, 4].map(|offset| tracker.arrived(offset) == Arrival::Deliver),
            [true, false, true, false]
        );
        assert_eq!(tracker.arrived(5), Arrival::Deliver);
        for offset in [0, 1, 3, 4, 5] {
            tracker.ended(offset, true);
        }
        assert_eq!(tracker.to_commit(), Some(6));
    }

    #[test]
    fn what_was_settled_while_it_was_read_again_is_known() {
        let tracker = delivered(0..3);
        tracker.ended(0, false);
        assert_eq!(tracker.to_read_again(Instant::now()), Some(0));
        assert_eq!(tracker.arrived(0), Arrival::Deliver);
        for offset in [0, 1, 2] {
            tracker.ended(offset, true);
        }
        assert_eq!([1, 2].map(|offset| tracker.arrived(offset)), [Arrival::Known, Arrival::Known]);
        assert_eq!(tracker.arrived(3), Arrival::Deliver);
    }

    #[test]
    fn what_does_not_come_is_asked_for_again_unless_the_log_has_forgotten_it() {
        let tracker = delivered(0..2);
        let now = Instant::now();
        tracker.ended(0, false);
        assert_eq!(tracker.to_read_again(now), Some(0));
        assert_eq!(tracker.to_read_again(now + PATIENCE), Some(0));
        tracker.ended(1, false);
        assert_eq!(tracker.to_read_again(now + PATIENCE), Some(0));
        tracker.begins_at(1);
        assert_eq!(tracker.to_commit(), Some(1));
        assert_eq!(tracker.arrived(1), Arrival::Deliver);
    }

    #[test]
    fn what_is_kept_counts_until_it_is_settled_and_holds_up_no_handover_once_it_is_stuck() {
        let tracker = delivered(0..3);
        tracker.kept(0, 700);
        tracker.kept(1, 800);
        tracker.ended(2, true);
        assert_eq!(tracker.load(), Load { open: 3, kept_bytes: 1500 });
        assert!(!tracker.drained(Instant::now()));
        tracker.stuck(0);
        tracker.stuck(1);
        assert!(tracker.drained(Instant::now()));
        assert_eq!(tracker.to_read_again(Instant::now()), None, "it is in memory");
        assert_eq!(tracker.arrived(1), Arrival::Known);
        tracker.ended(0, true);
        assert_eq!((tracker.to_commit(), tracker.load()), (Some(1), Load { open: 2, kept_bytes: 800 }));
        assert!(!tracker.unwanted().is_cancelled());
        tracker.retire();
        assert!(tracker.unwanted().is_cancelled());
        tracker.ended(1, false);
        assert_eq!(tracker.load().kept_bytes, 0);
    }

    #[test]
    fn a_topic_that_was_made_again_is_noticed() {
        let tracker = delivered(7..9);
        tracker.ended(7, true);
        assert_eq!(tracker.arrived(7), Arrival::Restarted);
        assert_eq!(tracker.arrived(8), Arrival::Known);
    }

    #[test]
    fn what_is_settled_after_the_partition_was_given_away_counts_no_more() {
        let tracker = delivered(0..2);
        tracker.ended(0, true);
        assert!(!tracker.drained(Instant::now()));
        tracker.retire();
        tracker.ended(1, true);
        assert_eq!(tracker.to_commit(), Some(1));
        assert!(tracker.drained(Instant::now()));
    }
}
