//! The publisher: hands events to the bus, and acts on the answer to each. A confirmed event is marked published, one
//! that the bus refuses for good marks its order failed, and any other stays pending for the sweep. The fast path and
//! the sweep share one publisher, and with it one memory budget and one set of outstanding events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::outstanding::{Key, Outstanding, PendingUntil};
use crate::bus::{Bus, Group, PublishError};
use crate::cache::{Cache, invalidate};
use crate::order::{Event, Status};
use crate::store::{Completion, Precondition, Store};
use crate::telemetry::limited;

/// How many bytes of events are in memory at a time; the others wait in the store.
const BUDGET: usize = 16 << 20;

/// The bytes that an event counts besides its payload.
const EVENT_OVERHEAD: usize = 512;

/// Publishes events for the fast path and for the sweep.
pub(super) struct Publisher {
    pub(super) store: Arc<dyn Store>,
    pub(super) bus: Arc<dyn Bus>,
    cache: Arc<dyn Cache>,
    pub(super) outstanding: Outstanding,
    /// Wakes the sweep: events were left in the store.
    pub(super) left_behind: Notify,
    budget: Arc<Semaphore>,
    /// How many events the bus has confirmed.
    confirmations: AtomicU64,
    to_mark: mpsc::UnboundedSender<Vec<Key>>,
}

/// The outcome of one publish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// How many the bus confirmed or refused for good.
    pub(super) answered: usize,
    /// How many it could not take now.
    pub(super) unavailable: usize,
}

impl Publisher {
    /// A publisher, and the channel of the events that it wants marked published.
    pub(super) fn new(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        cache: Arc<dyn Cache>,
    ) -> (Arc<Publisher>, mpsc::UnboundedReceiver<Vec<Key>>) {
        let until = match (store.has_outbox(), bus.confirms_processing()) {
            (true, _) => PendingUntil::MarkedPublished,
            (false, true) => PendingUntil::Confirmed,
            (false, false) => PendingUntil::Processed,
        };
        let (to_mark, marks) = mpsc::unbounded_channel();
        let publisher = Publisher {
            store,
            bus,
            cache,
            outstanding: Outstanding::new(until),
            left_behind: Notify::new(),
            budget: Arc::new(Semaphore::new(BUDGET)),
            confirmations: AtomicU64::new(0),
            to_mark,
        };
        (Arc::new(publisher), marks)
    }

    /// Memory for these events, unless the budget is used up.
    pub(super) fn reserve(&self, events: &[Event]) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.budget).try_acquire_many_owned(size(events)).ok()
    }

    /// Waits for memory for the first of these events; takes as many further ones as there is room for now.
    pub(super) async fn reserve_some(&self, events: &[Event]) -> Option<(usize, OwnedSemaphorePermit)> {
        let first = events.first()?;
        let mut permit =
            Arc::clone(&self.budget).acquire_many_owned(size(std::slice::from_ref(first))).await.ok()?;
        let mut count = 1;
        while let Some(next) = events.get(count)
            && let Some(more) = self.reserve(std::slice::from_ref(next))
        {
            permit.merge(more);
            count += 1;
        }
        Some((count, permit))
    }

    /// Publishes events; they are outstanding at once, also before the future is polled.
    pub(super) fn publish(
        self: &Arc<Self>,
        events: Vec<Event>,
        permit: OwnedSemaphorePermit,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let (this, keys) = (Arc::clone(self), keys(&events));
        let sizes: Vec<usize> = events.iter().map(size_of).collect();
        let mut permit = permit;
        this.outstanding.begin(&keys);
        async move {
            let (mut outcome, mut answers) = (Outcome::default(), this.bus.publish(events).await);
            while let Some(group) = answers.next().await {
                // Each event releases its memory by itself, because one may wait long for its broker.
                let freed: usize = group.iter().map(|(index, _)| sizes[*index]).sum();
                drop(permit.split(freed.min(permit.num_permits())));
                this.act_on(&keys, group, &mut outcome).await;
            }
            outcome
        }
    }

    /// How many events the bus has confirmed so far.
    pub(super) fn confirmations(&self) -> u64 {
        self.confirmations.load(Ordering::Relaxed)
    }

    async fn act_on(&self, keys: &[Key], group: Group, outcome: &mut Outcome) {
        let (mut confirmed, mut unavailable, mut refused) =
            (Vec::with_capacity(group.len()), Vec::new(), Vec::new());
        for (index, answer) in group {
            let key = keys[index];
            match answer {
                Ok(()) => confirmed.push(key),
                Err(PublishError::Unavailable(reason)) => {
                    tracing::debug!(order_id = %key.0, version = key.1, reason, "not published");
                    unavailable.push(key);
                }
                Err(PublishError::Refused(reason)) => refused.push((key, reason)),
            }
        }
        outcome.answered += confirmed.len() + refused.len();
        outcome.unavailable += unavailable.len();
        self.outstanding.failed(unavailable);
        if !confirmed.is_empty() {
            self.confirmations.fetch_add(confirmed.len() as u64, Ordering::Relaxed);
            self.published(confirmed);
        }
        self.mark_failed(refused).await;
    }

    /// Has events marked published.
    fn published(&self, keys: Vec<Key>) {
        self.outstanding.confirmed(&keys);
        // The task that marks them ends after the publisher's users.
        drop(self.to_mark.send(keys));
    }

    /// Marks orders failed whose events cannot be built, or the bus refuses for good, with the reason of each.
    pub(super) async fn mark_failed(&self, refused: Vec<(Key, String)>) {
        if refused.is_empty() {
            return;
        }
        let completions = refused.iter().map(|(key, reason)| failure(*key, reason)).collect();
        let keys: Vec<Key> = refused.into_iter().map(|(key, _)| key).collect();
        match self.store.complete(completions).await {
            Ok(_) => {
                invalidate(&*self.cache, keys.iter().map(|(order_id, _)| *order_id)).await;
                self.published(keys);
            }
            Err(error) => {
                self.outstanding.failed(keys);
                limited!(
                    error, "mark failed";
                    %error,
                    "orders that cannot be published cannot be marked failed; the relay tries again"
                );
            }
        }
    }
}

/// The bytes that events count, in memory.
fn size(events: &[Event]) -> u32 {
    let size: usize = events.iter().map(size_of).sum();
    // A batch above the whole budget passes when nothing else is in flight.
    u32::try_from(size.min(BUDGET)).unwrap_or(u32::MAX)
}

fn size_of(event: &Event) -> usize {
    event.payload.as_str().len() + EVENT_OVERHEAD
}

/// The orders and versions that events are about.
pub(super) fn keys(events: &[Event]) -> Vec<Key> {
    events.iter().filter_map(|event| Some((event.order_id?, event.version?))).collect()
}

/// The completion of an order whose event cannot be published: it fails, with the reason.
fn failure((order_id, version): Key, reason: &str) -> Completion {
    limited!(
        error, "refused event";
        %order_id, version, reason,
        "the event cannot be published; the order is marked failed"
    );
    Completion {
        order_id,
        precondition: Precondition::Version(version),
        status: Status::Failed,
        amount: None,
        reason: Some(format!("the event could not be published: {reason}")),
    }
}
