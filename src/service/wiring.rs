//! The service and its background tasks, wired together. [`Service`] is the handle that both protocols call; its
//! methods are in `intake`, `reads` and `follow`. [`Background`] runs the committer, the relay, the watch over waiting
//! callers, the notifier and the retention job; nothing is committed or published before it runs.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ack_waiters::AckWaiters;
use super::committer::{self, Commit, Committer};
use super::follow::notifier::Notifier;
use super::readiness::Checks;
use super::relay;
use super::retention;
use crate::bus::Bus;
use crate::cache::Cache;
use crate::shutdown::named;
use crate::store::Store;

/// The handle by which callers reach the service. Cheap to share.
pub struct Service {
    pub(super) store: Arc<dyn Store>,
    pub(super) cache: Arc<dyn Cache>,
    pub(super) committer: Committer,
    pub(super) acks: Arc<AckWaiters>,
    pub(super) notifier: Arc<Notifier>,
    checks: Arc<Checks>,
    pub(super) ack_wait: bool,
    pub(super) ack_wait_timeout: Duration,
    pub(super) history: Option<Duration>,
}

/// How the service behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether a caller waits for the worker's ACK unless it asks otherwise. Else it is answered as soon as the order
    /// is durable.
    pub ack_wait: bool,
    /// How long a caller waits at most.
    pub ack_wait_timeout: Duration,
    /// How long history events are kept; `None` where the store does not keep a history.
    pub history: Option<Duration>,
    /// How long an order must have been pending without progress until its event is republished; `None`: never.
    pub republish_after: Option<Duration>,
}

/// The background tasks of the service: committer, relay, the watch over waiting callers, the notifier of streams, and
/// the retention job.
pub struct Background {
    committer: committer::Runner,
    relay: relay::Runner,
    acks: Arc<AckWaiters>,
    notifier: Arc<Notifier>,
    store: Arc<dyn Store>,
    cache: Arc<dyn Cache>,
    history: Option<Duration>,
}

impl Service {
    /// Wires the service. Nothing is committed or published until [`Background::run`] runs.
    pub fn new(
        store: Arc<dyn Store>,
        bus: Arc<dyn Bus>,
        cache: Arc<dyn Cache>,
        options: &Options,
    ) -> (Arc<Service>, Background) {
        let acks = Arc::new(AckWaiters::default());
        bus.on_acks(Arc::<AckWaiters>::clone(&acks));
        let Options { ack_wait, ack_wait_timeout, history, republish_after } = *options;
        let (relay, relay_runner) =
            relay::new(Arc::clone(&store), Arc::clone(&bus), Arc::clone(&cache), republish_after);
        let (committer, committer_runner) = committer::new(Commit {
            store: Arc::<dyn Store>::clone(&store),
            is_shared: store.is_shared(),
            cache: Arc::clone(&cache),
            acks: Arc::clone(&acks),
            relay,
        });
        let notifier = Arc::new(Notifier::default());
        let background = Background {
            committer: committer_runner,
            relay: relay_runner,
            acks: Arc::clone(&acks),
            notifier: Arc::clone(&notifier),
            store: Arc::clone(&store),
            cache: Arc::clone(&cache),
            history,
        };
        let checks = Checks::new(Arc::<dyn Store>::clone(&store), bus, Arc::clone(&cache));
        let checks = Arc::new(checks);
        let service =
            Service { store, cache, committer, acks, notifier, checks, ack_wait, ack_wait_timeout, history };
        (Arc::new(service), background)
    }

    /// The checks of the backends that the service depends on.
    #[must_use]
    pub fn checks(&self) -> Arc<Checks> {
        Arc::clone(&self.checks)
    }
}

impl Background {
    /// Runs until `shutdown`, then finishes the work that callers and the worker still wait for. Returns once the bus
    /// has confirmed each event in flight; the caller puts a deadline around it.
    pub async fn run(self, shutdown: CancellationToken) {
        // The relay ends after the committer, when the bus has confirmed their events.
        let watch = named("the watch over waiting callers", self.acks.watch(&*self.store, &*self.cache));
        let notifier = named("the notifier of streams", self.notifier.run(&*self.store));
        let retention = named("the retention job", retention::run(&*self.store, self.history));
        let committer = named("the committer", self.committer.run(shutdown.clone()));
        let work = async { tokio::join!(committer, self.relay.run(shutdown)) };
        tokio::select! {
            _ = work => {}
            () = watch => {}
            () = notifier => {}
            () = retention => {}
        }
    }
}
