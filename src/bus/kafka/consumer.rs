//! The worker's consumer. It polls on a thread of its own, because librdkafka must be polled even while all worker
//! tasks are busy. It delivers records into the inbox, commits settled offsets, and reads dropped records again. It
//! must never commit an offset before everything below it is settled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset};
use tokio::sync::watch;

use super::assignment::Assignment;
use super::broker_monitor::BrokerState;
use super::client::{OpenError, Options, not_made};
use super::client_errors::ClientErrors;
use super::inbox::Inbox;
use super::liveness::{LivenessProbe, drop_in_background};
use super::overrun::Overrun;

/// How long a poll waits for a record, and how often the thread checks whether it is to stop.
const POLL: Duration = Duration::from_millis(50);

/// The same while the inbox is full, so nothing is fetched.
const POLL_WHILE_FULL: Duration = Duration::from_millis(5);

/// The most records that are delivered before the worker is notified.
const BATCH: usize = 1024;

/// How often settled offsets are committed, and dropped records are read again.
const TICK: Duration = Duration::from_millis(250);

/// How long the client may take to seek to an offset, which needs no broker.
const SEEK_TIMEOUT: Duration = Duration::from_secs(2);

/// A consumer and its thread's state.
pub(super) struct ConsumerThread {
    options: Options,
    config: ClientConfig,
    consumer: BaseConsumer<Assignment>,
    topic: Arc<str>,
    group: String,
    errors: ClientErrors,
    broker_state: watch::Receiver<BrokerState>,
    inbox: Arc<Inbox>,
    stop: Arc<AtomicBool>,
}

impl ConsumerThread {
    /// Creates the consumer. It connects in the background, and joins its group when it runs.
    pub(super) fn open(
        options: &Options,
        topic: &Arc<str>,
        (broker_state, errors): (watch::Receiver<BrokerState>, ClientErrors),
        inbox: Arc<Inbox>,
        stop: Arc<AtomicBool>,
    ) -> Result<ConsumerThread, OpenError> {
        let mut config = options.client();
        config
            .set("group.id", &options.group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // The group waits so long for a worker that was killed before it gives its partitions to others.
            .set("session.timeout.ms", "10000")
            .set("max.poll.interval.ms", "300000")
            .set("fetch.min.bytes", "1")
            // An idle fetch lasts so long, and the first fetch of a new partition waits for its end.
            .set("fetch.wait.max.ms", "100")
            // The default stalls for a second whenever a thousand records wait in the client.
            .set("fetch.queue.backoff.ms", "1")
            .set("queued.max.messages.kbytes", "16384")
            .set("message.max.bytes", options.largest_record().to_string());
        if !options.group_instance.is_empty() {
            config.set("group.instance.id", &options.group_instance);
        }
        let (topic, group) = (Arc::clone(topic), options.group.clone());
        let consumer = consumer(&config, Assignment::new(&topic, &group, &inbox, &errors))?;
        let options = options.clone();
        Ok(ConsumerThread { options, config, consumer, topic, group, errors, broker_state, inbox, stop })
    }

    /// Polls until `stop` is set, then leaves the group.
    pub(super) fn run(mut self) {
        // A consumer that subscribes before the topic exists would notice the new topic late.
        while self.broker_state.borrow().ack_partitions.is_none() && !self.is_stopped() {
            let _ = self.consumer.poll(POLL);
        }
        while !self.is_stopped() {
            if let Err(error) = self.consumer.subscribe(&[&*self.topic]) {
                tracing::error!(%error, "the worker cannot subscribe to {}; it ends", self.topic);
                return;
            }
            if let Some(reason) = self.work() {
                tracing::warn!("the worker's consumer {reason}; it is replaced");
                self.assignment().discard(&self.assignment().all());
                let assignment = Assignment::new(&self.topic, &self.group, &self.inbox, &self.errors);
                match consumer(&self.config, assignment) {
                    Ok(new) => drop_in_background(std::mem::replace(&mut self.consumer, new)),
                    Err(error) => {
                        tracing::error!(%error, "the worker's consumer cannot be replaced yet; it is tried again");
                    }
                }
            }
        }
        if !self.broker_state.borrow().is_up() {
            // The last commits would wait for Kafka. Settled events may be redelivered, which changes nothing.
            self.assignment().discard(&self.assignment().all());
            return drop_in_background(self.consumer);
        }
        self.assignment().hand_back(&self.consumer, &self.assignment().all());
        self.consumer.unsubscribe();
        // Dropping the consumer leaves the group, and blocks until it has.
    }

    /// Polls until `stop` is set, or until the consumer must be replaced; returns why.
    fn work(&self) -> Option<&'static str> {
        let (mut last_tick, mut liveness, mut overrun) =
            (Instant::now(), LivenessProbe::new(), Overrun::new());
        while !self.is_stopped() {
            if self.poll() {
                liveness.responded();
            } else if liveness.is_unresponsive(&self.consumer, &self.topic, &self.broker_state) {
                return Some("does not respond");
            }
            let is_tick = last_tick.elapsed() >= TICK;
            // Polling continues while nothing is fetched, or the group would remove this worker.
            self.assignment().regulate(&self.consumer, is_tick);
            if is_tick {
                last_tick = Instant::now();
                self.assignment().commit(&self.consumer, CommitMode::Async);
                self.read_again();
                if overrun.is_confirmed(&self.options, || self.next_offsets()) {
                    return Some("waits beyond the end of its topic, which was made again");
                }
            }
        }
        None
    }

    /// The offset that is read next in each partition from which records have arrived.
    fn next_offsets(&self) -> BTreeMap<i32, i64> {
        let trackers = self.assignment().all().into_iter();
        trackers.filter_map(|(partition, tracker)| Some((partition, tracker.end()?))).collect()
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn assignment(&self) -> &Arc<Assignment> {
        self.consumer.client().context()
    }

    /// Delivers the records that have arrived, and returns whether there are any. A poll can return early without a
    /// record.
    fn poll(&self) -> bool {
        let (assignment, mut count, mut records) = (self.assignment(), 0, 0);
        let mut polled = self.consumer.poll(if assignment.inbox.has_room() { POLL } else { POLL_WHILE_FULL });
        while let Some(result) = polled {
            match result {
                // The next poll may revoke a partition, so each record goes into the inbox, which can be drained.
                Ok(message) => {
                    records += 1;
                    assignment.delivery(&message).into_iter().for_each(|it| assignment.inbox.push(it));
                }
                Err(error) => assignment.read_failed(&error),
            }
            count += 1;
            if count == BATCH || assignment.inbox.is_full() {
                break;
            }
            polled = self.consumer.poll(Duration::ZERO);
        }
        if records > 0 {
            assignment.reading_works();
            assignment.inbox.announce();
        }
        records > 0
    }

    /// Seeks back to records that were dropped unsettled.
    fn read_again(&self) {
        for (partition, tracker) in self.assignment().all() {
            let Some(offset) = tracker.to_read_again(Instant::now()) else { continue };
            tracing::debug!(partition, offset, "reading unsettled records again");
            if let Ok((begin, _)) = self.consumer.fetch_watermarks(&self.topic, partition, SEEK_TIMEOUT) {
                tracker.begins_at(begin);
            }
            if let Err(error) =
                self.consumer.seek(&self.topic, partition, Offset::Offset(offset), SEEK_TIMEOUT)
            {
                tracing::debug!(%error, partition, offset, "the consumer cannot seek yet");
            }
        }
    }
}

/// Creates a consumer, which has not subscribed yet.
fn consumer(config: &ClientConfig, assignment: Assignment) -> Result<BaseConsumer<Assignment>, OpenError> {
    config.create_with_context(assignment).map_err(|error| not_made(&error))
}
