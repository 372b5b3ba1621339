//! The relay: carries committed events to the bus. The fast path publishes what the committer has just committed; the
//! sweep finds in the store whatever the fast path left behind: everything pending at start, what did not fit
//! into memory, what the bus did not confirm. Nothing is forgotten, because an event ends only with the bus's
//! confirmation, and nothing grows, because what the relay holds is bounded.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::forget;
use crate::bus::{Bus, PublishError};
use crate::cache::Cache;
use crate::order::{Event, OrderId, Status, Version};
use crate::store::{self, Basis, Completion, Cursor, Store};
use crate::telemetry::limited;

/// How many bytes of events the relay holds; the rest waits in the store.
const BUDGET: usize = 16 << 20;

/// What an event counts besides its payload.
const EVENT_OVERHEAD: usize = 512;

/// How often the sweep looks when nothing calls for it.
const SWEEP_EVERY: Duration = Duration::from_secs(2);

/// How long an order must have been pending before the sweep takes it from the fast path.
const GRACE: Duration = Duration::from_secs(3);

/// How many events the sweep reads at once: few, because each may carry a payload of a MiB.
const PAGE: usize = 64;

/// How long confirmed events are gathered before the store takes note of them: nobody waits for that, and one
/// statement for many costs little.
const GATHER: Duration = Duration::from_millis(30);

type Confirmations = (Vec<Key>, Vec<Result<(), PublishError>>, OwnedSemaphorePermit);
type Key = (OrderId, Version);

/// The way into the relay.
pub(super) struct Relay {
    fast: mpsc::UnboundedSender<(Vec<Event>, OwnedSemaphorePermit)>,
    budget: Arc<Semaphore>,
    left_behind: Arc<Notify>,
}

/// The relay's own loop.
pub(super) struct Runner {
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    cache: Arc<dyn Cache>,
    fast: mpsc::UnboundedReceiver<(Vec<Event>, OwnedSemaphorePermit)>,
    budget: Arc<Semaphore>,
    left_behind: Arc<Notify>,
    /// What has been published and not confirmed: the sweep passes over it.
    in_flight: HashMap<OrderId, Version>,
    publishing: FuturesUnordered<BoxFuture<'static, Confirmations>>,
    /// What has been confirmed, and the store does not know yet.
    confirmed: Vec<Key>,
    note_at: Instant,
    noting: FuturesUnordered<BoxFuture<'static, Result<(), store::Error>>>,
    sweep: Sweep,
}

/// Where the sweep stands.
struct Sweep {
    at: Instant,
    /// How old an order must be to be taken.
    before: Timestamp,
    after: Option<Cursor>,
    /// There is more, and no room for it: goes on with the next confirmation.
    blocked: bool,
    /// Something was left behind since it began: another one follows at once.
    again: bool,
}

pub(super) fn new(store: Arc<dyn Store>, bus: Arc<dyn Bus>, cache: Arc<dyn Cache>) -> (Relay, Runner) {
    let (sender, fast) = mpsc::unbounded_channel();
    let budget = Arc::new(Semaphore::new(BUDGET));
    let left_behind = Arc::new(Notify::new());
    let relay = Relay { fast: sender, budget: Arc::clone(&budget), left_behind: Arc::clone(&left_behind) };
    // The first sweep is due at once: what an earlier process left pending is driven again.
    let sweep =
        Sweep { at: Instant::now(), before: Timestamp::now(), after: None, blocked: false, again: false };
    let runner = Runner {
        store,
        bus,
        cache,
        fast,
        budget,
        left_behind,
        in_flight: HashMap::new(),
        publishing: FuturesUnordered::new(),
        confirmed: Vec::new(),
        note_at: Instant::now(),
        noting: FuturesUnordered::new(),
        sweep,
    };
    (relay, runner)
}

impl Relay {
    /// Hands over events that have just been committed. Never waits: where the relay is full, they stay
    /// behind in the store and the sweep fetches them.
    pub(super) fn forward(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        match reserve(&self.budget, &events) {
            // The runner outlives the committer, which holds this handle.
            Some(permit) => drop(self.fast.send((events, permit))),
            None => self.fetch(),
        }
    }

    /// Has the sweep fetch what was left in the store.
    pub(super) fn fetch(&self) {
        self.left_behind.notify_one();
    }
}

fn reserve(budget: &Arc<Semaphore>, events: &[Event]) -> Option<OwnedSemaphorePermit> {
    let size: usize = events.iter().map(|event| event.payload.as_str().len() + EVENT_OVERHEAD).sum();
    // A batch above the whole budget passes when nothing else is under way.
    let permits = u32::try_from(size.min(BUDGET)).unwrap_or(u32::MAX);
    Arc::clone(budget).try_acquire_many_owned(permits).ok()
}

impl Runner {
    /// Runs until `shutdown`, then until the committer has ended and the bus has confirmed what is under way.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                batch = self.fast.recv() => match batch {
                    Some((events, permit)) => self.publish(events, permit),
                    None => break,
                },
                Some(confirmations) = self.publishing.next() => self.confirmed(confirmations).await,
                Some(noted) = self.noting.next() => look_at(noted),
                // One at a time: what is confirmed meanwhile is the next.
                () = sleep_until(self.note_at), if !self.confirmed.is_empty() && self.noting.is_empty() => self.note(),
                () = sleep_until(self.sweep.at), if !shutdown.is_cancelled() => self.sweep_page().await,
                () = self.left_behind.notified(), if !shutdown.is_cancelled() => self.sweep_now(),
            }
        }
        while let Some(confirmations) = self.publishing.next().await {
            self.confirmed(confirmations).await;
        }
        self.note();
        while let Some(noted) = self.noting.next().await {
            look_at(noted);
        }
    }

    /// Tells the store what has been confirmed.
    fn note(&mut self) {
        let (store, confirmed) = (Arc::clone(&self.store), std::mem::take(&mut self.confirmed));
        self.noting.push(Box::pin(async move { store.published(&confirmed).await }));
    }

    fn publish(&mut self, events: Vec<Event>, permit: OwnedSemaphorePermit) {
        let keys = keys(&events);
        self.in_flight.extend(keys.iter().copied());
        let bus = Arc::clone(&self.bus);
        self.publishing.push(Box::pin(async move { (keys, bus.publish(events).await, permit) }));
    }

    /// Takes note of what the bus said about a batch.
    async fn confirmed(&mut self, (keys, results, permit): Confirmations) {
        drop(permit);
        let mut refused = Vec::new();
        if self.confirmed.is_empty() {
            self.note_at = Instant::now() + GATHER;
        }
        for (key, result) in keys.into_iter().zip(results) {
            let (order_id, version) = key;
            // A newer version of the order may be under way already.
            if let Entry::Occupied(entry) = self.in_flight.entry(order_id)
                && *entry.get() == version
            {
                entry.remove();
            }
            match result {
                Ok(()) => self.confirmed.push(key),
                // The order is still pending; the sweep comes by.
                Err(PublishError::Unavailable(reason)) => tracing::debug!(%order_id, reason, "not published"),
                Err(PublishError::Refused(reason)) => refused.push((key, parked(key, &reason))),
            }
        }
        self.park(refused).await;
        if self.sweep.blocked {
            self.sweep.blocked = false;
            self.sweep.at = Instant::now();
        }
    }

    /// Marks orders as failed whose events cannot be made, or the bus will never take; there is nothing more to publish
    /// about them.
    async fn park(&mut self, refused: Vec<(Key, Completion)>) {
        if refused.is_empty() {
            return;
        }
        let (keys, completions): (Vec<Key>, Vec<Completion>) = refused.into_iter().unzip();
        match self.store.complete(completions.into()).await {
            Ok(_) => {
                forget(&*self.cache, keys.iter().map(|(order_id, _)| *order_id)).await;
                self.confirmed.extend(keys);
            }
            Err(error) => {
                limited!(error, "parking"; %error, "cannot mark orders failed that cannot be published; they will be tried again");
            }
        }
    }

    /// Begins a sweep; where one is under way, when it has ended.
    fn sweep_now(&mut self) {
        self.sweep.again = self.sweep.after.is_some() || self.sweep.blocked;
        if !self.sweep.again {
            self.sweep.at = Instant::now();
            self.sweep.before = Timestamp::now();
        }
    }

    /// Publishes one page of what is pending; while the store is away, tries again later.
    async fn sweep_page(&mut self) {
        if let Err(error) = self.try_sweep_page().await {
            tracing::warn!(%error, "cannot look for pending orders");
            self.rest();
        }
    }

    async fn try_sweep_page(&mut self) -> Result<(), store::Error> {
        if self.store.is_shared() && self.sweep.after.is_none() {
            // By the store's clock, not by this machine's; and what is young is under way in another process.
            self.sweep.before = self.store.now().await? - GRACE;
        }
        let page = self.store.pending(self.sweep.before, self.sweep.after, PAGE).await?;
        let unpublishable = page.unpublishable.into_iter().map(|it| {
            let key = (it.order_id, it.version);
            (key, parked(key, &it.reason))
        });
        self.park(unpublishable.collect()).await;
        let is_new = |event: &Event| {
            let under_way = event.order_id.and_then(|id| self.in_flight.get(&id).copied());
            under_way.is_none() || under_way != event.version
        };
        let events: Vec<Event> = page.events.into_iter().filter(is_new).collect();
        if !events.is_empty() {
            match reserve(&self.budget, &events) {
                Some(permit) => {
                    let events = claim(&*self.store, events).await?;
                    tracing::info!(count = events.len(), "publishing orders that were left pending");
                    self.publish(events, permit);
                }
                None => {
                    // Something is under way, or there would be room: its confirmation goes on from here.
                    self.sweep.blocked = true;
                    self.sweep.at = Instant::now() + SWEEP_EVERY;
                    return Ok(());
                }
            }
        }
        match page.next {
            Some(next) => {
                self.sweep.after = Some(next);
                self.sweep.at = Instant::now();
            }
            None => self.rest(),
        }
        Ok(())
    }

    /// Ends a sweep and sets the time of the next one.
    fn rest(&mut self) {
        self.sweep.after = None;
        self.sweep.at = Instant::now() + SWEEP_EVERY;
        self.sweep.before = Timestamp::now() + SWEEP_EVERY - GRACE;
        if std::mem::take(&mut self.sweep.again) {
            self.sweep_now();
        }
    }
}

fn look_at(noted: Result<(), store::Error>) {
    if let Err(error) = noted {
        // The events will be published again, and change nothing.
        limited!(warn, "published"; %error, "cannot note what was published");
    }
}

/// Leaves out what another process has taken up.
async fn claim(store: &dyn Store, events: Vec<Event>) -> Result<Vec<Event>, store::Error> {
    let mine = store.claim(&keys(&events)).await?;
    Ok(events.into_iter().zip(mine).filter_map(|(event, mine)| mine.then_some(event)).collect())
}

/// The orders and versions that events are about.
fn keys(events: &[Event]) -> Vec<Key> {
    events.iter().filter_map(|event| Some((event.order_id?, event.version?))).collect()
}

/// The completion of an order whose event will never be published: it fails, and says why.
fn parked((order_id, version): Key, reason: &str) -> Completion {
    limited!(error, "refused event"; %order_id, version, reason, "the event cannot be published; the order is marked failed");
    Completion {
        order_id,
        basis: Basis::Version(version),
        status: Status::Failed,
        amount: None,
        reason: Some(format!("the event could not be published: {reason}")),
    }
}
