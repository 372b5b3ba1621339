//! Hooks: a store and a bus that pass every call on, and call a hook first with the point that an order has reached. A
//! hook can observe, end the process, withhold events from the worker, or make the call fail in a given way.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use orderstream::bus::{
    AckSink, Bus, Confirmations, Delivery, PublishError, Reply, SubscribeError, Subscription,
};
use orderstream::order::{
    CommandRequest, Event, Filter, HistoryCursor, HistoryEvent, HistoryOffset, HistoryPage, ListCursor,
    Order, OrderId, Page, Scope, UserId, Version,
};
use orderstream::store::{
    Accepted, Completed, Completion, Damaged, Error, History, Lists, Maintenance, MissingPage,
    OrderHistoryPage, Orders, Outbox, PendingCursor, PendingPage, Postponed, Processed, Refusal, Store,
};

/// A point of an order's life at which a hook is called.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Point<'a> {
    /// An order is about to be read.
    Read,
    /// Requests are about to be committed.
    Commit(&'a [CommandRequest]),
    /// Events are committed and about to be published.
    Publish(&'a [Event]),
    /// The worker's results are about to be recorded.
    Record,
    /// They are recorded; no ACK has been sent and nothing settled.
    Recorded,
    /// History events of one order are about to be read.
    Follow,
}

/// What happens to the call after the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The call is passed on.
    On,
    /// Events do not reach the worker, but are confirmed, as by a broker that has stored them. A history is read as
    /// empty, as on a server that lags behind another.
    Withheld,
    /// The bus refuses the events for good.
    Refused,
    /// Commands are committed, and the outcome is lost.
    OutcomeLost,
    /// Commands are not committed, because one of them is bad.
    BadBatch,
}

/// The function that is called at every point. Its answer counts at [`Point::Publish`], [`Point::Commit`] and
/// [`Point::Follow`] only.
pub(crate) type Hook = Arc<dyn Fn(Point<'_>) -> Pass + Send + Sync>;

/// A store with a hook.
pub(crate) struct HookedStore {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) hook: Hook,
}

/// A bus with a hook.
pub(crate) struct HookedBus {
    pub(crate) inner: Arc<dyn Bus>,
    pub(crate) hook: Hook,
}

#[async_trait]
impl Orders for HookedStore {
    async fn apply(&self, batch: Arc<[CommandRequest]>) -> Result<Vec<Result<Accepted, Refusal>>, Error> {
        match (self.hook)(Point::Commit(&batch)) {
            Pass::BadBatch => Err(Error::BadBatch("by a test".to_owned())),
            Pass::OutcomeLost => {
                self.inner.apply(batch).await?;
                Err(Error::OutcomeUnknown("by a test".to_owned()))
            }
            Pass::On | Pass::Withheld | Pass::Refused => self.inner.apply(batch).await,
        }
    }

    async fn complete(&self, batch: Arc<[Completion]>) -> Result<Vec<Completed>, Error> {
        (self.hook)(Point::Record);
        let outcomes = self.inner.complete(batch).await;
        (self.hook)(Point::Recorded);
        outcomes
    }

    async fn get(&self, order_id: OrderId) -> Result<Option<Order>, Error> {
        (self.hook)(Point::Read);
        self.inner.get(order_id).await
    }

    async fn find_by_external(&self, external_id: &str, user_id: UserId) -> Result<Option<Order>, Error> {
        self.inner.find_by_external(external_id, user_id).await
    }

    async fn processed_versions(&self, orders: &[OrderId]) -> Result<Vec<Option<Processed>>, Error> {
        self.inner.processed_versions(orders).await
    }
}

#[async_trait]
impl Outbox for HookedStore {
    fn has_outbox(&self) -> bool {
        self.inner.has_outbox()
    }

    async fn postpone(&self, orders: &[Postponed]) -> Result<(), Error> {
        self.inner.postpone(orders).await
    }

    async fn pending(
        &self,
        before: Timestamp,
        after: Option<PendingCursor>,
        limit: usize,
    ) -> Result<PendingPage, Error> {
        self.inner.pending(before, after, limit).await
    }

    async fn claim(&self, events: &[(OrderId, Version)]) -> Result<Vec<bool>, Error> {
        self.inner.claim(events).await
    }

    async fn published(&self, events: &[(OrderId, Version)]) -> Result<(), Error> {
        self.inner.published(events).await
    }

    async fn missing_outbox_entries(
        &self,
        before: Timestamp,
        after: Option<PendingCursor>,
        orders: usize,
    ) -> Result<MissingPage, Error> {
        self.inner.missing_outbox_entries(before, after, orders).await
    }

    async fn add_outbox_entries(&self, events: &[(OrderId, Version)]) -> Result<usize, Error> {
        self.inner.add_outbox_entries(events).await
    }

    async fn outbox_orphans(&self) -> Result<Vec<OrderId>, Error> {
        self.inner.outbox_orphans().await
    }
}

#[async_trait]
impl History for HookedStore {
    async fn history(
        &self,
        order_id: OrderId,
        after: HistoryCursor,
        versions: u32,
    ) -> Result<OrderHistoryPage, Error> {
        self.inner.history(order_id, after, versions).await
    }

    async fn newest_history_event(
        &self,
        order_id: OrderId,
        version: Version,
    ) -> Result<Option<HistoryEvent>, Error> {
        self.inner.newest_history_event(order_id, version).await
    }

    async fn history_page(
        &self,
        of: Scope,
        after: HistoryOffset,
        limit: usize,
    ) -> Result<HistoryPage, Error> {
        match of {
            Scope::Order(_) if (self.hook)(Point::Follow) == Pass::Withheld => {
                Ok(HistoryPage { events: Vec::new(), upto: after, more: false })
            }
            _ => self.inner.history_page(of, after, limit).await,
        }
    }

    async fn history_end(&self) -> Result<HistoryOffset, Error> {
        self.inner.history_end().await
    }

    async fn history_newest(&self) -> Result<HistoryOffset, Error> {
        self.inner.history_newest().await
    }

    async fn history_dropped(&self) -> Result<HistoryOffset, Error> {
        self.inner.history_dropped().await
    }
}

#[async_trait]
impl Lists for HookedStore {
    async fn list(&self, filter: &Filter, after: Option<ListCursor>, limit: usize) -> Result<Page, Error> {
        self.inner.list(filter, after, limit).await
    }

    async fn scan(&self, after: Option<OrderId>, limit: usize) -> Result<Vec<Result<Order, Damaged>>, Error> {
        self.inner.scan(after, limit).await
    }
}

#[async_trait]
impl Maintenance for HookedStore {
    async fn now(&self) -> Result<Timestamp, Error> {
        self.inner.now().await
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn clean(
        &self,
        keys_before: Timestamp,
        events_before: Option<Timestamp>,
        limit: usize,
    ) -> Result<usize, Error> {
        self.inner.clean(keys_before, events_before, limit).await
    }

    async fn check(&self) -> Result<(), Error> {
        self.inner.check().await
    }

    async fn failed(&self) -> &'static str {
        self.inner.failed().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[async_trait]
impl Bus for HookedBus {
    async fn publish(&self, batch: Vec<Event>) -> Confirmations {
        match (self.hook)(Point::Publish(&batch)) {
            Pass::Withheld => Confirmations::known(vec![Ok(()); batch.len()]),
            Pass::Refused => {
                let refused = PublishError::Refused("by a test".to_owned());
                Confirmations::known(vec![Err(refused); batch.len()])
            }
            Pass::On | Pass::OutcomeLost | Pass::BadBatch => self.inner.publish(batch).await,
        }
    }

    async fn can_publish(&self) -> Result<(), PublishError> {
        self.inner.can_publish().await
    }

    fn confirms_processing(&self) -> bool {
        self.inner.confirms_processing()
    }

    fn is_crowded(&self) -> bool {
        self.inner.is_crowded()
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>, SubscribeError> {
        self.inner.subscribe().await
    }

    async fn settle(&self, deliveries: Vec<Delivery>) {
        self.inner.settle(deliveries).await;
    }

    async fn reject(&self, delivery: Delivery, reason: &str) -> Result<(), PublishError> {
        self.inner.reject(delivery, reason).await
    }

    async fn acknowledge(&self, replies: Vec<Reply>) -> Result<(), PublishError> {
        self.inner.acknowledge(replies).await
    }

    fn on_acks(&self, sink: Arc<dyn AckSink>) {
        self.inner.on_acks(sink);
    }

    async fn dead_letters(&self) -> Result<u64, PublishError> {
        self.inner.dead_letters().await
    }

    async fn failed(&self) -> &'static str {
        self.inner.failed().await
    }

    async fn check(&self) -> Result<(), PublishError> {
        self.inner.check().await
    }
}
