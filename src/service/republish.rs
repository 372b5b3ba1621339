//! Publishes again what the bus has confirmed and lost: by its retention, a topic that was deleted or made anew, an
//! unclean election of a leader, a lost disk. The store still calls such an order pending, and no outbox entry names it.
//!
//! An order is not lost only because it waits long: its event may be in a backlog. So the task notes where the topic
//! ends, waits until the workers have consumed all of it, and looks again. What is pending even then is lost, and goes
//! back to the sweep at a limited rate.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::publisher::Publisher;
use super::relay::Key;
use super::sweep::with_chance;
use crate::bus::PublishError;
use crate::store;
use crate::telemetry::limited;

/// How many rows of the store are looked at in one statement.
const ROWS: usize = 5000;

/// How many times as long as such a statement took the store has for itself afterwards.
const REST_FACTOR: u32 = 9;

/// The most orders in one round; the next round finds the others.
const MOST: usize = 10_000;

/// How many orders go back to the sweep at a time, and the pause between: 500 each second.
const CHUNK: usize = 100;
const PAUSE: Duration = Duration::from_millis(200);

/// The longest pause between two looks at how far the workers have come.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How many times as long as usual an order is left alone at most that was republished and is pending again.
const LONGEST_FACTOR: u32 = 64;

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Bus(#[from] PublishError),
}

/// Republishes what was lost.
pub(super) struct Republisher {
    publisher: Arc<Publisher>,
    /// How long an order must have been pending without progress.
    after: Duration,
    /// What was republished and is pending all the same: how often, and when.
    tried: HashMap<Key, (u32, Instant)>,
}

impl Republisher {
    pub(super) fn new(publisher: Arc<Publisher>, after: Duration) -> Republisher {
        Republisher { publisher, after, tried: HashMap::new() }
    }

    /// Runs until `shutdown`. Ends at once where a confirmation means that the worker has settled the event: such a
    /// bus loses none.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        if self.publisher.bus.confirms_processing() {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.rounds() => {}
        }
    }

    async fn rounds(&mut self) {
        loop {
            sleep(with_chance(self.after)).await;
            match self.round().await {
                Ok(0) => {}
                Ok(count) => tracing::warn!(
                    count,
                    "published orders again whose events the bus had confirmed and lost; look at the retention of the \
                     events' topic and at the brokers' logs"
                ),
                Err(error) => {
                    limited!(warn, "lost events"; %error, "cannot look for lost events; it is tried again")
                }
            }
        }
    }

    /// Republishes the orders that are lost now; answers how many.
    async fn round(&mut self) -> Result<usize, Failure> {
        let due = self.due().await?;
        if due.is_empty() {
            return Ok(0);
        }
        // In this order: an event that was confirmed before lies before that end.
        let Some(ends) = self.publisher.bus.ends().await? else { return Ok(0) };
        while !self.publisher.bus.has_consumed(&ends).await? {
            sleep((self.after / 10).min(LOOK_EVERY)).await;
        }
        let mut count = 0;
        for chunk in due.chunks(CHUNK) {
            count += self.give_back(chunk).await?;
            let tried =
                |key: &Key| (*key, (self.tried.get(key).map_or(1, |(times, _)| times + 1), Instant::now()));
            let tried: Vec<_> = chunk.iter().map(tried).collect();
            self.tried.extend(tried);
            sleep(PAUSE).await;
        }
        Ok(count)
    }

    /// Orders that have been pending for long, whose events the bus has confirmed, and that were not republished lately.
    async fn due(&mut self) -> Result<Vec<Key>, store::Error> {
        let store = &*self.publisher.store;
        if !store.has_outbox() {
            let old = self.publisher.outstanding.confirmed_before(Instant::now() - self.after, MOST);
            return Ok(old.into_iter().filter(|key| self.is_due(key)).collect());
        }
        let (before, mut after) = (store.now().await? - self.after, None);
        let (mut due, mut waiting) = (Vec::new(), HashSet::new());
        loop {
            let began = Instant::now();
            let page = store.missing_outbox_entries(before, after, ROWS).await?;
            for key in page.entries.iter().map(|entry| (entry.order_id, entry.version)) {
                match self.is_due(&key) {
                    true => due.push(key),
                    false => {
                        waiting.insert(key);
                    }
                }
            }
            after = page.next;
            if due.len() >= MOST {
                return Ok(due);
            }
            if after.is_none() {
                // What is not pending any more needs no memory.
                let due_now: HashSet<&Key> = due.iter().collect();
                self.tried.retain(|key, _| waiting.contains(key) || due_now.contains(key));
                return Ok(due);
            }
            // The store is left to others for most of the time.
            sleep(began.elapsed() * REST_FACTOR).await;
        }
    }

    fn is_due(&self, key: &Key) -> bool {
        self.tried.get(key).is_none_or(|(times, at)| {
            at.elapsed() >= self.after * 2_u32.saturating_pow(*times).min(LONGEST_FACTOR)
        })
    }

    /// Gives those that are still pending back to the sweep; answers how many.
    async fn give_back(&self, keys: &[Key]) -> Result<usize, store::Error> {
        let (store, publisher) = (&*self.publisher.store, &*self.publisher);
        let given = match store.has_outbox() {
            true => store.add_outbox_entries(keys).await?,
            false => publisher.outstanding.give_back(keys),
        };
        publisher.left_behind.notify_one();
        Ok(given)
    }
}
