//! The worker's consumer: a thread of its own that polls, because librdkafka wants to be polled whatever the
//! workers are doing. It delivers into the inbox, commits what is settled, and reads again what was dropped.
//!
//! A partition that goes to another worker goes in order: what waits is let go of, what is in hand is waited
//! for, what is settled is committed, and only then it is given up. So nothing settled comes again there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};
use tokio::sync::watch;

use super::client::{OpenError, Options, logs, not_made};
use super::inbox::Inbox;
use super::link::State;
use super::offsets::{Arrival, Tracker};
use super::records;
use crate::bus::{Delivery, Receipt};

/// How long a poll waits for a record; also how soon it is noticed that the consumer is to end.
const POLL: Duration = Duration::from_millis(50);

/// The same while nothing is fetched, because the inbox is full.
const POLL_WHILE_FULL: Duration = Duration::from_millis(5);

/// How many records are delivered together, if so many have arrived.
const BATCH: usize = 1024;

/// How often what is settled is committed, and what was dropped is read again.
const TICK: Duration = Duration::from_millis(250);

/// How long a partition that is given up waits for what is in hand.
const DRAIN: Duration = Duration::from_secs(5);

/// How long the client may take to go back to an offset; it asks no broker for that.
const SEEK: Duration = Duration::from_secs(2);

/// A consumer on its thread.
pub(super) struct Worker {
    consumer: BaseConsumer<Held>,
    topic: Arc<str>,
    link: watch::Receiver<State>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    /// Makes the consumer. It connects in the background, and joins its group when it runs.
    pub(super) fn open(
        options: &Options,
        topic: &Arc<str>,
        link: watch::Receiver<State>,
        inbox: Arc<Inbox>,
        stop: Arc<AtomicBool>,
    ) -> Result<Worker, OpenError> {
        let mut config = options.client();
        config
            .set("group.id", &options.group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A worker that dies in silence holds its partitions for so long.
            .set("session.timeout.ms", "10000")
            .set("max.poll.interval.ms", "300000")
            .set("fetch.min.bytes", "1")
            // Only how long an idle fetch lasts, and with it a new partition waits for its first.
            .set("fetch.wait.max.ms", "100")
            // Its default stalls for a second whenever a thousand records wait in the client.
            .set("fetch.queue.backoff.ms", "1")
            .set("queued.max.messages.kbytes", "16384")
            .set("message.max.bytes", options.largest_record().to_string());
        let held = Held {
            topic: Arc::clone(topic),
            partitions: Mutex::default(),
            inbox,
            paused: AtomicBool::new(false),
        };
        let consumer = config.create_with_context(held).map_err(|error| not_made(&error))?;
        Ok(Worker { consumer, topic: Arc::clone(topic), link, stop })
    }

    /// Polls until told to stop, then leaves the group.
    pub(super) fn run(self) {
        // A topic that is subscribed to before it exists is not noticed for a while when it is made.
        while self.link.borrow().ack_partitions.is_none() && !self.stops() {
            let _ = self.consumer.poll(POLL);
        }
        if !self.stops()
            && let Err(error) = self.consumer.subscribe(&[&*self.topic])
        {
            tracing::error!(%error, "the worker cannot subscribe to {}", self.topic);
            return;
        }
        let mut last_tick = Instant::now();
        while !self.stops() {
            self.poll();
            self.regulate();
            if last_tick.elapsed() >= TICK {
                last_tick = Instant::now();
                self.held().commit(&self.consumer, CommitMode::Async);
                self.read_again();
            }
        }
        self.held().give_up(&self.consumer, &self.held().all());
        self.consumer.unsubscribe();
        // Dropping the consumer leaves the group, and blocks until it has.
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn held(&self) -> &Arc<Held> {
        self.consumer.client().context()
    }

    /// Delivers what has arrived. That a poll answers nothing does not mean that its time was over.
    fn poll(&self) {
        let (held, mut count) = (self.held(), 0);
        let paused = held.paused.load(Ordering::Relaxed);
        let mut polled = self.consumer.poll(if paused { POLL_WHILE_FULL } else { POLL });
        while let Some(result) = polled {
            match result {
                // A poll may take a partition away, so nothing may be held back here meanwhile.
                Ok(message) => held.delivery(&message).into_iter().for_each(|it| held.inbox.push(it)),
                Err(error) => tell(&error),
            }
            count += 1;
            if count == BATCH || held.inbox.is_full() {
                break;
            }
            polled = self.consumer.poll(Duration::ZERO);
        }
        if count > 0 {
            held.inbox.announce();
        }
    }

    /// Stops fetching while the inbox is full. Polling goes on, or the group would take this worker for dead.
    fn regulate(&self) {
        let (held, consumer) = (self.held(), &self.consumer);
        let paused = held.paused.load(Ordering::Relaxed);
        let done = match (paused, held.inbox.is_full()) {
            (false, true) => consumer.assignment().and_then(|all| consumer.pause(&all)),
            (true, _) if held.inbox.has_room() => consumer.assignment().and_then(|all| consumer.resume(&all)),
            _ => return,
        };
        match done {
            Ok(()) => held.paused.store(!paused, Ordering::Relaxed),
            Err(error) => tracing::debug!(%error, "fetching was not paused or resumed yet"),
        }
    }

    /// Goes back to what was dropped unsettled.
    fn read_again(&self) {
        for (partition, tracker) in self.held().all() {
            let Some(offset) = tracker.to_read_again(Instant::now()) else { continue };
            tracing::debug!(partition, offset, "reading again what was not settled");
            if let Ok((begin, _)) = self.consumer.fetch_watermarks(&self.topic, partition, SEEK) {
                tracker.begins_at(begin);
            }
            if let Err(error) = self.consumer.seek(&self.topic, partition, Offset::Offset(offset), SEEK) {
                tracing::debug!(%error, partition, offset, "not yet");
            }
        }
    }
}

fn tell(error: &KafkaError) {
    // Connections are the link's to tell of.
    tracing::debug!(%error, "the worker's consumer");
}

/// The partitions that are this worker's.
pub(super) struct Held {
    topic: Arc<str>,
    // std Mutex: held for a look at the map, on the polling thread alone
    partitions: Mutex<BTreeMap<i32, Arc<Tracker>>>,
    inbox: Arc<Inbox>,
    paused: AtomicBool,
}

type Trackers = Vec<(i32, Arc<Tracker>)>;

impl Held {
    /// A record as a delivery, unless it has been delivered already.
    fn delivery(&self, message: &BorrowedMessage<'_>) -> Option<Delivery> {
        let (partition, offset) = (message.partition(), message.offset());
        let index = usize::try_from(offset).ok()?;
        let mut partitions = self.partitions();
        let tracker = partitions.get_mut(&partition)?;
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
        let receipt = Receipt::new(Arc::<Tracker>::clone(tracker), index);
        drop(partitions);
        Some(records::delivery(message, &self.topic, receipt))
    }

    fn all(&self) -> Trackers {
        self.partitions().iter().map(|(partition, tracker)| (*partition, Arc::clone(tracker))).collect()
    }

    fn of(&self, list: &TopicPartitionList) -> Trackers {
        let named = |partition: i32| list.elements().iter().any(|element| element.partition() == partition);
        self.all().into_iter().filter(|(partition, _)| named(*partition)).collect()
    }

    /// Commits what moved since the last time.
    fn commit(&self, consumer: &BaseConsumer<Held>, mode: CommitMode) {
        self.commit_of(consumer, &self.all(), mode);
    }

    fn commit_of(&self, consumer: &BaseConsumer<Held>, trackers: &Trackers, mode: CommitMode) {
        let mut moved = TopicPartitionList::new();
        for (partition, tracker) in trackers {
            if let Some(offset) = tracker.to_commit()
                && let Err(error) =
                    moved.add_partition_offset(&self.topic, *partition, Offset::Offset(offset))
            {
                tracing::warn!(%error, partition, offset, "no offset to commit");
            }
        }
        if moved.count() > 0
            && let Err(error) = consumer.commit(&moved, mode)
        {
            tracing::debug!(%error, "offsets were not committed; the next commit includes them");
            trackers.iter().for_each(|(_, tracker)| tracker.commit_failed());
        }
    }

    /// Lets go of partitions in order.
    fn give_up(&self, consumer: &BaseConsumer<Held>, trackers: &Trackers) {
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

    fn forget(&self, trackers: &Trackers) {
        for (partition, tracker) in trackers {
            tracker.retire();
            self.inbox.forget(*partition);
            self.partitions().remove(partition);
        }
    }

    fn partitions(&self) -> MutexGuard<'_, BTreeMap<i32, Arc<Tracker>>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Held {
    logs!();

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the worker's connection");
    }
}

impl ConsumerContext for Held {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Held>, rebalance: &Rebalance<'_>) {
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

    fn post_rebalance(&self, consumer: &BaseConsumer<Held>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            for element in list.elements() {
                self.partitions().insert(element.partition(), Arc::default());
            }
            if self.paused.load(Ordering::Relaxed)
                && let Err(error) = consumer.pause(list)
            {
                tracing::debug!(%error, "new partitions are fetched although the inbox is full");
            }
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "offsets were not committed; the next commit includes them");
            self.of(offsets).iter().for_each(|(_, tracker)| tracker.commit_failed());
        }
    }
}
