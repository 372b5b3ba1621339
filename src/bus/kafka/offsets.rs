//! The offset tracker: the state of the records of one partition, from arrival to commit. Worker tasks settle batches
//! in any order, so an offset may be committed only when everything below it is settled. When a delivery is dropped
//! unsettled, its record must be read again, but not the records around it.
//!
//! A record that waits for the dead-letter topic is kept in memory: it counts as open, in bytes too, and is not read
//! again. A tracker is used while its partition is assigned to this worker; after it is retired, a late settle must not
//! move the offset to commit.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::bus::Settle;

/// How long a record that is read again may take to arrive before the consumer seeks once more.
const READ_AGAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How often an offset that does not move is committed again: a commit can fail without a report, for example while the
/// group is rebalanced.
const REPEAT_COMMIT: Duration = Duration::from_secs(5);

/// The records of one partition.
#[derive(Debug, Default)]
pub(super) struct OffsetTracker {
    // std Mutex: held for one record or one look-up, never across .await
    state: Mutex<State>,
    settled: Condvar,
    /// Cancelled when the tracker is retired.
    retired: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    /// Records that have arrived and cannot be committed yet, by rising offset.
    open: VecDeque<(i64, Stage)>,
    /// The offset behind the last record that arrived; `None` before the first.
    end: Option<i64>,
    /// The last offset that was handed out to be committed, and when.
    committed: Option<(i64, Instant)>,
    /// The offsets that the consumer reads for the second time, after it sought back for a dropped delivery.
    rereading: Range<i64>,
    /// How many deliveries are in progress, without those that are stuck.
    in_progress: usize,
    /// How many bytes of deliveries are kept for the dead-letter topic.
    kept_bytes: usize,
    retired: bool,
}

/// How many records and bytes a partition keeps open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    /// How many records lie between the offset to commit and the last arrival.
    pub(super) open: usize,
    /// How many bytes of records wait for the dead-letter topic.
    pub(super) kept_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The delivery is in progress.
    InProgress,
    /// The same, and so many bytes are kept until the record is a dead letter.
    Kept(usize),
    /// The same, after a failed attempt to write the dead letter.
    Stuck(usize),
    /// The delivery is settled.
    Settled,
    /// The delivery was dropped; the record must be read again.
    Lost,
    /// The consumer sought back at that time to read the record again.
    Requested(Instant),
}

/// What to do with a record that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It must be delivered.
    Deliver,
    /// It has been delivered already.
    Known,
    /// Its offset is below the committed ones: the topic was made again, or cut.
    Restarted,
}

impl OffsetTracker {
    /// Takes note of a record that arrives.
    pub(super) fn arrived(&self, offset: i64) -> Arrival {
        let mut state = self.lock();
        if state.end.is_none_or(|end| offset >= end) {
            state.rereading = Range::default();
            state.open.push_back((offset, Stage::InProgress));
            state.end = Some(offset + 1);
        } else {
            match state.find(offset) {
                Ok(at) if matches!(state.open[at].1, Stage::Lost | Stage::Requested(_)) => {
                    state.open[at].1 = Stage::InProgress;
                }
                Err(0) if !state.rereading.contains(&offset) => return Arrival::Restarted,
                _ => return Arrival::Known,
            }
        }
        state.in_progress += 1;
        Arrival::Deliver
    }

    /// The offset that is read next; `None` before the first record.
    pub(super) fn end(&self) -> Option<i64> {
        self.lock().end
    }

    /// The offset to commit, if it moved since the last call, or if the last commit was a while ago.
    pub(super) fn to_commit(&self) -> Option<i64> {
        self.to_commit_at(Instant::now())
    }

    fn to_commit_at(&self, now: Instant) -> Option<i64> {
        let mut state = self.lock();
        let next = state.next_to_commit()?;
        let is_recent =
            |(at, when): (i64, Instant)| at == next && now.saturating_duration_since(when) < REPEAT_COMMIT;
        if state.committed.is_some_and(is_recent) {
            return None;
        }
        state.committed = Some((next, now));
        Some(next)
    }

    /// The last commit failed; the next one includes it.
    pub(super) fn commit_failed(&self) {
        self.lock().committed = None;
    }

    /// The offset to seek back to: the lowest record whose delivery was dropped. All dropped records count as requested
    /// then. `None` where nothing was dropped since the last call.
    pub(super) fn to_read_again(&self, now: Instant) -> Option<i64> {
        let mut state = self.lock();
        let overdue = |stage: Stage| matches!(stage, Stage::Requested(at) if now.duration_since(at) >= READ_AGAIN_TIMEOUT);
        if !state.open.iter().any(|(_, stage)| *stage == Stage::Lost || overdue(*stage)) {
            return None;
        }
        let missing = |stage: Stage| matches!(stage, Stage::Lost | Stage::Requested(_));
        let first = state.open.iter().find(|(_, stage)| missing(*stage)).map(|(offset, _)| *offset)?;
        state.rereading = first..state.end.unwrap_or(first);
        state.open.iter_mut().filter(|(_, stage)| missing(*stage)).for_each(|entry| {
            entry.1 = Stage::Requested(now);
        });
        Some(first)
    }

    /// Takes note that the partition begins at this offset now: dropped records below it cannot be read again.
    pub(super) fn begins_at(&self, offset: i64) {
        let mut state = self.lock();
        for (at, stage) in &mut state.open {
            if *at < offset && matches!(stage, Stage::Lost | Stage::Requested(_)) {
                *stage = Stage::Settled;
            }
        }
        state.advance();
    }

    /// How many records and bytes are open.
    pub(super) fn load(&self) -> Load {
        let state = self.lock();
        Load { open: state.open.len(), kept_bytes: state.kept_bytes }
    }

    /// Blocks until no delivery of the partition is in progress, at most until `deadline`, and returns whether that is
    /// so. It does not wait for deliveries that are stuck.
    pub(super) fn drained(&self, deadline: Instant) -> bool {
        let state = self.lock();
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.settled.wait_timeout_while(state, left, |state| state.in_progress > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.in_progress == 0
    }

    /// Takes note that the partition is not assigned to this worker any more.
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

    /// The lowest offset that is not settled.
    fn next_to_commit(&self) -> Option<i64> {
        self.open.front().map(|(offset, _)| *offset).or(self.end)
    }

    /// Drops settled records at the front.
    fn advance(&mut self) {
        while self.open.front().is_some_and(|(_, stage)| *stage == Stage::Settled) {
            self.open.pop_front();
        }
    }
}

/// Settles deliveries whose index is their offset.
impl Settle for OffsetTracker {
    fn ended(&self, index: usize, settled: bool) {
        let mut state = self.lock();
        if let Ok(at) = state.find(index as i64) {
            match state.open[at].1 {
                Stage::InProgress => state.in_progress -= 1,
                Stage::Kept(bytes) => {
                    state.in_progress -= 1;
                    state.kept_bytes -= bytes;
                }
                Stage::Stuck(bytes) => state.kept_bytes -= bytes,
                Stage::Settled | Stage::Lost | Stage::Requested(_) => {}
            }
            // In a retired tracker the record stays open, so that the offset to commit does not move.
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
            && state.open[at].1 == Stage::InProgress
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
            state.in_progress -= 1;
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
    fn an_offset_is_committed_when_everything_below_it_is_settled() {
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
        assert_eq!(tracker.to_commit_at(now + REPEAT_COMMIT), Some(15), "its success was not reported");
    }

    #[test]
    fn dropped_records_are_read_again_and_the_records_around_them_are_not() {
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
    fn records_that_were_settled_while_they_were_read_again_are_known() {
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
    fn a_record_that_does_not_arrive_is_requested_again_unless_the_log_lost_it() {
        let tracker = delivered(0..2);
        let now = Instant::now();
        tracker.ended(0, false);
        assert_eq!(tracker.to_read_again(now), Some(0));
        assert_eq!(tracker.to_read_again(now + READ_AGAIN_TIMEOUT), Some(0));
        tracker.ended(1, false);
        assert_eq!(tracker.to_read_again(now + READ_AGAIN_TIMEOUT), Some(0));
        tracker.begins_at(1);
        assert_eq!(tracker.to_commit(), Some(1));
        assert_eq!(tracker.arrived(1), Arrival::Deliver);
    }

    #[test]
    fn kept_records_count_until_they_are_settled_and_stuck_ones_do_not_delay_a_handover() {
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
    fn a_settle_after_the_partition_was_handed_back_does_not_count() {
        let tracker = delivered(0..2);
        tracker.ended(0, true);
        assert!(!tracker.drained(Instant::now()));
        tracker.retire();
        tracker.ended(1, true);
        assert_eq!(tracker.to_commit(), Some(1));
        assert!(tracker.drained(Instant::now()));
    }
}
