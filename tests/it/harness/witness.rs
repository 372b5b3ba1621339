//! A witness beside a system on Kafka: a plain client that reads the topics from their beginning, in no group, and
//! records all that they hold. It also reads the offsets of the workers' group, and can rewind them, as a broker does
//! that redelivers.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use orderstream::bus::Record;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::task::spawn_blocking;

use crate::clients::http::GUARD;
use crate::harness::bus::{Journal, Traffic};
use crate::harness::kafka::{TestTopics, record};
use crate::harness::wait::until;

/// How long the reader waits for a record before it checks whether it must end.
const POLL: Duration = Duration::from_millis(20);

/// The partition of the records that the test itself writes. Any partition would do: another program may choose them in
/// its own way.
const FED: i32 = 0;

/// The witness.
pub(crate) struct Witness {
    /// The records that it has read.
    pub(crate) journal: Journal,
    observer: Arc<Observer>,
    finish: mpsc::Sender<()>,
    reading: JoinHandle<()>,
}

/// A client that names the workers' group, and never joins it.
struct Observer {
    client: BaseConsumer,
    test_topics: Arc<TestTopics>,
}

impl Witness {
    /// Begins to read the topics of a test, which must exist.
    pub(crate) fn new(test_topics: &Arc<TestTopics>) -> Witness {
        let (journal, test_topics) = (Journal::new(), Arc::clone(test_topics));
        let (finish, finish_requested) = mpsc::channel();
        let reader = Reader::open(&test_topics, journal.clone());
        let reading = thread::spawn(move || reader.run(&finish_requested));
        let client = test_topics.client().create().expect("a consumer");
        Witness { journal, observer: Arc::new(Observer { client, test_topics }), finish, reading }
    }

    /// Waits until the group has a worker, and all partitions are assigned.
    pub(crate) async fn joined(&self) {
        until("a worker in the group", async || self.ask(Observer::is_stable).await.then_some(())).await;
    }

    /// Waits until the workers have processed all events of the topic.
    pub(crate) async fn caught_up(&self) {
        until("a worker that has processed all events", async || {
            self.ask(Observer::is_caught_up).await.then_some(())
        })
        .await;
    }

    /// Writes a record to the topic of the events, and answers its offset.
    pub(crate) async fn write(&self, record: Record) -> i64 {
        self.ask(move |observer| {
            let (topic, offset) = (&observer.test_topics.options.events_topic, observer.end(FED));
            let Record { key, headers, value } = &record;
            observer.test_topics.write(topic, Some(FED), key.as_deref(), headers, Some(value));
            offset
        })
        .await
    }

    /// Rewinds the group to that offset. It must be without a worker.
    pub(crate) async fn rewind(&self, offset: i64) {
        self.ask(move |observer| observer.rewind(offset)).await;
    }

    /// How many dead letters there are.
    pub(crate) async fn dead_letters(&self) -> i64 {
        self.ask(|observer| end(&observer.client, &observer.test_topics.dead_letter_topic(), 0)).await
    }

    /// Reads the topics to their ends, after all writers have ended.
    pub(crate) async fn finish(self) -> Traffic {
        self.finish.send(()).expect("a reader that runs");
        let reading = self.reading;
        spawn_blocking(|| reading.join()).await.expect("no panic").expect("a reader that reached the end");
        self.journal.traffic()
    }

    async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Observer) -> T + Send + 'static) -> T {
        let observer = Arc::clone(&self.observer);
        spawn_blocking(move || question(&observer)).await.expect("an answer")
    }
}

impl Observer {
    fn is_stable(&self) -> bool {
        let groups =
            self.client.fetch_group_list(Some(&self.test_topics.options.group), GUARD).expect("groups");
        groups.groups().first().is_some_and(|group| group.state() == "Stable")
    }

    fn is_caught_up(&self) -> bool {
        let (options, mut list) = (&self.test_topics.options, TopicPartitionList::new());
        list.add_partition_range(&options.events_topic, 0, options.events_partitions as i32 - 1);
        let committed = self.client.committed_offsets(list, GUARD).expect("offsets");
        let done = |offset| match offset {
            Offset::Offset(offset) => offset,
            _ => 0,
        };
        committed.elements().iter().all(|it| done(it.offset()) >= self.end(it.partition()))
    }

    /// The end of a partition: the offset behind its last event.
    fn end(&self, partition: i32) -> i64 {
        end(&self.client, &self.test_topics.options.events_topic, partition)
    }

    fn rewind(&self, offset: i64) {
        let mut list = TopicPartitionList::new();
        let topic = &self.test_topics.options.events_topic;
        list.add_partition_offset(topic, FED, Offset::Offset(offset)).expect("an offset");
        self.client.commit(&list, CommitMode::Sync).expect("a group without workers");
    }
}

fn end(client: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    client.fetch_watermarks(topic, partition, GUARD).expect("the ends of a partition").1
}

/// The thread that reads.
struct Reader {
    consumer: BaseConsumer,
    ack_topic: String,
    journal: Journal,
    /// The next offset of each partition of each topic.
    next_offsets: BTreeMap<(String, i32), i64>,
}

impl Reader {
    fn open(test_topics: &TestTopics, journal: Journal) -> Reader {
        let options = &test_topics.options;
        let mut list = TopicPartitionList::new();
        let topics = [
            (&options.events_topic, options.events_partitions),
            (&options.ack_topic, options.ack_partitions),
        ];
        for (topic, partitions) in topics {
            for partition in 0..partitions as i32 {
                list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
            }
        }
        let consumer: BaseConsumer =
            test_topics.client().set("fetch.wait.max.ms", "50").create().expect("a consumer");
        consumer.assign(&list).expect("partitions");
        let start = |it: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            ((it.topic().to_owned(), it.partition()), 0)
        };
        let next_offsets = list.elements().iter().map(start).collect();
        Reader { consumer, ack_topic: options.ack_topic.clone(), journal, next_offsets }
    }

    /// Reads until it is asked to finish, and then to the end; or until the witness is dropped.
    fn run(mut self, finish_requested: &mpsc::Receiver<()>) {
        loop {
            match finish_requested.try_recv() {
                Ok(()) => break,
                Err(mpsc::TryRecvError::Empty) => self.read(),
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
        }
        let deadline = Instant::now() + GUARD;
        let end_of = |(topic, partition): &(String, i32)| end(&self.consumer, topic, *partition);
        let ends: BTreeMap<_, _> =
            self.next_offsets.keys().map(|partition| (partition.clone(), end_of(partition))).collect();
        while self.next_offsets.iter().any(|(partition, next)| *next < ends[partition]) {
            assert!(Instant::now() < deadline, "read up to {:?} of {ends:?}", self.next_offsets);
            self.read();
        }
    }

    fn read(&mut self) {
        // An error is temporary; the end fails where a record is never read.
        let Some(Ok(message)) = self.consumer.poll(POLL) else { return };
        self.next_offsets.insert((message.topic().to_owned(), message.partition()), message.offset() + 1);
        let is_ack = message.topic() == self.ack_topic;
        let record = record(&message);
        self.journal
            .write(|traffic| if is_ack { &mut traffic.acks } else { &mut traffic.events }.push(record));
    }
}
