//! The producer: hands records to librdkafka and answers for each record whether a broker has stored it. The bytes in
//! flight are bounded below librdkafka's own limits, so that it accepts every record; a caller that publishes more
//! waits without holding a thread.
//!
//! There are two producers. A lone record leaves at once; the records of a batch linger a moment to share a request,
//! because brokers are limited by requests and not by records. A lone record joins a batch that is in flight, so that
//! it does not overtake the batch. A producer that failed for good, or lost all brokers for good, is replaced. A record
//! whose partition has no leader does not delay the answers to others, and does not make a producer unhealthy.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt;
use rdkafka::producer::Producer as _;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::broker_monitor::BrokerState;
use super::client::{OpenError, Options, refusal};
use super::client_errors::{Activity, ClientErrors};
use super::producer_pair::{DeliveryToken, FLUSH_TIMEOUT, Pair, closed, enqueue};
use super::records::{Outgoing, size};
use crate::bus::confirmations::{Answers, Ledger};
use crate::bus::{Answer, PublishError};
use crate::shutdown::Components;

/// The most bytes of records in flight; each record counts 512 bytes besides its own.
const MAX_IN_FLIGHT_BYTES: usize = 64 << 20;

/// Publishes records.
pub(super) struct Producer {
    options: Arc<Options>,
    broker_state: watch::Receiver<BrokerState>,
    errors: ClientErrors,
    // std RwLock: held to clone the pair, or to replace an unhealthy one; never across .await
    pair: RwLock<Option<Arc<Pair>>>,
    room: Arc<Semaphore>,
    components: Components,
}

impl Producer {
    /// Creates the producers. They connect in the background.
    pub(super) fn open(
        options: &Arc<Options>,
        broker_state: watch::Receiver<BrokerState>,
        errors: ClientErrors,
        components: &Components,
    ) -> Result<Arc<Producer>, OpenError> {
        let pair = RwLock::new(Some(Arc::new(Pair::open(options, &broker_state, &errors, components)?)));
        let room = Arc::new(Semaphore::new(MAX_IN_FLIGHT_BYTES));
        let (options, components) = (Arc::clone(options), components.clone());
        Ok(Arc::new(Producer { options, broker_state, errors, pair, room, components }))
    }

    /// Publishes a record in a request of its own, and returns when a broker has stored it.
    pub(super) async fn publish(&self, record: &Outgoing) -> Answer {
        let (mut answers, _) = self.hand_over(std::slice::from_ref(record), true).await?;
        let answer = answers.next().await.and_then(|mut group| group.pop());
        answer.map_or_else(|| Err(closed()), |(_, answer)| answer)
    }

    /// Hands records over and does not wait for a broker.
    ///
    /// # Errors
    /// [`PublishError`] where one of them could not be handed over.
    pub(super) async fn send(&self, records: &[Outgoing]) -> Result<(), PublishError> {
        let (answers, _) = self.hand_over(records, false).await?;
        answers.failure().map_or(Ok(()), Err)
    }

    /// Hands records over. Returns their answers, and whether they went through the producer for lone records, so that
    /// none shares a request with another.
    pub(super) async fn hand_over(
        &self,
        records: &[Outgoing],
        by_itself: bool,
    ) -> Result<(Answers, bool), PublishError> {
        let size: usize = records.iter().map(|it| size(&it.record)).sum();
        // A batch larger than the limit is the only one in flight.
        let permits = u32::try_from(size.min(MAX_IN_FLIGHT_BYTES)).unwrap_or(u32::MAX);
        let mut room = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| closed())?;
        let mut pair = self.pair().ok_or_else(closed)?;
        // `liveness` explains how a client can lose all brokers. After an ordinary outage this is a precaution.
        if pair.is_unhealthy() && self.broker_state.borrow().is_up() {
            self.replace(&pair);
            pair = self.pair().ok_or_else(closed)?;
        }
        let alone = by_itself || (records.len() == 1 && pair.batch.in_flight_count() == 0);
        let producer = if alone { &pair.lone } else { &pair.batch };
        let (ledger, answers) = Ledger::new(records.len());
        for (index, record) in records.iter().enumerate() {
            let room = room.split(self::size(&record.record));
            let token = DeliveryToken::new(&ledger, index, room);
            if let Err((error, mut token)) = enqueue(producer, record, token) {
                producer.context().health.failed(&error);
                self.errors.failed(Activity::Publish, &record.topic, &error);
                token.answer(Err(refusal(&error)));
            }
        }
        Ok((answers, alone))
    }

    /// Sends the records that were handed over, within a time limit; later calls fail.
    pub(super) async fn close(&self) {
        let Some(pair) = self.pair.write().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let flushed = spawn_blocking(move || {
            let rest = pair.lone.flush(FLUSH_TIMEOUT);
            rest.and(pair.batch.flush(Duration::ZERO).or_else(|_| pair.batch.flush(FLUSH_TIMEOUT)))
        });
        if !matches!(timeout(2 * FLUSH_TIMEOUT, flushed).await, Ok(Ok(Ok(())))) {
            tracing::warn!(
                "records were not confirmed when the time to send them was over; their events will be republished"
            );
        }
    }

    fn pair(&self) -> Option<Arc<Pair>> {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces an unhealthy pair. The old pair still sends the records that it holds, if it can.
    fn replace(&self, unhealthy: &Arc<Pair>) {
        let mut pair = self.pair.write().unwrap_or_else(PoisonError::into_inner);
        if pair.as_ref().is_some_and(|pair| Arc::ptr_eq(pair, unhealthy)) {
            let fatal = unhealthy.both().into_iter().find_map(|it| it.client().fatal_error());
            match Pair::open(&self.options, &self.broker_state, &self.errors, &self.components) {
                Ok(new) => {
                    tracing::info!(?fatal, "the producers are unhealthy; they are replaced");
                    *pair = Some(Arc::new(new));
                }
                Err(error) => {
                    tracing::error!(%error, ?fatal, "the producers are unhealthy and cannot be replaced yet; it is tried again")
                }
            }
        }
    }
}
