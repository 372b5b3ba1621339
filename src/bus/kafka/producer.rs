//! Publishing: hands records to librdkafka and says of each whether a broker has stored it. What is handed over
//! is bounded below librdkafka's own limits, so that it always takes it, and a caller that publishes more waits
//! without holding a thread.
//!
//! There are two producers. What is alone leaves at once; what comes as a batch waits a moment for its like,
//! because a broker is paid per request and not per record. A lone record does not overtake a batch that is on
//! its way: it joins it. A producer can fail for good, or lose all brokers for good; it is then replaced. Each record
//! has its own answer: one whose partition has no leader waits alone, and the producers stay.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt;
use rdkafka::producer::Producer as _;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::broker_monitor::State;
use super::client::{OpenError, Options, refusal};
use super::client_errors::{Activity, ClientErrors};
use super::producer_pair::{DeliveryToken, FLUSH, Pair, closed, enqueue};
use super::records::{Outgoing, size};
use crate::bus::confirmations::{Answers, Ledger};
use crate::bus::{Answer, PublishError};
use crate::shutdown::Components;

/// How many bytes of records may be on their way; each counts 512 besides its own.
const ROOM: usize = 64 << 20;

/// Publishes records.
pub(super) struct Producer {
    options: Arc<Options>,
    link: watch::Receiver<State>,
    errors: ClientErrors,
    // std RwLock: held to take the pair, or to replace one that is unhealthy; never across .await
    pair: RwLock<Option<Arc<Pair>>>,
    room: Arc<Semaphore>,
    components: Components,
}

impl Producer {
    /// Makes the producers. They connect in the background.
    pub(super) fn open(
        options: &Arc<Options>,
        link: watch::Receiver<State>,
        errors: ClientErrors,
        components: &Components,
    ) -> Result<Arc<Producer>, OpenError> {
        let pair = RwLock::new(Some(Arc::new(Pair::open(options, &link, &errors, components)?)));
        let room = Arc::new(Semaphore::new(ROOM));
        let (options, components) = (Arc::clone(options), components.clone());
        Ok(Arc::new(Producer { options, link, errors, pair, room, components }))
    }

    /// Publishes a record by itself, and answers when a broker has stored it.
    pub(super) async fn publish(&self, record: &Outgoing) -> Answer {
        let (mut answers, _) = self.hand_over(std::slice::from_ref(record), true).await?;
        let answer = answers.next().await.and_then(|mut group| group.pop());
        answer.map_or_else(|| Err(closed()), |(_, answer)| answer)
    }

    /// Hands records over and does not wait for a broker.
    ///
    /// # Errors
    /// Where one of them could not even be handed over.
    pub(super) async fn send(&self, records: &[Outgoing]) -> Result<(), PublishError> {
        let (answers, _) = self.hand_over(records, false).await?;
        answers.failure().map_or(Ok(()), Err)
    }

    /// Hands records over; says besides whether there was one, and none that it could share a request with.
    pub(super) async fn hand_over(
        &self,
        records: &[Outgoing],
        by_itself: bool,
    ) -> Result<(Answers, bool), PublishError> {
        let size: usize = records.iter().map(|it| size(&it.record)).sum();
        // A batch larger than all the room passes alone.
        let permits = u32::try_from(size.min(ROOM)).unwrap_or(u32::MAX);
        let mut room = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| closed())?;
        let mut pair = self.pair().ok_or_else(closed)?;
        // After an outage that is only a precaution; see `liveness` for what else it may be.
        if pair.is_unhealthy() && self.link.borrow().is_up() {
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

    /// Sends what was handed over, within a limit, and publishes no more.
    pub(super) async fn close(&self) {
        let Some(pair) = self.pair.write().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let flushed = spawn_blocking(move || {
            let rest = pair.lone.flush(FLUSH);
            rest.and(pair.batch.flush(Duration::ZERO).or_else(|_| pair.batch.flush(FLUSH)))
        });
        if !matches!(timeout(2 * FLUSH, flushed).await, Ok(Ok(Ok(())))) {
            tracing::warn!("records were still under way when the time to send them was over");
        }
    }

    fn pair(&self) -> Option<Arc<Pair>> {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new pair in the place of one that is unhealthy. What that one holds it still sends, if it can.
    fn replace(&self, unhealthy: &Arc<Pair>) {
        let mut pair = self.pair.write().unwrap_or_else(PoisonError::into_inner);
        if pair.as_ref().is_some_and(|pair| Arc::ptr_eq(pair, unhealthy)) {
            let fatal = unhealthy.both().into_iter().find_map(|it| it.client().fatal_error());
            match Pair::open(&self.options, &self.link, &self.errors, &self.components) {
                Ok(new) => {
                    tracing::info!(?fatal, "records were not confirmed; new producers take over");
                    *pair = Some(Arc::new(new));
                }
                Err(error) => {
                    tracing::error!(%error, ?fatal, "the producers are unhealthy, and no new ones can be made")
                }
            }
        }
    }
}
