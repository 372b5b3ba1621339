//! The assignment: the partitions that the group gives to a worker. When the group revokes a partition, the worker
//! drops the deliveries that wait, waits for those in progress, and commits what is settled before another worker gets
//! the partition. So that worker does not receive a settled event again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};

use super::client::logs;
use super::client_errors::{Activity, ClientErrors};
use super::flow::{Flow, SharedLoad};
use super::inbox::Inbox;
use super::offsets::{Arrival, Load, OffsetTracker};
use super::records;
use crate::bus::{Delivery, DeliveryReceipt};
use crate::telemetry::limited;

/// How long a revoked partition waits for deliveries in progress.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The partitions that are assigned to this worker.
pub(super) struct Assignment {
    pub(super) topic: Arc<str>,
    group: String,
    // std Mutex: held for a look at the map, on the polling thread alone
    partitions: Mutex<Partitions>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) errors: ClientErrors,
}

/// Assigned partitions by number.
pub(super) type Partitions = BTreeMap<i32, Partition>;

/// A partition that is assigned to this worker.
#[derive(Default)]
pub(super) struct Partition {
    pub(super) tracker: Arc<OffsetTracker>,
    pub(super) flow: Flow,
}

/// Partitions with the trackers of their offsets.
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

    /// The delivery of a record; `None` where it has been delivered already.
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
                tracing::warn!(
                    partition,
                    offset,
                    "the offsets of topic {} went back: it was made again, or cut",
                    self.topic
                );
                tracker.retire();
                *tracker = Arc::default();
                tracker.arrived(offset);
            }
        }
        let receipt = DeliveryReceipt::new(Arc::<OffsetTracker>::clone(tracker), index);
        drop(partitions);
        Some(records::delivery(message, &self.topic, receipt))
    }

    /// The trackers of all assigned partitions.
    pub(super) fn all(&self) -> OffsetTrackers {
        self.partitions().iter().map(|(number, it)| (*number, Arc::clone(&it.tracker))).collect()
    }

    fn trackers_of(&self, list: &TopicPartitionList) -> OffsetTrackers {
        let named = |partition: i32| list.elements().iter().any(|element| element.partition() == partition);
        self.all().into_iter().filter(|(partition, _)| named(*partition)).collect()
    }

    /// Commits the offsets that moved since the last commit.
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
                tracing::warn!(%error, partition, offset, "an offset cannot be committed; its events may be redelivered");
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

    /// Takes note that the worker is a member of its group and reads.
    pub(super) fn reading_works(&self) {
        self.errors.worked(Activity::Consume, &self.group);
    }

    /// Takes note that the worker cannot read, or cannot join its group.
    pub(super) fn read_failed(&self, error: &KafkaError) {
        self.errors.failed(Activity::Consume, &self.group, error);
    }

    /// Hands partitions back: drains and commits them before another worker gets them.
    pub(super) fn hand_back(&self, consumer: &BaseConsumer<Assignment>, trackers: &OffsetTrackers) {
        trackers.iter().for_each(|(partition, _)| self.inbox.discard(*partition));
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        for (partition, tracker) in trackers {
            if !tracker.drained(deadline) {
                tracing::warn!(
                    partition,
                    "a partition was revoked while events were in progress; they will be redelivered"
                );
            }
        }
        // This commit repeats an earlier one, which may have failed without a report yet.
        trackers.iter().for_each(|(_, tracker)| tracker.commit_failed());
        self.commit_of(consumer, trackers, CommitMode::Sync);
        self.discard(trackers);
    }

    /// Drops partitions without a commit.
    pub(super) fn discard(&self, trackers: &OffsetTrackers) {
        for (partition, tracker) in trackers {
            tracker.retire();
            self.inbox.discard(*partition);
            self.partitions().remove(partition);
        }
    }

    pub(super) fn partitions(&self) -> MutexGuard<'_, Partitions> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Assignment {
    /// Pauses and resumes partitions as their load demands now. With `restate`, partitions that are to be fetched are
    /// resumed even if they were resumed before.
    pub(super) fn regulate(&self, consumer: &BaseConsumer<Assignment>, restate: bool) {
        let (mut paused, mut resumed) = (Vec::new(), Vec::new());
        let mut partitions = self.partitions();
        let loads: Vec<Load> = partitions.values().map(|it| it.tracker.load()).collect();
        let shared = SharedLoad {
            inbox_is_full: self.inbox.is_full(),
            inbox_has_room: self.inbox.has_room(),
            kept_bytes: loads.iter().map(|load| load.kept_bytes).sum(),
        };
        for ((number, it), load) in partitions.iter_mut().zip(loads) {
            let fetch = it.flow.should_fetch(load, shared);
            if it.flow != Flow(Some(fetch)) {
                log_flow(*number, fetch, load, shared);
            } else if !fetch || !restate {
                continue;
            }
            it.flow = Flow(Some(fetch));
            if fetch { &mut resumed } else { &mut paused }.push(*number);
        }
        drop(partitions);
        self.change_flow(&paused, |list| consumer.pause(list));
        self.change_flow(&resumed, |list| consumer.resume(list));
    }

    fn change_flow(&self, numbers: &[i32], change: impl FnOnce(&TopicPartitionList) -> KafkaResult<()>) {
        if numbers.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(numbers.len());
        for number in numbers {
            list.add_partition(&self.topic, *number);
        }
        if let Err(error) = change(&list) {
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
        tracing::debug!(%error, reason, "an error of the worker's connection");
    }
}

impl ConsumerContext for Assignment {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Assignment>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(list) if consumer.assignment_lost() => {
                tracing::warn!(
                    "the group removed this worker, which did not respond in time; its unsettled events will be redelivered"
                );
                self.discard(&self.trackers_of(list));
            }
            Rebalance::Revoke(list) => self.hand_back(consumer, &self.trackers_of(list)),
            Rebalance::Assign(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "the group could not be rebalanced"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Assignment>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            self.reading_works();
            for element in list.elements() {
                self.partitions().insert(element.partition(), Partition::default());
            }
            // A partition that was assigned before may still be paused: the client remembers that.
            self.regulate(consumer, false);
        }
    }
}

/// Logs that a partition is fetched, or not, from now on.
fn log_flow(partition: i32, fetch: bool, load: Load, shared: SharedLoad) {
    let Load { open, kept_bytes } = load;
    if fetch || shared.inbox_is_full || !shared.inbox_has_room {
        let state = if fetch { "a partition is fetched" } else { "a partition is not fetched" };
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
