//! Topics and a consumer group of one test in a real Kafka, deleted when the test ends. Besides the bus under test, a
//! plain client writes and reads records as any other program would.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use orderstream::bus::kafka::{KafkaBus, Options, Security};
use orderstream::bus::{Bus, Record};
use orderstream::config::{AckRead, Compression, KafkaSecurity, SaslMechanism};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use secrecy::ExposeSecret;

use crate::clients::http::GUARD;
use crate::harness::servers;
use crate::harness::wait::until;

/// Topics and a consumer group of one test.
pub(crate) struct TestTopics {
    pub(crate) options: Options,
    clients: Clients,
}

/// The plain clients of a test. Each connects once: a new client for every record and every query costs far more than
/// the query itself.
#[derive(Default)]
struct Clients {
    producer: OnceLock<BaseProducer>,
    querying: OnceLock<BaseConsumer>,
}

impl TestTopics {
    pub(crate) fn new() -> TestTopics {
        TestTopics::at(servers::kafka())
    }

    /// Topics on the Kafka at these brokers.
    pub(crate) fn at(brokers: &str) -> TestTopics {
        TestTopics::with(TestTopics::options(brokers))
    }

    /// Topics of these options. The test's own clients log in with them when they are first used.
    pub(crate) fn with(options: Options) -> TestTopics {
        TestTopics { options, clients: Clients::default() }
    }

    /// The client that writes records.
    fn producer(&self) -> &BaseProducer {
        let make = || self.client().remove("group.id").create().expect("a producer");
        self.clients.producer.get_or_init(make)
    }

    /// The client that queries the brokers; it joins no group.
    fn querying(&self) -> &BaseConsumer {
        self.clients.querying.get_or_init(|| self.client().create().expect("a consumer"))
    }

    /// Options with topics and a group that no other test uses.
    pub(crate) fn options(brokers: &str) -> Options {
        let name = uuid::Uuid::now_v7();
        Options {
            brokers: brokers.split(',').map(str::to_owned).collect(),
            client_id: "orderstream-test".to_owned(),
            rack: String::new(),
            group: format!("workers-{name}"),
            group_instance: String::new(),
            events_topic: format!("events-{name}"),
            ack_topic: format!("ack-{name}"),
            make_topics: true,
            events_partitions: 4,
            ack_partitions: 1,
            replication: 0,
            ack_read: AckRead::Own,
            body_limit: 1 << 20,
            compression: Compression::Lz4,
            security: Security {
                protocol: KafkaSecurity::Plaintext,
                mechanism: SaslMechanism::Plain,
                username: String::new(),
                password: None,
                ca_file: None,
                client_certificate: None,
                token_file: None,
            },
        }
    }

    /// A bus on these topics that is ready.
    pub(crate) async fn bus(&self) -> Arc<KafkaBus> {
        let bus = KafkaBus::open(self.options.clone()).expect("options that are legal");
        ready(&*bus).await;
        bus
    }

    pub(crate) fn dead_letter_topic(&self) -> String {
        format!("{}.dlq", self.options.events_topic)
    }

    /// How many of the test's topics exist.
    pub(crate) fn topics(&self) -> usize {
        let consumer: BaseConsumer = self.client().create().unwrap();
        let (options, dead_letters) = (&self.options, self.dead_letter_topic());
        let names = [&options.events_topic, &options.ack_topic, &dead_letters];
        let found = consumer.fetch_metadata(None, GUARD).unwrap();
        found.topics().iter().filter(|topic| names.iter().any(|name| *name == topic.name())).count()
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let (mut config, security) = (ClientConfig::new(), &self.options.security);
        if let Some(password) = &security.password {
            config
                .set("sasl.mechanism", security.mechanism.as_str())
                .set("sasl.username", &security.username)
                .set("sasl.password", password.expose_secret());
        }
        if let Some(file) = &security.ca_file {
            config.set("ssl.ca.location", file.to_string_lossy());
        }
        if let Some(certificate) = &security.client_certificate {
            let password = certificate.key_password.as_ref().map_or("", |password| password.expose_secret());
            config
                .set("ssl.certificate.location", certificate.file.to_string_lossy())
                .set("ssl.key.location", certificate.key_file.to_string_lossy())
                .set("ssl.key.password", password);
        }
        if security.token_file.is_some() {
            // The client makes such a token by itself; a broker in production does not accept it.
            config
                .set("sasl.mechanism", security.mechanism.as_str())
                .set("enable.sasl.oauthbearer.unsecure.jwt", "true")
                .set("sasl.oauthbearer.config", "principal=orders");
        }
        config
            .set("security.protocol", security.protocol.as_str())
            .set("bootstrap.servers", self.options.brokers.join(","))
            .set("group.id", &self.options.group)
            .set("message.max.bytes", "8000000")
            // A client that only reads must not commit offsets of the workers' group.
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest");
        config
    }

    /// Creates a topic before the bus does.
    pub(crate) async fn create(&self, topic: &str, partitions: i32) {
        self.create_with(topic, partitions, &[]).await;
    }

    /// The same with settings of the topic.
    pub(crate) async fn create_with(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) {
        self.create_topic(NewTopic::new(topic, partitions, TopicReplication::Fixed(1)), config).await;
    }

    /// The same on brokers that the test chooses, by their numbers, for each partition.
    pub(crate) async fn create_on(&self, topic: &str, brokers: &[&[i32]], config: &[(&str, &str)]) {
        let count = i32::try_from(brokers.len()).expect("a count");
        let topic = NewTopic::new(topic, count, TopicReplication::Variable(brokers));
        self.create_topic(topic, config).await;
    }

    async fn create_topic(&self, topic: NewTopic<'_>, config: &[(&str, &str)]) {
        let topic = config.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        let answers = self.admin().create_topics([&topic], &AdminOptions::new()).await;
        answers.expect("an answer").remove(0).expect("a new topic");
    }

    /// Changes a setting of a topic; the others get the brokers' defaults.
    pub(crate) async fn alter(&self, topic: &str, name: &str, value: &str) {
        let altered = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
        let answers = self.admin().alter_configs([&altered], &AdminOptions::new()).await;
        answers.expect("an answer").remove(0).expect("a setting that can be changed");
    }

    /// Deletes a topic.
    pub(crate) async fn delete(&self, topic: &str) {
        let answers = self.admin().delete_topics(&[topic], &AdminOptions::new()).await;
        answers.expect("an answer").remove(0).expect("a topic that can be deleted");
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().remove("group.id").create().expect("an admin client")
    }

    /// Deletes all records of a topic, as retention does.
    pub(crate) async fn delete_records(&self, topic: &str) {
        let mut all = TopicPartitionList::new();
        for partition in 0..self.partitions(topic) {
            all.add_partition_offset(topic, partition, Offset::End).expect("an offset");
        }
        let deleted = self.admin().delete_records(&all, &AdminOptions::new()).await.expect("an answer");
        assert!(deleted.elements().iter().all(|element| element.error().is_ok()), "{deleted:?}");
    }

    /// Adds partitions to a topic, up to that count.
    pub(crate) async fn add_partitions(&self, topic: &str, count: usize) {
        let added =
            self.admin().create_partitions(&[NewPartitions::new(topic, count)], &AdminOptions::new()).await;
        added.expect("an answer").remove(0).expect("a topic that was there");
    }

    /// Deletes a topic.
    pub(crate) async fn delete_topic(&self, topic: &str) {
        let deleted = self.admin().delete_topics(&[topic], &AdminOptions::new()).await;
        deleted.expect("an answer").remove(0).expect("a topic that was there");
    }

    /// Writes an event record as another program would.
    pub(crate) fn produce(&self, record: &Record) {
        self.write(
            &self.options.events_topic,
            None,
            record.key.as_deref(),
            &record.headers,
            Some(&record.value),
        );
    }

    /// Writes a record, and waits until the broker has it.
    pub(crate) fn write(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        headers: &[(String, Vec<u8>)],
        value: Option<&[u8]>,
    ) {
        let producer = self.producer();
        let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
            headers.insert(Header { key: name, value: Some(value) })
        });
        let mut message: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
        (message.key, message.payload, message.partition) = (key, value, partition);
        producer.send(message).map_err(|(error, _)| error).expect("a record that can be sent");
        producer.flush(GUARD).expect("a broker that takes it");
    }

    /// Writes the same record `count` times, spread over the partitions.
    pub(crate) fn write_many(&self, topic: &str, value: &[u8], count: usize) {
        let mut config = self.client();
        config.remove("group.id").set("linger.ms", "5").set("queue.buffering.max.messages", "1000000");
        let producer: BaseProducer = config.create().expect("a producer");
        let partitions = self.partitions(topic);
        for partition in (0..partitions).cycle().take(count) {
            let message: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(topic).partition(partition).payload(value);
            producer.send(message).map_err(|(error, _)| error).expect("a record that can be sent");
        }
        producer.flush(GUARD).expect("a broker that takes them");
    }

    /// The first records of a topic, with their partitions.
    pub(crate) fn read(&self, topic: &str, count: usize) -> Vec<(i32, Record)> {
        let consumer: BaseConsumer = self.client().create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions(topic) {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&list).expect("partitions");
        let (mut records, deadline) = (Vec::new(), Instant::now() + GUARD);
        while records.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} records in {topic}", records.len());
            if let Some(message) = consumer.poll(Duration::from_secs(1)) {
                let message = message.expect("a record that can be read");
                records.push((message.partition(), record(&message)));
            }
        }
        consumer.unassign().expect("no partitions");
        records
    }

    pub(crate) fn partitions(&self, topic: &str) -> i32 {
        let metadata = self.querying().fetch_metadata(Some(topic), GUARD).expect("metadata");
        metadata.topics()[0].partitions().len() as i32
    }

    /// How many records were ever written to a topic.
    pub(crate) fn end(&self, topic: &str) -> i64 {
        let client = self.querying();
        let end = |partition| client.fetch_watermarks(topic, partition, GUARD).expect("watermarks").1;
        (0..self.partitions(topic)).map(end).sum()
    }

    /// The topics and the group as environment variables.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        let Options { brokers, events_topic, ack_topic, group, .. } = &self.options;
        [
            ("KAFKA_BROKERS", brokers.join(",")),
            ("ORDERS_EVENTS_TOPIC", events_topic.clone()),
            ("ORDERS_ACK_TOPIC", ack_topic.clone()),
            ("WORKER_GROUP", group.clone()),
        ]
    }

    /// How many replicas each partition of a topic has.
    pub(crate) fn copies(&self, topic: &str) -> Vec<usize> {
        let metadata = self.querying().fetch_metadata(Some(topic), GUARD).expect("metadata");
        metadata.topics()[0].partitions().iter().map(|partition| partition.replicas().len()).collect()
    }

    /// A setting of a topic.
    pub(crate) async fn setting(&self, topic: &str, name: &str) -> String {
        let admin = self.admin();
        let topic = [ResourceSpecifier::Topic(topic)];
        let answers = admin.describe_configs(&topic, &AdminOptions::new()).await.expect("an answer");
        let settings = answers.into_iter().next().expect("a topic").expect("its settings");
        settings.get(name).and_then(|entry| entry.value.clone()).expect("a value")
    }

    /// The offsets that the workers have committed, by partition.
    pub(crate) fn committed(&self) -> BTreeMap<i32, i64> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.options.events_topic, 0, self.options.events_partitions as i32 - 1);
        let committed = self.querying().committed_offsets(list, GUARD).expect("offsets");
        let offset = |offset| match offset {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        let elements = committed.elements();
        elements.iter().filter_map(|it| Some((it.partition(), offset(it.offset())?))).collect()
    }

    /// The client ids of the workers in the group.
    pub(crate) fn member_clients(&self) -> Vec<String> {
        let groups = self.querying().fetch_group_list(Some(&self.options.group), GUARD).expect("groups");
        groups.groups()[0].members().iter().map(|member| member.client_id().to_owned()).collect()
    }

    /// How many workers the group has.
    pub(crate) fn members(&self) -> usize {
        let groups = self.querying().fetch_group_list(Some(&self.options.group), GUARD).expect("groups");
        groups.groups().first().map_or(0, |group| group.members().len())
    }
}

/// Waits until a bus is ready.
pub(crate) async fn ready(bus: &dyn Bus) {
    until("a bus that is ready", async || bus.check().await.ok()).await;
}

/// A message as a record.
pub(crate) fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map(|headers| {
        headers.iter().map(|it| (it.key.to_owned(), it.value.unwrap_or_default().to_vec())).collect()
    });
    Record {
        key: message.key().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        value: message.payload().unwrap_or_default().to_vec(),
    }
}

impl Drop for TestTopics {
    /// Deletes the topics where that is possible. It ignores errors, so that they do not hide why a test failed.
    fn drop(&mut self) {
        let names = [&self.options.events_topic, &self.options.ack_topic, &self.dead_letter_topic()];
        let names = names.map(ToString::to_string);
        let admin = self.admin();
        let delete = move || {
            let names = names.each_ref().map(String::as_str);
            let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(5)));
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let _ = runtime.block_on(admin.delete_topics(&names, &options));
        };
        let _ = std::thread::spawn(delete).join();
    }
}
