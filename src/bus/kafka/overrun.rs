//! Overrun detection: whether a consumer waits for records beyond the end of a partition. librdkafka 2.12 remembers the
//! epoch of each partition's leader. When a topic is deleted and made again, its epochs begin at zero, and the client
//! ignores the metadata of the new topic as outdated: it fetches the old offset for ever, and reports no error.
//!
//! So a separate client reads where the partitions end, and a consumer that waits beyond an end in two checks in a row
//! is replaced. A check must never block the polling thread.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use super::backlog;
use super::client::Options;
use crate::bus::{Ends, PublishError};

/// How often the ends are checked.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Partitions, and the offset that is read next in each.
type Offsets = BTreeMap<i32, i64>;

/// The checks of one consumer.
pub(super) struct Overrun {
    last: Instant,
    /// The offsets when the last check began, and its answer; `None` where no check is in progress.
    check: Option<(Offsets, Receiver<Result<Ends, PublishError>>)>,
    /// The partitions in which the consumer waited beyond the end in the last check.
    beyond: Offsets,
}

impl Overrun {
    pub(super) fn new() -> Overrun {
        Overrun { last: Instant::now(), check: None, beyond: Offsets::new() }
    }

    /// Whether the consumer waits beyond the end of a partition, in two checks in a row. Checks run from time to time
    /// on a thread of their own; this call never blocks.
    pub(super) fn is_confirmed(&mut self, options: &Options, offsets: impl Fn() -> Offsets) -> bool {
        let Some((before, answer)) = &self.check else {
            if self.last.elapsed() >= CHECK_EVERY {
                self.last = Instant::now();
                self.start_check(options.clone(), offsets());
            }
            return false;
        };
        let answer = match answer.try_recv() {
            Err(TryRecvError::Empty) => return false,
            Ok(Ok(ends)) => Some(beyond(before, &offsets(), &ends)),
            // The check failed, and counts as one without a finding.
            Ok(Err(_)) | Err(TryRecvError::Disconnected) => None,
        };
        self.check = None;
        self.found(answer.unwrap_or_default())
    }

    /// Takes note of the partitions in which the consumer waits beyond the end; returns whether it waited at the same
    /// offset of one of them in the last check, too.
    fn found(&mut self, beyond: Offsets) -> bool {
        let is_confirmed =
            beyond.iter().any(|(partition, offset)| self.beyond.get(partition) == Some(offset));
        self.beyond = beyond;
        is_confirmed
    }

    fn start_check(&mut self, options: Options, offsets: Offsets) {
        if offsets.is_empty() {
            return;
        }
        let (answer, receiver) = mpsc::channel();
        let asking = thread::Builder::new().name("kafka-ends".to_owned()).spawn(move || {
            // The consumer may have ended meanwhile.
            let _ = answer.send(backlog::ends(&options));
        });
        match asking {
            Ok(_) => self.check = Some((offsets, receiver)),
            Err(error) => tracing::debug!(%error, "the ends of the partitions cannot be checked"),
        }
    }
}

/// The partitions in which the consumer was beyond the end, and still waits at the same offset.
fn beyond(before: &Offsets, now: &Offsets, ends: &Ends) -> Offsets {
    let is_beyond = |(partition, offset): &(&i32, &i64)| {
        now.get(partition) == Some(offset)
            && ends.0.get(partition).is_some_and(|end| end.is_some_and(|end| end < **offset))
    };
    before.iter().filter(is_beyond).map(|(partition, offset)| (*partition, *offset)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_partitions_in_which_the_consumer_waits_count() {
        let offsets = Offsets::from([(0, 5), (1, 5), (2, 5), (3, 5), (4, 5)]);
        let moved = Offsets::from([(0, 5), (1, 5), (2, 6), (3, 5)]);
        let ends = Ends([(0, Some(5)), (1, Some(4)), (2, Some(4)), (3, None), (4, Some(4))].into());
        assert_eq!(beyond(&offsets, &moved, &ends), Offsets::from([(1, 5)]));
    }

    #[test]
    fn an_overrun_is_confirmed_by_the_second_check_in_a_row() {
        let mut overrun = Overrun::new();
        for (offset, confirmed) in
            [(Some(5), false), (None, false), (Some(5), false), (Some(5), true), (Some(6), false)]
        {
            let found = offset.map(|offset| (1, offset)).into_iter().collect();
            assert_eq!(overrun.found(found), confirmed, "{offset:?}");
        }
    }
}
