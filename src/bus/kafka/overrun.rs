//! Whether a consumer waits for records beyond the end of a partition. librdkafka 2.12 remembers the epoch of each
//! partition's leader. Where a topic is deleted and made again, its epochs begin at zero, and the client takes all that
//! it hears of the new topic for older than what it knows: it asks for the old offset for ever, and nothing tells.
//!
//! So a client of its own asks where the partitions end, and a consumer that waits beyond an end twice in a row is
//! replaced by a new one.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use super::backlog;
use super::client::Options;
use crate::bus::{Ends, PublishError};

/// How often the ends are asked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Partitions, and the offset that is read next in each.
type Positions = BTreeMap<i32, i64>;

/// Looks at one consumer.
pub(super) struct Overrun {
    last: Instant,
    /// What was asked, and where the consumer was then.
    asked: Option<(Positions, Receiver<Result<Ends, PublishError>>)>,
    /// Where the consumer waited beyond the end the last time.
    beyond: Positions,
}

impl Overrun {
    pub(super) fn new() -> Overrun {
        Overrun { last: Instant::now(), asked: None, beyond: Positions::new() }
    }

    /// Whether the consumer, which is at these positions, waits beyond the end of a partition. Asks from time to time
    /// on a thread of its own, and never blocks.
    pub(super) fn is_there(&mut self, options: &Options, positions: impl Fn() -> Positions) -> bool {
        let Some((before, answer)) = &self.asked else {
            if self.last.elapsed() >= LOOK_EVERY {
                self.last = Instant::now();
                self.ask(options.clone(), positions());
            }
            return false;
        };
        let answer = match answer.try_recv() {
            Err(TryRecvError::Empty) => return false,
            Ok(Ok(ends)) => Some(beyond(before, &positions(), &ends)),
            // Then nothing is known.
            Ok(Err(_)) | Err(TryRecvError::Disconnected) => None,
        };
        self.asked = None;
        self.found(answer.unwrap_or_default())
    }

    /// Takes note of where the consumer waits beyond the end; answers whether it did so the last time, too.
    fn found(&mut self, beyond: Positions) -> bool {
        let is_there = beyond.iter().any(|(partition, offset)| self.beyond.get(partition) == Some(offset));
        self.beyond = beyond;
        is_there
    }

    fn ask(&mut self, options: Options, positions: Positions) {
        if positions.is_empty() {
            return;
        }
        let (answer, receiver) = mpsc::channel();
        let asking = thread::Builder::new().name("kafka-ends".to_owned()).spawn(move || {
            // The consumer may be gone meanwhile.
            let _ = answer.send(backlog::ends(&options));
        });
        match asking {
            Ok(_) => self.asked = Some((positions, receiver)),
            Err(error) => tracing::debug!(%error, "the ends of the partitions cannot be asked for"),
        }
    }
}

/// Where the consumer was beyond the end, and still is at the same place.
fn beyond(before: &Positions, now: &Positions, ends: &Ends) -> Positions {
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
    fn a_consumer_is_beyond_an_end_only_where_it_waits_there() {
        let positions = Positions::from([(0, 5), (1, 5), (2, 5), (3, 5), (4, 5)]);
        let moved = Positions::from([(0, 5), (1, 5), (2, 6), (3, 5)]);
        let ends = Ends([(0, Some(5)), (1, Some(4)), (2, Some(4)), (3, None), (4, Some(4))].into());
        assert_eq!(beyond(&positions, &moved, &ends), Positions::from([(1, 5)]));
    }

    #[test]
    fn it_is_said_the_second_time_in_a_row() {
        let mut overrun = Overrun::new();
        for (offset, said) in
            [(Some(5), false), (None, false), (Some(5), false), (Some(5), true), (Some(6), false)]
        {
            let found = offset.map(|offset| (1, offset)).into_iter().collect();
            assert_eq!(overrun.found(found), said, "{offset:?}");
        }
    }
}
