//! The bus over Kafka. Events, ACKs and dead letters have a topic each; a publish is confirmed when the broker has
//! stored the record on all its in-sync replicas, and a worker's offsets are committed after its effect. Without a
//! broker the bus still opens, reports what is missing, and connects when a broker is available.
//!
//! All blocking calls are on threads of their own: the broker monitor, the producers, the ACK listener, and one
//! consumer for each worker.

mod ack_listener;
mod acks;
mod assignment;
mod backlog;
mod broker_monitor;
mod client;
mod client_errors;
mod consumer;
mod dead_letters;
mod flow;
mod inbox;
mod liveness;
mod oauth;
mod offsets;
mod overrun;
mod producer;
mod producer_pair;
mod publishing;
mod records;
mod subscription;
mod topic_settings;
mod topics;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};

use acks::AckTopic;
use broker_monitor::BrokerMonitor;
pub use client::{ClientCertificate, OpenError, Options, Security};
use client_errors::ClientErrors;
use dead_letters::DeadLetters;
use producer::Producer;
use records::Outgoing;
use subscription::KafkaSubscription;

use super::{
    AckSink, Behind, Bus, Confirmations, Delivery, Ends, Group, PublishError, Reply, SubscribeError,
    Subscription,
};
use crate::order::Event;
use crate::shutdown::Components;

/// The bus over Kafka.
pub struct KafkaBus {
    options: Arc<Options>,
    topics: Topics,
    monitor: BrokerMonitor,
    producer: Arc<Producer>,
    dead_letters: DeadLetters,
    acks: AckTopic,
    errors: ClientErrors,
    components: Components,
}

struct Topics {
    events: Arc<str>,
    acks: Arc<str>,
}

impl KafkaBus {
    /// Opens the bus and returns at once: it connects in the background, and creates missing topics then. Needs no
    /// runtime.
    ///
    /// # Errors
    /// [`OpenError`] where the options are not valid for a client. An unavailable broker is not an error.
    pub fn open(options: Options) -> Result<Arc<KafkaBus>, OpenError> {
        let topics =
            Topics { events: options.events_topic.as_str().into(), acks: options.ack_topic.as_str().into() };
        let (options, errors, components) =
            (Arc::new(options), ClientErrors::default(), Components::default());
        let monitor = BrokerMonitor::open(&options, errors.clone(), &components)?;
        let producer = Producer::open(&options, monitor.watch(), errors.clone(), &components)?;
        let dead_letters = DeadLetters::new(options.dead_letter_topic());
        let acks = AckTopic::new(&options, monitor.watch(), errors.clone(), &components);
        Ok(Arc::new(KafkaBus { options, topics, monitor, producer, dead_letters, acks, errors, components }))
    }

    /// Runs a blocking question to the brokers.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Options) -> Result<T, PublishError> + Send + 'static,
    ) -> Result<T, PublishError> {
        let options = Arc::clone(&self.options);
        let answer = tokio::task::spawn_blocking(move || question(&options)).await;
        answer.unwrap_or_else(|error| Err(PublishError::Unavailable(error.to_string())))
    }
}

#[async_trait]
impl Bus for KafkaBus {
    async fn publish(&self, batch: Vec<Event>) -> Confirmations {
        let count = batch.len();
        if batch.is_empty() {
            return Confirmations::known(Vec::new());
        }
        if let Err(error) = self.monitor.topics().await {
            return Confirmations::known(vec![Err(error); count]);
        }
        let reply_to = self.acks.partition().await;
        let (mut records, mut indexes, mut refused) =
            (Vec::with_capacity(count), Vec::with_capacity(count), Group::new());
        for (index, event) in batch.iter().enumerate() {
            match Outgoing::event(&self.topics.events, event, reply_to) {
                Ok(record) => {
                    records.push(record);
                    indexes.push(index);
                }
                Err(error) => refused.push((index, Err(error))),
            }
        }
        let refused = stream::iter((!refused.is_empty()).then_some(refused));
        let answered = self.producer.publish_all(records).await;
        let answered = answered.map(move |mut group| {
            group.iter_mut().for_each(|(index, _)| *index = indexes[*index]);
            group
        });
        Confirmations::new(count, refused.chain(answered))
    }

    async fn can_publish(&self) -> Result<(), PublishError> {
        self.monitor.health().await
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SubscribeError> {
        let (topic, state) = (&self.topics.events, self.monitor.watch());
        let subscription = KafkaSubscription::start(&self.options, topic, state, self.errors.clone())?;
        Ok(Box::new(subscription))
    }

    async fn settle(&self, deliveries: Vec<Delivery>) {
        deliveries.into_iter().for_each(|delivery| delivery.receipt.settle());
    }

    async fn reject(&self, delivery: Delivery, reason: &str) -> Result<(), PublishError> {
        self.dead_letters.take(&self.producer, &delivery, reason).await?;
        delivery.receipt.settle();
        Ok(())
    }

    /// Hands the ACKs over and does not wait for a broker. An ACK is a hint, and settling waits for this call: it must
    /// not last a round trip more.
    async fn acknowledge(&self, replies: Vec<Reply>) -> Result<(), PublishError> {
        if replies.is_empty() {
            return Ok(());
        }
        self.monitor.topics().await?;
        let records = replies
            .iter()
            .map(|reply| Outgoing::ack(&self.topics.acks, reply))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(own) = self.acks.partition().await {
            let mine = replies.into_iter().filter(|reply| reply.to == Some(own));
            self.acks.deliver_locally(mine.map(|reply| reply.ack).collect());
        }
        self.producer.send(&records).await
    }

    fn on_acks(&self, sink: Arc<dyn AckSink>) {
        self.acks.listen(sink);
    }

    async fn dead_letters(&self) -> Result<u64, PublishError> {
        self.monitor.dead_letters().await
    }

    async fn backlog(&self) -> Result<Option<u64>, PublishError> {
        self.ask(backlog::count).await.map(Some)
    }

    async fn ends(&self) -> Result<Option<Ends>, PublishError> {
        self.ask(backlog::ends).await.map(Some)
    }

    async fn behind(&self, ends: &Ends) -> Result<Behind, PublishError> {
        let ends = ends.clone();
        self.ask(move |options| backlog::behind(options, &ends)).await
    }

    async fn check(&self) -> Result<(), PublishError> {
        self.monitor.health().await?;
        self.errors.check()?;
        self.acks.check()
    }

    async fn failed(&self) -> &'static str {
        self.components.failed().await
    }

    async fn close(&self) {
        self.producer.close().await;
        self.acks.close();
        self.monitor.close();
    }
}
