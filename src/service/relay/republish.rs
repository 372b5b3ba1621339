//! Republishes events that the bus has confirmed and then lost: by its retention, a topic that was deleted or
//! recreated, an unclean leader election, a lost disk. The store still lists such an order as pending, and its outbox
//! entry is missing.
//!
//! An order that waits long is not yet a lost one: its event may be in a backlog. So the task records the end of the
//! topic, and watches such orders until the workers have consumed all records before it, each partition by itself. The
//! events of orders that are pending even then are lost, and go back to the sweep at a limited rate.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::outstanding::Key;
use super::publisher::Publisher;
use crate::backoff::spread;
use crate::bus::{Behind, Ends, PublishError};
use crate::order::OrderId;
use crate::store::{self, Processed};
use crate::telemetry::LogOnce;

/// How many rows of the store one statement reads.
const ROWS: usize = 5000;

/// The pause after such a statement, in multiples of its time: the store works for its other clients.
const REST_FACTOR: u32 = 9;

/// The most orders that one search finds; the next search finds the others.
const MOST: usize = 10_000;

/// The most orders that are watched at a time.
const MOST_WATCHED: usize = 10 * MOST;

/// How many orders go back to the sweep at a time. With [`PAUSE`] that makes 500 a second.
const CHUNK: usize = 100;

/// The pause after each chunk.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest pause between two checks of the workers' progress.
const LONGEST_CHECK_PERIOD: Duration = Duration::from_secs(10);

/// The longest pause before an order is republished once more, in multiples of `republish_after`.
const LONGEST_FACTOR: u32 = 64;

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Bus(#[from] PublishError),
}

/// Republishes lost events.
pub(super) struct Republisher {
    publisher: Arc<Publisher>,
    /// How long an order must have been pending without progress.
    after: Duration,
    /// The orders whose events may be lost, the oldest first.
    watches: Vec<Watch>,
    /// The orders that were republished and are still pending: how often, and when.
    tried: HashMap<Key, (u32, Instant)>,
}

/// Orders that were pending when the topic ended at `ends`. The events of those that are still pending when the workers
/// have consumed up to these ends are lost.
struct Watch {
    ends: Ends,
    keys: HashSet<Key>,
}

impl Republisher {
    pub(super) fn new(publisher: Arc<Publisher>, after: Duration) -> Republisher {
        Republisher { publisher, after, watches: Vec::new(), tried: HashMap::new() }
    }

    /// Runs until `shutdown`. Ends at once where a confirmation means that the worker has settled the event: such a
    /// bus loses none.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        if self.publisher.bus.confirms_processing() {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.passes() => {}
        }
    }

    async fn passes(&mut self) {
        let (mut next_search, log) = (Instant::now() + spread(self.after), LogOnce::default());
        loop {
            let pause = next_search.saturating_duration_since(Instant::now());
            let is_watching = !self.watches.is_empty();
            sleep(if is_watching { pause.min((self.after / 10).min(LONGEST_CHECK_PERIOD)) } else { pause })
                .await;
            let searches = Instant::now() >= next_search;
            match self.pass(searches).await {
                Ok(()) => drop(log.worked()),
                // Logged once for the whole outage, because the store and the bus log it themselves.
                Err(error) if log.failed() => {
                    tracing::warn!(%error, "cannot look for lost events; the relay tries again");
                }
                Err(error) => tracing::debug!(%error, "cannot look for lost events yet"),
            }
            if searches {
                next_search = Instant::now() + spread(self.after);
            }
        }
    }

    /// Republishes events that are known to be lost; where `searches`, looks for further orders whose events may be.
    async fn pass(&mut self, searches: bool) -> Result<(), Failure> {
        let behind = self.check_watches().await?;
        let watched: usize = self.watches.iter().map(|watch| watch.keys.len()).sum();
        if searches && watched < MOST_WATCHED {
            let due = self.due(&behind).await?;
            // In this order: an event that was confirmed before is before that end.
            if !due.is_empty()
                && let Some(ends) = self.publisher.bus.ends().await?
            {
                // The end of a partition without a leader is unknown; the next search asks again.
                let unknown = ends.unknown();
                let keys = due.into_iter().filter(|key| !unknown.may_hold(key.0)).collect();
                self.watches.push(Watch { ends, keys });
                self.check_watches().await?;
            }
        }
        Ok(())
    }

    /// Republishes the watched orders that the workers have passed without processing them. Answers where the workers
    /// have not passed yet: events there are in a backlog.
    async fn check_watches(&mut self) -> Result<Behind, Failure> {
        let (mut at, mut backlog) = (0, Behind::default());
        while let Some(watch) = self.watches.get_mut(at) {
            let behind = self.publisher.bus.behind(&watch.ends).await?;
            let lost: Vec<Key> = watch.keys.extract_if(|key| !behind.may_hold(key.0)).collect();
            if watch.keys.is_empty() {
                self.watches.remove(at);
            } else {
                backlog = backlog.and(behind);
                at += 1;
            }
            self.republish(&lost).await?;
        }
        Ok(backlog)
    }

    /// Republishes orders that are lost.
    async fn republish(&mut self, lost: &[Key]) -> Result<(), Failure> {
        let mut count = 0;
        for chunk in lost.chunks(CHUNK) {
            count += self.return_to_sweep(chunk).await?;
            for key in chunk {
                let times = self.tried.get(key).map_or(1, |(times, _)| times + 1);
                self.tried.insert(*key, (times, Instant::now()));
            }
            sleep(PAUSE).await;
        }
        if count > 0 {
            tracing::warn!(
                count,
                "republished orders whose events the bus had confirmed and lost; check the retention of the events' \
                 topic and the brokers' logs"
            );
        }
        Ok(())
    }

    /// The orders that have been pending for long, whose events the bus has confirmed, and that were not republished
    /// lately; without those in the backlog.
    async fn due(&mut self, backlog: &Behind) -> Result<Vec<Key>, store::Error> {
        let store = &*self.publisher.store;
        if !store.has_outbox() {
            let is_due = |key: &Key| self.is_due(key, backlog);
            return Ok(self.publisher.outstanding.confirmed_before(
                Instant::now() - self.after,
                MOST,
                is_due,
            ));
        }
        let (before, mut after) = (store.now().await? - self.after, None);
        let (mut due, mut waiting) = (Vec::new(), HashSet::new());
        loop {
            let began = Instant::now();
            let page = store.missing_outbox_entries(before, after, ROWS).await?;
            for key in page.entries.iter().map(|entry| (entry.order_id, entry.version)) {
                match self.is_due(&key, backlog) {
                    true => due.push(key),
                    false if self.tried.contains_key(&key) => {
                        waiting.insert(key);
                    }
                    false => {}
                }
            }
            after = page.next;
            if due.len() >= MOST {
                return Ok(due);
            }
            if after.is_none() {
                // Entries of orders that are no longer pending are dropped.
                let due_now: HashSet<&Key> = due.iter().collect();
                self.tried.retain(|key, _| waiting.contains(key) || due_now.contains(key));
                return Ok(due);
            }
            // Most of the time the store works for its other clients.
            sleep(began.elapsed() * REST_FACTOR).await;
        }
    }

    fn is_due(&self, key: &Key, backlog: &Behind) -> bool {
        let is_rested = self.tried.get(key).is_none_or(|(times, at)| {
            at.elapsed() >= self.after * 2_u32.saturating_pow(*times).min(LONGEST_FACTOR)
        });
        is_rested && !backlog.may_hold(key.0) && !self.watches.iter().any(|watch| watch.keys.contains(key))
    }

    /// The orders among these that the workers have not processed.
    async fn pending(&self, keys: &[Key]) -> Result<Vec<Key>, store::Error> {
        let ids: Vec<OrderId> = keys.iter().map(|(order_id, _)| *order_id).collect();
        let states = self.publisher.store.processed_versions(&ids).await?;
        let is_pending = |(key, state): (&Key, Option<Processed>)| {
            state.is_some_and(|state| state.version < key.1).then_some(*key)
        };
        Ok(keys.iter().zip(states).filter_map(is_pending).collect())
    }

    /// Returns the orders that are still pending to the sweep; answers how many.
    async fn return_to_sweep(&self, keys: &[Key]) -> Result<usize, store::Error> {
        let (store, publisher) = (&*self.publisher.store, &*self.publisher);
        let given = match store.has_outbox() {
            true => store.add_outbox_entries(keys).await?,
            false => publisher.outstanding.remove_confirmed(&self.pending(keys).await?),
        };
        publisher.left_behind.notify_one();
        Ok(given)
    }
}
