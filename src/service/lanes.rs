//! Lanes: group commit. A lane collects the commands that arrive while its last batch is being committed and
//! commits them as the next one: no timer, so a lone command waits for nobody, and the batches grow with the
//! load. An order always takes the same lane and never stands in a batch twice.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::acks::{Acks, UnderWay, Waiter};
use super::forget;
use super::intake::{Progress, Receipt};
use super::quota::Permit;
use super::relay::Relay;
use crate::cache::Cache;
use crate::error::Error;
use crate::order::{Command, Invalid, OrderId, Request};
use crate::store::{self, Accepted, Refusal, Store};
use crate::telemetry::limited;

/// How many commands wait in a lane before the next one is turned away.
const QUEUE: usize = 16_384;

/// The most commands in a batch. Far above what 256 connections can fill; it bounds a transaction.
const BATCH: usize = 1024;

/// How many batches of a lane are under way, from the commit to the answer: one that is being committed, others on
/// their way to the worker and back, so that nobody idles. What arrives meanwhile is the next batch; more of them
/// would only be smaller, and every hop pays by the batch.
const UNDER_WAY: usize = 3;

/// How long after its commit a batch of a shared store counts as under way, answered or not: what takes longer waits for
/// something that larger batches would not hurry.
const PACE: Duration = Duration::from_millis(15);

/// How many rounds of arrivals a batch waits for at most, so that a lane under a flood goes on.
const ROUNDS: usize = 32;

/// How long a caller is asked to stay away when the service is full.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A command on its way, and who wants to know.
pub(super) struct Entry {
    pub(super) request: Request,
    /// Until when the caller waits for the ACK; `None`: only for the commit.
    pub(super) wait_until: Option<Instant>,
    pub(super) reply: oneshot::Sender<Result<Receipt, Error>>,
    /// The memory that the command takes up, until it is committed.
    pub(super) memory: Option<Arc<Permit>>,
}

/// The way into the lanes.
pub(super) struct Lanes {
    // One lane fills every batch best: the store has one writer, and a second lane would only halve the batches.
    lane: mpsc::Sender<Entry>,
}

/// The lanes' own loop.
pub(super) struct Runner {
    queue: mpsc::Receiver<Entry>,
    commit: Commit,
}

/// What committing a batch takes.
struct Commit {
    store: Arc<dyn Store>,
    cache: Arc<dyn Cache>,
    acks: Arc<Acks>,
    relay: Relay,
}

pub(super) fn new(
    store: Arc<dyn Store>,
    cache: Arc<dyn Cache>,
    acks: Arc<Acks>,
    relay: Relay,
) -> (Lanes, Runner) {
    let (lane, queue) = mpsc::channel(QUEUE);
    (Lanes { lane }, Runner { queue, commit: Commit { store, cache, acks, relay } })
}

impl Lanes {
    /// Puts a command into its lane.
    pub(super) fn submit(&self, entry: Entry) -> Result<(), Error> {
        self.lane.try_send(entry).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded { retry_after: RETRY_AFTER },
            mpsc::error::TrySendError::Closed(_) => Error::Unavailable,
        })
    }
}

impl Runner {
    /// Runs until `shutdown`, and commits what was submitted before.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let Runner { mut queue, commit } = self;
        let mut held: Vec<Entry> = Vec::new();
        let (mut committing, mut unanswered) = (FuturesUnordered::new(), FuturesUnordered::new());
        // Orders and keys with a request under way: the next one for any of them waits for its outcome.
        let mut busy = Busy::default();
        // Only where a batch has a long way to go does it pay to have larger ones.
        let is_shared = commit.store.is_shared();
        let mut open = true;
        loop {
            let under_way = committing.len() + unanswered.len();
            let is_free = under_way < UNDER_WAY;
            if is_free {
                let anybody = !held.is_empty() || !queue.is_empty();
                if is_shared && anybody && under_way > 0 {
                    gather(&queue).await;
                }
                while held.len() < BATCH
                    && let Ok(entry) = queue.try_recv()
                {
                    held.push(entry);
                }
                let batch: Vec<Entry>;
                (batch, held) = held.into_iter().partition(|entry| busy.take(&entry.request));
                if !batch.is_empty() {
                    let taken = Busy::of(&batch);
                    committing.push(commit.run(batch).map(|answered| (taken, answered)));
                    continue;
                }
            }
            tokio::select! {
                Some((taken, mut answered)) = committing.next() => {
                    busy.release(&taken);
                    if is_shared {
                        unanswered.push(async move { timeout(PACE, answered.recv()).await });
                    }
                }
                Some(_) = unanswered.next() => {}
                entry = queue.recv(), if open && is_free && held.len() < BATCH => match entry {
                    Some(entry) => held.push(entry),
                    None => open = false,
                },
                () = shutdown.cancelled(), if !queue.is_closed() => queue.close(),
                else => return,
            }
        }
    }
}

/// Orders and keys that a batch is about.
#[derive(Default)]
struct Busy {
    orders: HashSet<OrderId>,
    keys: HashSet<[u8; 16]>,
}

impl Busy {
    /// What a batch has taken.
    fn of(batch: &[Entry]) -> Busy {
        let requests = batch.iter().map(|entry| &entry.request);
        let keys = requests.clone().filter_map(|request| Some(request.key?.digest));
        Busy { orders: requests.map(|request| request.command.order_id()).collect(), keys: keys.collect() }
    }

    /// Takes what a request is about; `false`, and nothing taken, where any of it is busy.
    fn take(&mut self, request: &Request) -> bool {
        let (order_id, key) = (request.command.order_id(), request.key.map(|key| key.digest));
        if self.orders.contains(&order_id) || key.is_some_and(|key| self.keys.contains(&key)) {
            return false;
        }
        self.keys.extend(key);
        self.orders.insert(order_id)
    }

    fn release(&mut self, taken: &Busy) {
        self.orders.retain(|order| !taken.orders.contains(order));
        self.keys.retain(|key| !taken.keys.contains(key));
    }
}

/// Lets those arrive who are about to, while there is no hurry because other batches are under way: an answered batch
/// brings many callers back, one just after the other, and the first of them should not go alone. Whatever task is ready
/// runs first, until a round of them brings nobody new.
async fn gather(queue: &mpsc::Receiver<Entry>) {
    for _ in 0..ROUNDS {
        let before = queue.len();
        yield_now().await;
        if queue.len() == before {
            return;
        }
    }
}

impl Commit {
    /// Commits a batch and answers, or registers, everybody in it; the channel ends when all have been answered.
    /// Halves a batch that one row spoils, so that only that row fails.
    async fn run(&self, batch: Vec<Entry>) -> mpsc::Receiver<Infallible> {
        let (under_way, answered) = mpsc::channel(1);
        let mut parts = vec![batch];
        while let Some(mut entries) = parts.pop() {
            let requests: Arc<[Request]> = entries.iter().map(|entry| entry.request.clone()).collect();
            match self.store.apply(requests).await {
                Ok(results) => {
                    self.forget(&entries).await;
                    self.hand_on(entries, results, &under_way);
                }
                Err(store::Error::BadBatch(_)) if entries.len() > 1 => {
                    let second = entries.split_off(entries.len() / 2);
                    parts.extend([second, entries]);
                }
                Err(error) => {
                    if matches!(error, store::Error::OutcomeUnknown(_)) {
                        self.forget(&entries).await;
                    }
                    fail(entries, &error);
                }
            }
        }
        answered
    }

    /// Has the cache forget what the batch was about; also where a command was refused, for that too tells its
    /// caller where the order stands. Nobody has a copy of an order that is being created.
    async fn forget(&self, entries: &[Entry]) {
        let commands = entries.iter().map(|entry| &entry.request.command);
        let changes = commands.filter(|command| !matches!(command, Command::Create { .. }));
        forget(&*self.cache, changes.map(Command::order_id)).await;
    }

    /// Answers those who were refused, registers those who wait, and only then lets the events go.
    fn hand_on(&self, entries: Vec<Entry>, results: Vec<Result<Accepted, Refusal>>, under_way: &UnderWay) {
        let now = Instant::now();
        let mut waiters = Vec::with_capacity(entries.len());
        let mut events = Vec::with_capacity(entries.len());
        for (Entry { request, wait_until, reply, memory }, result) in entries.into_iter().zip(results) {
            // The payload is in the event from here on, which the relay counts.
            drop(memory);
            let event = match result {
                Ok(Accepted::Now(event)) => event,
                // Whoever made it happen has its event published.
                Ok(Accepted::Before(earlier)) => {
                    let _ = reply.send(Ok(Receipt::of_earlier(&earlier)));
                    continue;
                }
                Err(refusal) => {
                    let _ = reply.send(Err(refused(refusal, &request.command)));
                    continue;
                }
            };
            match (Receipt::of_event(&event, Progress::NotAwaited), wait_until) {
                (Some(receipt), Some(until)) => {
                    waiters.push(Waiter::new(receipt, reply, now, until, under_way.clone()));
                }
                (Some(receipt), None) => drop(reply.send(Ok(receipt))),
                // A store answers a command with the event of its order and version.
                (None, _) => drop(reply.send(Err(Error::Internal))),
            }
            events.push(event);
        }
        self.acks.register(waiters);
        self.relay.forward(events);
    }
}

fn fail(entries: Vec<Entry>, error: &store::Error) {
    for Entry { request, reply, .. } in entries {
        let error = match error {
            store::Error::Unavailable(_) => Error::Unavailable,
            store::Error::OutcomeUnknown(_) => Error::OutcomeUnknown { order_id: request.command.order_id() },
            store::Error::BadBatch(_) => cannot_be_stored(),
        };
        let _ = reply.send(Err(error));
    }
}

fn refused(refusal: Refusal, command: &Command) -> Error {
    let order_id = command.order_id();
    match refusal {
        Refusal::NotFound => Error::NotFound { order_id: Some(order_id) },
        Refusal::Deleted => Error::Deleted { order_id },
        Refusal::Changed { current } => Error::PreconditionFailed { order_id, current: Some(current) },
        Refusal::KeyReused => Error::KeyReused,
        Refusal::Exists { user_id, version, deleted } => match command {
            Command::Create { user_id: asker, .. } if *asker != user_id => {
                Error::PreconditionFailed { order_id, current: None }
            }
            _ if deleted => Error::Deleted { order_id },
            _ => Error::PreconditionFailed { order_id, current: Some(version) },
        },
        Refusal::BadRow(reason) => {
            limited!(warn, "bad row"; %order_id, reason, "a row cannot be stored");
            cannot_be_stored()
        }
    }
}

fn cannot_be_stored() -> Error {
    Error::Invalid(Invalid::new("payload", "the order store cannot hold this payload; send a plainer one"))
}
