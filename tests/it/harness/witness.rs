//! A witness beside a system on Kafka: a plain client that reads the topics from their beginning, in no group, and
//! writes down what really lies there. It also sees how far the workers' group has come, and can turn that back, as
//! a broker does that delivers again.

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

/// How long the reader waits for a record before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(20);

/// The partition of what the test itself writes. Which one it is says nothing: another program may spread keys in
/// a way of its own.
const FED: i32 = 0;

/// The witness.
pub(crate) struct Witness {
    /// What it has read.
    pub(crate) journal: Journal,
    beside: Arc<Beside>,
    finish: mpsc::Sender<()>,
    reading: JoinHandle<()>,
}

/// A client that names the workers' group, and never joins it.
struct Beside {
    client: BaseConsumer,
    test_topics: Arc<TestTopics>,
}

impl Witness {
    /// Begins to read the topics of a test, which exist.
    pub(crate) fn new(test_topics: &Arc<TestTopics>) -> Witness {
        let (journal, test_topics) = (Journal::new(), Arc::clone(test_topics));
        let (finish, asked) = mpsc::channel();
        let reader = Reader::open(&test_topics, journal.clone());
        let reading = thread::spawn(move || reader.run(&asked));
        let client = test_topics.client().create().expect("a consumer");
        Witness { journal, beside: Arc::new(Beside { client, test_topics }), finish, reading }
    }

    /// Waits until the group has a worker, and all partitions are given out.
    pub(crate) async fn joined(&self) {
        until("a worker in the group", async || self.ask(Beside::is_stable).await.then_some(())).await;
    }

    /// Waits until the workers have dealt with all events that lie there.
    pub(crate) async fn caught_up(&self) {
        until("a worker that has dealt with all", async || {
            self.ask(Beside::is_caught_up).await.then_some(())
        })
        .await;
    }

    /// Writes a record to the topic of the events, and answers where it lies.
    pub(crate) async fn write(&self, record: Record) -> i64 {
        self.ask(move |beside| {
            let (topic, offset) = (&beside.test_topics.options.events_topic, beside.end(FED));
            let Record { key, headers, value } = &record;
            beside.test_topics.write(topic, Some(FED), key.as_deref(), headers, Some(value));
            offset
        })
        .await
    }

    /// Has the group begin there once more. It must be without a worker.
    pub(crate) async fn turn_back(&self, offset: i64) {
        self.ask(move |beside| beside.turn_back(offset)).await;
    }

    /// How many letters are dead.
    pub(crate) async fn dead_letters(&self) -> i64 {
        self.ask(|beside| end(&beside.client, &beside.test_topics.dead_letter_topic(), 0)).await
    }

    /// Reads the topics to their ends, once nobody writes any more.
    pub(crate) async fn finish(self) -> Traffic {
        self.finish.send(()).expect("a reader that runs");
        let reading = self.reading;
        spawn_blocking(|| reading.join()).await.expect("no panic").expect("a reader that came to the end");
        self.journal.traffic()
    }

    async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Beside) -> T + Send + 'static) -> T {
        let beside = Arc::clone(&self.beside);
        spawn_blocking(move || question(&beside)).await.expect("an answer")
    }
}

impl Beside {
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

    /// Behind the last event of a partition.
    fn end(&self, partition: i32) -> i64 {
        end(&self.client, &self.test_topics.options.events_topic, partition)
    }

    fn turn_back(&self, offset: i64) {
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
    /// Where each partition of each topic is read from next.
    places: BTreeMap<(String, i32), i64>,
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
        let place = |it: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            ((it.topic().to_owned(), it.partition()), 0)
        };
        let places = list.elements().iter().map(place).collect();
        Reader { consumer, ack_topic: options.ack_topic.clone(), journal, places }
    }

    /// Reads until it is asked to finish, and then to the end; or until nobody is left who could ask.
    fn run(mut self, asked: &mpsc::Receiver<()>) {
        loop {
            match asked.try_recv() {
                Ok(()) => break,
                Err(mpsc::TryRecvError::Empty) => self.read(),
                Err(mpsc::TryRecvError::Disconnected) => return,
            }
        }
        let deadline = Instant::now() + GUARD;
        let end_of = |(topic, partition): &(String, i32)| end(&self.consumer, topic, *partition);
        let ends: BTreeMap<_, _> = self.places.keys().map(|place| (place.clone(), end_of(place))).collect();
        while self.places.iter().any(|(place, next)| *next < ends[place]) {
            assert!(Instant::now() < deadline, "read up to {:?} of {ends:?}", self.places);
            self.read();
        }
    }

    fn read(&mut self) {
        // An error is not for long, and what is never read is missed at the end.
        let Some(Ok(message)) = self.consumer.poll(POLL) else { return };
        self.places.insert((message.topic().to_owned(), message.partition()), message.offset() + 1);
        let is_ack = message.topic() == self.ack_topic;
        let record = record(&message);
        self.journal
            .write(|traffic| if is_ack { &mut traffic.acks } else { &mut traffic.events }.push(record));
    }
}
