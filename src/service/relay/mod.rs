//! The relay: publishes committed events. The fast path publishes events that the committer has just committed; the
//! sweep finds in the store the events that the fast path did not publish; a third task marks events published once the
//! bus has confirmed them, and a fourth republishes events that the bus has lost since. The relay's memory is bounded.
//!
//! These tasks run concurrently, each with its own connection to a shared store: a statement that hangs delays its own
//! task alone. An event must never be published before its commit.

mod marking;
mod outstanding;
mod publisher;
mod republish;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::outstanding::Key;
use self::publisher::{Outcome, Publisher};
use self::republish::Republisher;
use self::sweep::Sweep;
use crate::bus::Bus;
use crate::cache::Cache;
use crate::order::Event;
use crate::shutdown::named;
use crate::store::Store;

/// Events that are being published.
type Publish = BoxFuture<'static, Outcome>;

/// The way into the relay.
pub(super) struct Relay {
    fast: mpsc::UnboundedSender<Publish>,
    publisher: Arc<Publisher>,
}

/// The relay's own tasks.
pub(super) struct Runner {
    fast: mpsc::UnboundedReceiver<Publish>,
    publisher: Arc<Publisher>,
    to_mark: mpsc::UnboundedReceiver<Vec<Key>>,
    republish_after: Option<Duration>,
}

/// A relay. It republishes the events of orders that have been pending for `republish_after` without progress, unless
/// that is `None`.
pub(super) fn new(
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    cache: Arc<dyn Cache>,
    republish_after: Option<Duration>,
) -> (Relay, Runner) {
    let (sender, fast) = mpsc::unbounded_channel();
    let (publisher, to_mark) = Publisher::new(store, bus, cache);
    let relay = Relay { fast: sender, publisher: Arc::clone(&publisher) };
    (relay, Runner { fast, publisher, to_mark, republish_after })
}

impl Relay {
    /// Hands over events that have just been committed. Never waits: where the relay's memory is full, they stay in the
    /// store and the sweep fetches them.
    pub(super) fn forward(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        match self.publisher.reserve(&events) {
            // Outstanding from here on, or a sweep would publish them, too. The runner outlives the committer, which
            // holds this handle.
            Some(permit) => drop(self.fast.send(Box::pin(self.publisher.publish(events, permit)))),
            None => self.fetch(),
        }
    }

    /// Has the sweep fetch the events that were left in the store.
    pub(super) fn fetch(&self) {
        self.publisher.left_behind.notify_one();
    }
}

impl Runner {
    /// Runs until `shutdown`, then until the committer has ended and the bus has answered for all events in flight.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let Runner { fast, publisher, to_mark, republish_after } = self;
        let published = CancellationToken::new();
        let republishing = async {
            if let Some(after) = republish_after {
                Republisher::new(Arc::clone(&publisher), after).run(shutdown.clone()).await;
            }
        };
        let publishing = async {
            let sweep = Sweep::new(Arc::clone(&publisher));
            tokio::join!(
                named("the relay", forward_all(fast)),
                named("the sweep", sweep.run(shutdown.clone())),
                named("the task that republishes", republishing)
            );
            published.cancel();
        };
        let marking = marking::run(&publisher, to_mark, published.clone());
        tokio::join!(publishing, named("the task that marks events published", marking));
    }
}

/// Publishes the events that the committer hands over, until it has ended and the bus has answered.
async fn forward_all(mut fast: mpsc::UnboundedReceiver<Publish>) {
    let mut in_flight: FuturesUnordered<Publish> = FuturesUnordered::new();
    loop {
        tokio::select! {
            batch = fast.recv() => match batch {
                Some(publish) => in_flight.push(publish),
                None => break,
            },
            Some(_) = in_flight.next() => {}
        }
    }
    while in_flight.next().await.is_some() {}
}
