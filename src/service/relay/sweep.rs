//! The sweep: finds pending events in the store that the fast path did not publish, and publishes them: all that is
//! pending at start, events that did not fit into memory, that the bus did not take, or that a killed process left.
//!
//! A claim keeps other processes from publishing an event for a while. So a process must claim only what it can
//! publish: nothing while its bus is known to be down, and little at first, and after a failure, until the bus has
//! confirmed an event. The sweep pauses in proportion to the time that the store worked for it.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::publisher::{Outcome, Publisher, keys};
use crate::backoff::{random, spread};
use crate::order::Event;
use crate::store::{self, PendingPage};
use crate::telemetry::limited;

/// How long the sweep pauses unless the fast path wakes it.
const PERIOD: Duration = Duration::from_secs(2);

/// The shortest pause, in multiples of the time that the store worked for the last pass.
const REST_FACTOR: u32 = 4;

/// The longest such pause.
const LONGEST_PERIOD: Duration = Duration::from_secs(60);

/// How long an order must have been pending before the sweep publishes it instead of the fast path.
const GRACE: Duration = Duration::from_secs(3);

/// How many events the sweep reads at once: few, because each may carry a payload of a MiB.
const PAGE: usize = 64;

/// The pause after a publish without any confirmation: longer than a claim lasts, so that other processes can publish
/// these events before the next attempt. Each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(12);

/// The longest such rest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Publishes pending events, in pass after pass.
pub(super) struct Sweep {
    publisher: Arc<Publisher>,
    publishing: JoinSet<Outcome>,
    trust: Trust,
    /// The time that the store worked for the current pass.
    worked: Duration,
    /// When this process began. Orders that changed later are on the fast path.
    started: Instant,
}

/// How much the sweep publishes at a time, by the outcomes of the last publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// The bus has not answered yet: the sweep publishes one page, and waits for its outcome.
    Untried,
    /// The bus takes events.
    Full,
    /// The bus took nothing the last time, when `confirmations` events had been confirmed altogether: the sweep tries
    /// one event after `pause`.
    Lost { confirmations: u64, pause: Duration },
}

impl Sweep {
    pub(super) fn new(publisher: Arc<Publisher>) -> Sweep {
        // Where the worker confirms, an answer takes as long as the processing: the sweep does not wait for it.
        let trust = if publisher.bus.confirms_processing() { Trust::Full } else { Trust::Untried };
        Sweep {
            publisher,
            publishing: JoinSet::new(),
            trust,
            worked: Duration::ZERO,
            started: Instant::now(),
        }
    }

    /// Sweeps until `shutdown`, then until the bus has answered what is in flight.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.sweep() => {}
        }
        while let Some(outcome) = self.publishing.join_next().await {
            published(outcome);
        }
    }

    async fn sweep(&mut self) {
        // The first pass of a store of this process alone takes what an earlier one left pending, of any age.
        let mut age = self.started.elapsed();
        loop {
            self.worked = Duration::ZERO;
            match self.pass(age).await {
                Ok(0) => {}
                Ok(count) => limited!(info, "sweep"; count, "republishing orders that were left pending"),
                Err(error) => tracing::warn!(%error, "cannot look for pending orders"),
            }
            age = self.pause().await;
        }
    }

    /// Pauses; answers how old an order must be for the next pass.
    async fn pause(&mut self) -> Duration {
        let least = (self.worked * REST_FACTOR).min(LONGEST_PERIOD);
        if let Trust::Lost { pause, .. } = self.trust {
            sleep(spread(pause.max(least))).await;
            return GRACE;
        }
        let until = Instant::now() + spread(PERIOD.max(least));
        sleep(least).await;
        tokio::select! {
            () = sleep(until.saturating_duration_since(Instant::now())) => GRACE,
            () = self.publisher.left_behind.notified() => Duration::ZERO,
        }
    }

    /// Publishes events that have been pending for that long; answers how many.
    async fn pass(&mut self, age: Duration) -> Result<usize, store::Error> {
        let (mut count, mut after, began) = (0, None, Instant::now());
        self.regain();
        let before = self.before(age).await?;
        loop {
            if let Err(error) = self.publisher.bus.can_publish().await {
                tracing::debug!(%error, "pending orders wait for the bus");
                return Ok(count);
            }
            let (events, next) = self.page(before, after).await?;
            (count, after) = (count + self.publish(events).await?, next);
            let may_continue = self.is_trusted().await;
            if after.is_none() || !may_continue {
                break;
            }
        }
        if after.is_none() {
            self.publisher.outstanding.swept(began);
        }
        Ok(count)
    }

    /// The time before which an order must have changed to be taken.
    async fn before(&mut self, age: Duration) -> Result<Timestamp, store::Error> {
        if !self.publisher.store.is_shared() {
            return Ok(Timestamp::now() - age);
        }
        // By the store's clock, not by this machine's; a new order may be in flight in another process.
        let began = Instant::now();
        let now = self.publisher.store.now().await;
        self.worked += began.elapsed();
        Ok(now? - GRACE)
    }

    /// The next page of pending events without those that are outstanding here. Orders whose event cannot be built are
    /// marked failed.
    async fn page(
        &mut self,
        before: Timestamp,
        after: Option<store::PendingCursor>,
    ) -> Result<(Vec<Event>, Option<store::PendingCursor>), store::Error> {
        let began = Instant::now();
        self.publisher.outstanding.begin_page();
        let page = self.publisher.store.pending(before, after, PAGE).await;
        self.worked += began.elapsed();
        let new = page.map(|page| {
            let PendingPage { mut events, unpublishable, next } = page;
            events.retain(|event| self.is_new(event));
            (events, unpublishable, next)
        });
        self.publisher.outstanding.end_page();
        let (events, unpublishable, next) = new?;
        let reasons = unpublishable.into_iter().map(|it| ((it.order_id, it.version), it.reason)).collect();
        self.publisher.mark_failed(reasons).await;
        Ok((events, next))
    }

    /// Publishes events as memory allows.
    async fn publish(&mut self, mut events: Vec<Event>) -> Result<usize, store::Error> {
        if matches!(self.trust, Trust::Lost { .. }) && events.len() > 1 {
            // A random one: the first may be the one that the bus does not take.
            events = vec![events.swap_remove(random(events.len() as u32) as usize)];
        }
        let mut count = 0;
        while let Some((fitting, permit)) = self.publisher.reserve_some(&events).await {
            let rest = events.split_off(fitting);
            let mut mine = self.claim(std::mem::replace(&mut events, rest)).await?;
            // The fast path may have begun a newer version during the wait for memory or for the claim.
            mine.retain(|event| self.is_new(event));
            if !mine.is_empty() {
                count += mine.len();
                self.publishing.spawn(self.publisher.publish(mine, permit));
            }
        }
        Ok(count)
    }

    fn is_new(&self, event: &Event) -> bool {
        let (Some(order_id), Some(version)) = (event.order_id, event.version) else { return false };
        !self.publisher.outstanding.has(order_id, version)
    }

    /// Leaves out the events that another process has claimed.
    async fn claim(&mut self, events: Vec<Event>) -> Result<Vec<Event>, store::Error> {
        let began = Instant::now();
        let mine = self.publisher.store.claim(&keys(&events)).await;
        self.worked += began.elapsed();
        Ok(events.into_iter().zip(mine?).filter_map(|(event, mine)| mine.then_some(event)).collect())
    }

    /// Whether the pass may continue, by the outcomes of its publishes.
    async fn is_trusted(&mut self) -> bool {
        while let Some(outcome) = match self.trust {
            Trust::Full => self.publishing.try_join_next(),
            Trust::Untried | Trust::Lost { .. } => self.publishing.join_next().await,
        } {
            self.update_trust(published(outcome));
        }
        !matches!(self.trust, Trust::Lost { .. })
    }

    /// Adjusts the trust to the outcome of a publish.
    fn update_trust(&mut self, outcome: Outcome) {
        if outcome.answered > 0 {
            self.trust = Trust::Full;
        } else if outcome.unavailable > 0 && !self.publisher.bus.confirms_processing() {
            let pause = match self.trust {
                Trust::Lost { pause, .. } => (pause * 2).min(LONGEST_PAUSE),
                Trust::Untried | Trust::Full => FIRST_PAUSE,
            };
            self.trust = Trust::Lost { confirmations: self.publisher.confirmations(), pause };
        }
    }

    /// Trusts the bus again where it has confirmed an event since its last failure.
    fn regain(&mut self) {
        if let Trust::Lost { confirmations, .. } = self.trust
            && self.publisher.confirmations() > confirmations
        {
            self.trust = Trust::Full;
        }
    }
}

/// The outcome of a publish. A panic of its task panics the sweep, too: its events would stay outstanding for ever.
fn published(outcome: Result<Outcome, JoinError>) -> Outcome {
    outcome.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_) => Outcome::default(),
    })
}
