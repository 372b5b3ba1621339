//! The partitions that are a worker's, and how they come and go. One that goes to another worker goes in order:
//! what waits is let go of, what is in hand is waited for, what is settled is committed, and only then it is
//! given up. So nothing that was settled comes again there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};

use super::client::logs;
use super::client_errors::{Activity, ClientErrors};
use super::flow::{Flow, Room};
use super::inbox::Inbox;
use super::offsets::{Arrival, Load, OffsetTracker};
use super::records;
use crate::bus::{Delivery, DeliveryReceipt};
use crate::telemetry::limited;

/// How long a partition that is given up waits for what is in hand.
const DRAIN: Duration = Duration::from_secs(5);

/// The partitions that are this worker's.
pub(super) struct Assignment {
    pub(super) topic: Arc<str>,
    group: String,
    // std Mutex: held for a look at the map, on the polling thread alone
    partitions: Mutex<Partitions>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) errors: ClientErrors,
}

/// The partitions by number.
pub(super) type Partitions = BTreeMap<i32, Partition>;

/// A partition that is this worker's.
#[derive(Default)]
pub(super) struct Partition {
    pub(super) tracker: Arc<OffsetTracker>,
    pub(super) flow: Flow,
}

/// Partitions and what became of their records.
pub(super) type OffsetTrackers = Vec<(i32, Arc<OffsetTracker>)>;

impl Assignment {
    pub(super) fn new(
        topic: &Arc<str>,
        group: &str,
        inbox: &Arc<Inbox>,
        errors: &ClientErrors,
    ) -> Assignment {
        Assignment {
            topic: Arc::clone(topic),
            group: group.to_owned(),
            partitions: Mutex::default(),
            inbox: Arc::clone(inbox),
            errors: errors.clone(),
        }
    }

    /// A record as a delivery, unless it has been delivered already.
    pub(super) fn delivery(&self, message: &BorrowedMessage<'_>) -> Option<Delivery> {
        let (partition, offset) = (message.partition(), message.offset());
        let index = usize::try_from(offset).ok()?;
        let mut partitions = self.partitions();
        let Partition { tracker, flow } = partitions.get_mut(&partition)?;
        flow.arrived();
        match tracker.arrived(offset) {
            Arrival::Known => return None,
            Arrival::Deliver => {}
            Arrival::Restarted => {
                tracing::warn!(partition, offset, "topic {} begins anew", self.topic);
                tracker.retire();
                *tracker = Arc::default();
                tracker.arrived(offset);
            }
        }
        let receipt = DeliveryReceipt::new(Arc::<OffsetTracker>::clone(tracker), index);
        drop(partitions);
        Some(records::delivery(message, &self.topic, receipt))
    }

    pub(super) fn all(&self) -> OffsetTrackers {
        self.partitions().iter().map(|(number, it)| (*number, Arc::clone(&it.tracker))).collect()
    }

    fn of(&self, list: &TopicPartitionList) -> OffsetTrackers {
        let named = |partition: i32| list.elements().iter().any(|element| element.partition() == partition);
        self.all().into_iter().filter(|(partition, _)| named(*partition)).collect()
    }

    /// Commits what moved since the last time.
    pub(super) fn commit(&self, consumer: &BaseConsumer<Assignment>, mode: CommitMode) {
        self.commit_of(consumer, &self.all(), mode);
    }

    fn commit_of(&self, consumer: &BaseConsumer<Assignment>, trackers: &OffsetTrackers, mode: CommitMode) {
        let mut moved = TopicPartitionList::new();
        for (partition, tracker) in trackers {
            if let Some(offset) = tracker.to_commit()
                && let Err(error) =
                    moved.add_partition_offset(&self.topic, *partition, Offset::Offset(offset))
            {
                tracing::warn!(%error, partition, offset, "no offset to commit");
            }
        }
        if moved.count() == 0 {
            return;
        }
        match consumer.commit(&moved, mode) {
            Ok(()) if matches!(mode, CommitMode::Sync) => self.errors.worked(Activity::Commit, &self.group),
            Ok(()) => {}
            Err(error) => self.commit_failed(&error, trackers),
        }
    }

    fn commit_failed(&self, error: &KafkaError, trackers: &OffsetTrackers) {
        tracing::debug!(%error, "offsets were not committed; the next commit includes them");
        self.errors.failed(Activity::Commit, &self.group, error);
        trackers.iter().for_each(|(_, tracker)| tracker.commit_failed());
    }

    /// The worker's group has this worker, and has it read.
    pub(super) fn reads(&self) {
        self.errors.worked(Activity::Consume, &self.group);
    }

    /// The worker cannot read, or cannot join its group.
    pub(super) fn read_failed(&self, error: &KafkaError) {
        self.errors.failed(Activity::Consume, &self.group, error);
    }

    /// Lets go of partitions in order.
    pub(super) fn give_up(&self, consumer: &BaseConsumer<Assignment>, trackers: &OffsetTrackers) {
        trackers.iter().for_each(|(partition, _)| self.inbox.forget(*partition));
        let deadline = Instant::now() + DRAIN;
        for (partition, tracker) in trackers {
            if !tracker.drained(deadline) {
                tracing::warn!(partition, "a partition was given up with events in hand; they come again");
            }
        }
        // Also what an earlier commit was about: whether that one succeeded may not be known yet.
        trackers.iter().for_each(|(_, tracker)| tracker.commit_failed());
        self.commit_of(consumer, trackers, CommitMode::Sync);
        self.forget(trackers);
    }

    pub(super) fn forget(&self, trackers: &OffsetTrackers) {
        for (partition, tracker) in trackers {
            tracker.retire();
            self.inbox.forget(*partition);
            self.partitions().remove(partition);
        }
    }

    pub(super) fn partitions(&self) -> MutexGuard<'_, Partitions> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Assignment {
    /// Pauses and resumes partitions as it should be now. With `restate`, those that are to be fetched are resumed also
    /// where they were resumed before.
    pub(super) fn regulate(&self, consumer: &BaseConsumer<Assignment>, restate: bool) {
        let (mut paused, mut resumed) = (Vec::new(), Vec::new());
        let mut partitions = self.partitions();
        let loads: Vec<Load> = partitions.values().map(|it| it.tracker.load()).collect();
        let room = Room {
            inbox_is_full: self.inbox.is_full(),
            inbox_has_room: self.inbox.has_room(),
            kept_bytes: loads.iter().map(|load| load.kept_bytes).sum(),
        };
        for ((number, it), load) in partitions.iter_mut().zip(loads) {
            let wish = it.flow.wish(load, room);
            if it.flow != Flow(Some(wish)) {
                tell(*number, wish, load, room);
            } else if !wish || !restate {
                continue;
            }
            it.flow = Flow(Some(wish));
            if wish { &mut resumed } else { &mut paused }.push(*number);
        }
        drop(partitions);
        self.state(&paused, |list| consumer.pause(list));
        self.state(&resumed, |list| consumer.resume(list));
    }

    fn state(&self, numbers: &[i32], state: impl FnOnce(&TopicPartitionList) -> KafkaResult<()>) {
        if numbers.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(numbers.len());
        for number in numbers {
            list.add_partition(&self.topic, *number);
        }
        if let Err(error) = state(&list) {
            tracing::debug!(%error, ?numbers, "fetching was not paused or resumed yet");
            let mut partitions = self.partitions();
            for number in numbers {
                if let Some(partition) = partitions.get_mut(number) {
                    partition.flow = Flow(None);
                }
            }
        }
    }
}

impl ClientContext for Assignment {
    logs!();

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the worker's connection");
    }
}

impl ConsumerContext for Assignment {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Assignment>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(list) if consumer.assignment_lost() => {
                tracing::warn!("the group took this worker for dead; its events come again");
                self.forget(&self.of(list));
            }
            Rebalance::Revoke(list) => self.give_up(consumer, &self.of(list)),
            Rebalance::Assign(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "the group could not be rebalanced"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Assignment>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            self.reads();
            for element in list.elements() {
                self.partitions().insert(element.partition(), Partition::default());
            }
            // The client remembers of each partition whether it was paused when it was here before.
            self.regulate(consumer, false);
        }
    }
}

/// Logs that a partition is fetched or not from now on.
fn tell(partition: i32, wish: bool, load: Load, room: Room) {
    let Load { open, kept_bytes } = load;
    if wish || room.inbox_is_full || !room.inbox_has_room {
        let state = if wish { "a partition is fetched" } else { "a partition is not fetched" };
        tracing::debug!(partition, open, kept_bytes, "{state}");
    } else {
        limited!(
            warn,
            "partition behind dead letters";
            partition,
            open,
            kept_bytes,
            "a partition is not fetched until its records that wait for the dead-letter topic are written there"
        );
    }
}
