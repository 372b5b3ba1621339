//! The sweep: finds in the store what the fast path left behind, and publishes it. That is everything pending at start,
//! what did not fit into memory, what the bus did not take, and what a killed process left.
//!
//! A claim keeps other processes away from an event for a while, so a process claims only what it can publish: nothing
//! while its bus is known to be down, and a little at first, and after a failure, until the bus has confirmed
//! something. The sweep rests in proportion to the time that the store worked for it.

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

/// How long the sweep rests when nothing calls for it.
const REST: Duration = Duration::from_secs(2);

/// How many times as long as the store worked the sweep rests at least.
const REST_FACTOR: u32 = 4;

/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// How long an order must have been pending before the sweep takes it from the fast path.
const GRACE: Duration = Duration::from_secs(3);

/// How many events the sweep reads at once: few, because each may carry a payload of a MiB.
const PAGE: usize = 64;

/// The rest after a publish of which nothing was confirmed: longer than a claim lasts, so that other processes come
/// before the next try. Each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(12);

/// The longest such rest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Publishes what is pending, again and again.
pub(super) struct Sweep {
    publisher: Arc<Publisher>,
    publishing: JoinSet<Outcome>,
    trust: Trust,
    /// How long the store worked for the current pass.
    worked: Duration,
}

/// What the bus is trusted to take, by what came of the last publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// It has taken nothing yet: one page is published, and its outcome awaited.
    Untried,
    /// It takes events.
    Full,
    /// It took nothing the last time, when so many events had been confirmed altogether: one event is tried after that
    /// pause.
    Lost { confirmations: u64, pause: Duration },
}

impl Sweep {
    pub(super) fn new(publisher: Arc<Publisher>) -> Sweep {
        // Where the worker confirms, an event may take as long as its processing.
        let trust = if publisher.bus.confirms_processing() { Trust::Full } else { Trust::Untried };
        Sweep { publisher, publishing: JoinSet::new(), trust, worked: Duration::ZERO }
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
        // At first everything: what an earlier process left pending.
        let mut age = Duration::ZERO;
        loop {
            self.worked = Duration::ZERO;
            match self.pass(age).await {
                Ok(0) => {}
                Ok(count) => limited!(info, "sweep"; count, "republishing orders that were left pending"),
                Err(error) => tracing::warn!(%error, "cannot look for pending orders"),
            }
            age = self.rest().await;
        }
    }

    /// Rests; answers how old the orders must be that the next pass takes.
    async fn rest(&mut self) -> Duration {
        let least = (self.worked * REST_FACTOR).min(LONGEST_REST);
        if let Trust::Lost { pause, .. } = self.trust {
            sleep(spread(pause.max(least))).await;
            return GRACE;
        }
        let until = Instant::now() + spread(REST.max(least));
        sleep(least).await;
        tokio::select! {
            () = sleep(until.saturating_duration_since(Instant::now())) => GRACE,
            () = self.publisher.left_behind.notified() => Duration::ZERO,
        }
    }

    /// Publishes what has been pending for that long; answers how many events that were.
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
            let goes_on = self.is_trusted().await;
            if after.is_none() || !goes_on {
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
        // By the store's clock, not by this machine's; and what is young is in flight in another process.
        let began = Instant::now();
        let now = self.publisher.store.now().await;
        self.worked += began.elapsed();
        Ok(now? - GRACE)
    }

    /// The next page of what is pending and was not handed over by this process already; orders of which no event can
    /// be made are marked failed.
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
            // Any of them: the first may be the one that the bus does not take.
            events = vec![events.swap_remove(random(events.len() as u32) as usize)];
        }
        let mut count = 0;
        while let Some((fitting, permit)) = self.publisher.reserve_some(&events).await {
            let rest = events.split_off(fitting);
            let mut mine = self.claim(std::mem::replace(&mut events, rest)).await?;
            // The fast path may have begun a newer version while memory or the claim was waited for.
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

    /// Leaves out what another process has taken up.
    async fn claim(&mut self, events: Vec<Event>) -> Result<Vec<Event>, store::Error> {
        let began = Instant::now();
        let mine = self.publisher.store.claim(&keys(&events)).await;
        self.worked += began.elapsed();
        Ok(events.into_iter().zip(mine?).filter_map(|(event, mine)| mine.then_some(event)).collect())
    }

    /// Whether the pass may go on, by what came of what it published.
    async fn is_trusted(&mut self) -> bool {
        while let Some(outcome) = match self.trust {
            Trust::Full => self.publishing.try_join_next(),
            Trust::Untried | Trust::Lost { .. } => self.publishing.join_next().await,
        } {
            self.heed(published(outcome));
        }
        !matches!(self.trust, Trust::Lost { .. })
    }

    fn heed(&mut self, outcome: Outcome) {
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

    /// Trusts the bus again where it has confirmed anything since it lost that trust.
    fn regain(&mut self) {
        if let Trust::Lost { confirmations, .. } = self.trust
            && self.publisher.confirmations() > confirmations
        {
            self.trust = Trust::Full;
        }
    }
}

/// What came of a publish. A panic there is one of the sweep: the events that it left would count as under way for
/// ever.
fn published(outcome: Result<Outcome, JoinError>) -> Outcome {
    outcome.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_) => Outcome::default(),
    })
}
