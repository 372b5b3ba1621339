//! The service: what both protocols call, and the long-running parts behind it. An order enters through
//! `intake`, is made durable by the committer, travels through the relay over the bus to the worker, and its caller
//! is woken by the ACK. Each hop carries a batch. This room knows the traits of the store, the bus and the cache
//! and none of their implementations, and no protocol.

mod acks;
mod commit;
mod committer;
mod feed;
mod findings;
mod follow;
mod in_flight;
mod intake;
mod janitor;
mod keeping;
mod marking;
mod outstanding;
mod pending;
mod processing;
mod processor;
mod publisher;
pub mod quota;
mod readiness;
pub mod redrive;
mod rejects;
mod relay;
mod republish;
mod stuck;
mod sweep;
pub mod turns;
pub mod verify;
mod work;
pub mod worker;

pub use committer::{MOST_QUEUED, RETRY_AFTER};
pub use follow::{Following, History, News, Pages};
pub use intake::{Change, Deadline, Patience, Progress, PutMode, Receipt};
pub use janitor::KEY_RETENTION;
pub use processor::{AmountProcessor, ProcessError, Processor};
pub use readiness::{Checks, Readiness};

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::bus::Bus;
use crate::cache::{Cache, Lookup, Ticket};
use crate::error::Error;
use crate::order::{Filter, Order, OrderId, Page, Position, UserId};
use crate::store::{self, Store};
use crate::telemetry::limited;

/// What callers reach the service by. Cheap to share.
pub struct Service {
    store: Arc<dyn Store>,
    cache: Arc<dyn Cache>,
    committer: committer::Committer,
    acks: Arc<acks::Acks>,
    feed: Arc<feed::Hub>,
    checks: Arc<Checks>,
    ack_wait: bool,
    ack_wait_timeout: Duration,
    history: Option<Duration>,
}

/// What the cache says of an order that it does not hold.
#[derive(Debug)]
pub struct Missed(Option<Ticket>);

/// How the service behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether a caller waits for the worker's ACK, unless it says otherwise; else it is answered as soon as the order
    /// is durable.
    pub ack_wait: bool,
    /// How long a caller waits at most.
    pub ack_wait_timeout: Duration,
    /// How long steps of the history are kept; `None` where the store keeps no history.
    pub history: Option<Duration>,
    /// How long an order must have been pending without progress until its event is published again; `None`: it never
    /// is.
    pub republish_after: Option<Duration>,
}

/// The parts of the service that run by themselves: committer, relay, the watch over waiting callers, the feed of those who
/// follow orders, and the janitor.
pub struct Background {
    committer: committer::Runner,
    relay: relay::Runner,
    acks: Arc<acks::Acks>,
    feed: Arc<feed::Hub>,
    store: Arc<dyn Store>,
    cache: Arc<dyn Cache>,
    history: Option<Duration>,
}

impl Service {
    /// Wires the service. Nothing moves until [`Background::run`] does.
    pub fn new(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        cache: Arc<dyn Cache>,
        options: &Options,
    ) -> (Arc<Service>, Background) {
        let acks = Arc::new(acks::Acks::default());
        bus.on_acks(Arc::<acks::Acks>::clone(&acks));
        let Options { ack_wait, ack_wait_timeout, history, republish_after } = *options;
        let (relay, relay_runner) =
            relay::new(Arc::clone(&store), Arc::clone(&bus), Arc::clone(&cache), republish_after);
        let (committer, committer_runner) = committer::new(commit::Commit {
            store: Arc::clone(&store),
            cache: Arc::clone(&cache),
            acks: Arc::clone(&acks),
            relay,
        });
        let feed = Arc::new(feed::Hub::default());
        let background = Background {
            committer: committer_runner,
            relay: relay_runner,
            acks: Arc::clone(&acks),
            feed: Arc::clone(&feed),
            store: Arc::clone(&store),
            cache: Arc::clone(&cache),
            history,
        };
        let checks = Checks::new(Arc::clone(&store), bus, Arc::clone(&cache));
        let checks = Arc::new(checks);
        let service =
            Service { store, cache, committer, acks, feed, checks, ack_wait, ack_wait_timeout, history };
        (Arc::new(service), background)
    }

    /// Whether each part that the service depends on works.
    #[must_use]
    pub fn checks(&self) -> Arc<Checks> {
        Arc::clone(&self.checks)
    }

    /// The copy of an order that the cache holds, deleted or not; else what [`Service::get`] goes on from.
    ///
    /// # Errors
    /// [`Missed`] where there is no copy, or no cache.
    pub async fn cached(&self, order_id: OrderId) -> Result<Order, Missed> {
        match self.cache.get(order_id).await {
            Lookup::Hit(order) => Ok(*order),
            Lookup::Miss(ticket) => Err(Missed(ticket)),
        }
    }

    /// Whether there is a cache.
    #[must_use]
    pub fn has_cache(&self) -> bool {
        !self.cache.is_off()
    }

    /// The order of that id, deleted or not, from the store. The cache has it from then on.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreadable`], [`Error::Unavailable`].
    pub async fn get(&self, order_id: OrderId, missed: Missed) -> Result<Order, Error> {
        self.in_time(async {
            let found = self.store.get(order_id).await.map_err(read_failed)?;
            let order = found.ok_or(Error::NotFound { order_id: Some(order_id) })?;
            if let Missed(Some(ticket)) = missed {
                self.cache.fill(ticket, &order).await;
            }
            Ok(order)
        })
        .await
    }

    /// The newest order of a user whose payload carries that external id, deleted or not.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unreadable`], [`Error::Unavailable`].
    pub async fn find_by_external(&self, external_id: &str, user_id: UserId) -> Result<Order, Error> {
        let read = async { self.store.find_by_external(external_id, user_id).await.map_err(read_failed) };
        self.in_time(read).await?.ok_or(Error::NotFound { order_id: None })
    }

    /// A page of the orders that fit a filter, from behind `after` on, the newest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn list(&self, filter: &Filter, after: Option<Position>, limit: usize) -> Result<Page, Error> {
        self.in_time(async { self.store.list(filter, after, limit).await.map_err(read_failed) }).await
    }
}

impl Background {
    /// Runs until `shutdown`, then finishes what callers and the worker still wait for. Returns once every
    /// event under way has been confirmed; the caller puts a deadline around it.
    pub async fn run(self, shutdown: CancellationToken) {
        // The relay ends after the committer, when the bus has confirmed what they handed on.
        let watch = named("the watch over waiting callers", self.acks.watch(&*self.store, &*self.cache));
        let feed = named("the feed of those who follow orders", self.feed.run(&*self.store));
        let janitor = named("the retention job", janitor::run(&*self.store, self.history));
        let committer = named("the committer", self.committer.run(shutdown.clone()));
        let work = async { tokio::join!(committer, self.relay.run(shutdown)) };
        tokio::select! {
            _ = work => {}
            () = watch => {}
            () = feed => {}
            () = janitor => {}
        }
    }
}

/// Runs a part, and names it in the log where it panics; the panic goes on.
async fn named<T>(part: &str, work: impl Future<Output = T>) -> T {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        tracing::error!("{part} ended by itself: it panicked");
        resume_unwind(panic)
    })
}

fn read_failed(error: store::Error) -> Error {
    limited!(error, "read"; %error, "a read failed");
    match error {
        store::Error::Damaged(damaged) => Error::Unreadable { order_id: damaged.order_id },
        store::Error::Unavailable(_) | store::Error::OutcomeUnknown(_) | store::Error::BadBatch(_) => {
            Error::Unavailable
        }
    }
}

/// Drops the copies of orders that have changed, before anybody is told. Costs nothing where there is no cache.
async fn forget(cache: &dyn Cache, orders: impl Iterator<Item = OrderId>) {
    if cache.is_off() {
        return;
    }
    let orders: Vec<OrderId> = orders.collect();
    if !orders.is_empty() {
        cache.forget(&orders).await;
    }
}
