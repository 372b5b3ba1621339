//! The worker's consumer: a thread of its own that polls, because librdkafka wants to be polled whatever the
//! workers are doing. It delivers into the inbox, commits what is settled, and reads again what was dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset};
use tokio::sync::watch;

use super::assignment::Assignment;
use super::broker_monitor::State;
use super::client::{OpenError, Options, not_made};
use super::client_errors::ClientErrors;
use super::inbox::Inbox;
use super::liveness::{LivenessProbe, drop_in_background};
use super::overrun::Overrun;

/// How long a poll waits for a record; also how soon it is noticed that the consumer is to end.
const POLL: Duration = Duration::from_millis(50);

/// The same while nothing is fetched, because the inbox is full.
const POLL_WHILE_FULL: Duration = Duration::from_millis(5);

/// How many records are delivered together, if so many have arrived.
const BATCH: usize = 1024;

/// How often what is settled is committed, and what was dropped is read again.
const TICK: Duration = Duration::from_millis(250);

/// How long the client may take to go back to an offset; it asks no broker for that.
const SEEK: Duration = Duration::from_secs(2);

/// A consumer on its thread.
pub(super) struct ConsumerThread {
    options: Options,
    config: ClientConfig,
    consumer: BaseConsumer<Assignment>,
    topic: Arc<str>,
    group: String,
    errors: ClientErrors,
    link: watch::Receiver<State>,
    inbox: Arc<Inbox>,
    stop: Arc<AtomicBool>,
}

impl ConsumerThread {
    /// Makes the consumer. It connects in the background, and joins its group when it runs.
    pub(super) fn open(
        options: &Options,
        topic: &Arc<str>,
        (link, errors): (watch::Receiver<State>, ClientErrors),
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
        if !options.group_instance.is_empty() {
            config.set("group.instance.id", &options.group_instance);
        }
        let (topic, group) = (Arc::clone(topic), options.group.clone());
        let consumer = join(&config, Assignment::new(&topic, &group, &inbox, &errors))?;
        let options = options.clone();
        Ok(ConsumerThread { options, config, consumer, topic, group, errors, link, inbox, stop })
    }

    /// Polls until told to stop, then leaves the group.
    pub(super) fn run(mut self) {
        // A topic that is subscribed to before it exists is not noticed for a while when it is made.
        while self.link.borrow().ack_partitions.is_none() && !self.stops() {
            let _ = self.consumer.poll(POLL);
        }
        while !self.stops() {
            if let Err(error) = self.consumer.subscribe(&[&*self.topic]) {
                tracing::error!(%error, "the worker cannot subscribe to {}", self.topic);
                return;
            }
            if let Some(reason) = self.work() {
                tracing::warn!("the worker's consumer {reason}; a new one takes over");
                self.held().forget(&self.held().all());
                let held = Assignment::new(&self.topic, &self.group, &self.inbox, &self.errors);
                match join(&self.config, held) {
                    Ok(new) => drop_in_background(std::mem::replace(&mut self.consumer, new)),
                    Err(error) => tracing::error!(%error, "there is no new one yet"),
                }
            }
        }
        if !self.link.borrow().is_up() {
            // Its last commits would wait for Kafka. What was settled comes again, and changes nothing.
            self.held().forget(&self.held().all());
            return drop_in_background(self.consumer);
        }
        self.held().give_up(&self.consumer, &self.held().all());
        self.consumer.unsubscribe();
        // Dropping the consumer leaves the group, and blocks until it has.
    }

    /// Polls until told to stop, or until the consumer is of no more use; answers why.
    fn work(&self) -> Option<&'static str> {
        let (mut last_tick, mut liveness, mut overrun) =
            (Instant::now(), LivenessProbe::new(), Overrun::new());
        while !self.stops() {
            if self.poll() {
                liveness.felt();
            } else if liveness.is_gone(&self.consumer, &self.topic, &self.link) {
                return Some("gives no sign of life");
            }
            let is_tick = last_tick.elapsed() >= TICK;
            // Polling goes on while nothing is fetched, or the group would take this worker for dead.
            self.held().regulate(&self.consumer, is_tick);
            if is_tick {
                last_tick = Instant::now();
                self.held().commit(&self.consumer, CommitMode::Async);
                self.read_again();
                if overrun.is_there(&self.options, || self.positions()) {
                    return Some("waits beyond the end of its topic, which was made anew");
                }
            }
        }
        None
    }

    /// The offset that is read next in each partition from which records have come.
    fn positions(&self) -> BTreeMap<i32, i64> {
        let trackers = self.held().all().into_iter();
        trackers.filter_map(|(partition, tracker)| Some((partition, tracker.end()?))).collect()
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn held(&self) -> &Arc<Assignment> {
        self.consumer.client().context()
    }

    /// Delivers what has arrived; answers whether anything has. That a poll answers nothing does not mean that
    /// its time was over.
    fn poll(&self) -> bool {
        let (held, mut count, mut records) = (self.held(), 0, 0);
        let mut polled = self.consumer.poll(if held.inbox.has_room() { POLL } else { POLL_WHILE_FULL });
        while let Some(result) = polled {
            match result {
                // A poll may take a partition away, so nothing may be held back here meanwhile.
                Ok(message) => {
                    records += 1;
                    held.delivery(&message).into_iter().for_each(|it| held.inbox.push(it));
                }
                Err(error) => held.read_failed(&error),
            }
            count += 1;
            if count == BATCH || held.inbox.is_full() {
                break;
            }
            polled = self.consumer.poll(Duration::ZERO);
        }
        if records > 0 {
            held.reads();
            held.inbox.announce();
        }
        records > 0
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

/// A consumer, to subscribe with.
fn join(config: &ClientConfig, held: Assignment) -> Result<BaseConsumer<Assignment>, OpenError> {
    config.create_with_context(held).map_err(|error| not_made(&error))
}
