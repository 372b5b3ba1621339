//! The committer: group commit. It commits the commands that arrive while its last batches are being committed as the
//! next batch. There is no timer: a lone command is committed at once, and batches grow with the load. A batch must
//! hold an order and an idempotency key at most once; a command for one that is in flight waits outside of the batch.

mod commit;
mod in_flight;
mod load;
mod pending;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::commit::Taken;
use self::in_flight::{Held, InFlight, Queued};
use self::load::Load;
use super::quota::Resource;
use crate::error::Error;
use crate::order::{Command, CommandRequest};

pub(super) use self::commit::Commit;
pub use self::load::{MOST_QUEUED, RETRY_AFTER};
pub(super) use self::pending::{PendingCommand, Slot, Withdrawal};

/// The most commands in a batch. Far above what 256 connections can fill; it bounds a transaction.
const BATCH: usize = 1024;

/// How many bytes a batch may hold before it is full. The store holds a second copy of all of it.
const BATCH_BYTES: usize = 4 << 20;

/// The bytes that a command counts besides its payload.
const COMMAND_OVERHEAD: usize = 256;

/// The in-flight window: how many batches are between their commit and their ACKs. One is being committed, others are
/// on their way to the worker and back, so that store and worker do not idle. The commands that arrive meanwhile are
/// the next batch; more batches would only be smaller, and each hop has a cost per batch.
const MAX_IN_FLIGHT_BATCHES: usize = 3;

/// How long after its commit a batch of a shared store counts as in flight, answered or not: a batch that takes longer
/// waits for something that larger batches would not speed up.
const MAX_IN_FLIGHT_TIME: Duration = Duration::from_millis(15);

/// How often a batch waits for further commands at most, so that the committer makes progress under a constant flow.
const MAX_COALESCE_ROUNDS: usize = 32;

/// The way into the committer.
pub(super) struct Committer {
    // One committer, because a second one would only halve the batches: the store has one writer.
    queue: mpsc::UnboundedSender<Queued>,
    load: Arc<Load>,
}

/// The committer's own loop.
pub(super) struct Runner {
    queue: mpsc::UnboundedReceiver<Queued>,
    load: Arc<Load>,
    in_flight: InFlight,
    commit: Commit,
}

pub(super) fn new(commit: Commit) -> (Committer, Runner) {
    let (sender, queue) = mpsc::unbounded_channel();
    let load = Arc::new(Load::default());
    let in_flight = InFlight::new(Arc::clone(&load));
    let runner = Runner { queue, load: Arc::clone(&load), in_flight, commit };
    (Committer { queue: sender, load }, runner)
}

impl Committer {
    /// Queues a command. The slot is its caller's way to withdraw it.
    pub(super) fn submit(&self, command: PendingCommand) -> Result<Arc<Slot>, Error> {
        // The channel itself is unbounded; `load` bounds it, together with the queues behind it.
        let permit = command.memory.peer().map(|peer| peer.take(Resource::Commands, 1)).transpose()?;
        if !self.load.enter(MOST_QUEUED) {
            return Err(Error::Overloaded { retry_after: RETRY_AFTER });
        }
        let (held, bytes) = (Held::of(&command.request), bytes(&command.request));
        let slot = Arc::new(Slot::new(command));
        match self.queue.send(Queued { held, bytes, slot: Arc::clone(&slot), _permit: permit }) {
            Ok(()) => Ok(slot),
            Err(_) => {
                self.load.leave();
                Err(Error::Unavailable)
            }
        }
    }
}

/// The bytes that a request counts towards the size of a batch.
fn bytes(request: &CommandRequest) -> usize {
    let payload = match &request.command {
        Command::Create { payload, .. } | Command::Update { payload, .. } => payload.as_str().len(),
        Command::Delete { .. } => 0,
    };
    payload + COMMAND_OVERHEAD
}

impl Runner {
    /// Runs until `shutdown`, and commits what was submitted before.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let Runner { mut queue, load, mut in_flight, commit } = self;
        let (mut committing, mut unanswered) = (FuturesUnordered::new(), FuturesUnordered::new());
        // Larger batches are worth a wait only where a batch has a long way: to a shared store.
        let is_shared = commit.is_shared;
        let mut open = true;
        loop {
            let batches = committing.len() + unanswered.len();
            let is_free = batches < MAX_IN_FLIGHT_BATCHES;
            if is_free {
                if is_shared && batches > 0 && (in_flight.ready() > 0 || !queue.is_empty()) {
                    coalesce(&queue).await;
                }
                let (batch, held) = next_batch(&mut queue, &mut in_flight, &load);
                if !batch.is_empty() {
                    committing.push(commit.run(batch).map(|answered| (held, answered)));
                    continue;
                }
            }
            tokio::select! {
                Some((held, mut answered)) = committing.next() => {
                    held.into_iter().for_each(|held: Held| in_flight.release(held));
                    if is_shared {
                        unanswered.push(async move { timeout(MAX_IN_FLIGHT_TIME, answered.recv()).await });
                    }
                }
                Some(_) = unanswered.next() => {}
                arrived = queue.recv(), if open && is_free => match arrived {
                    Some(command) => in_flight.admit(command),
                    None => open = false,
                },
                () = shutdown.cancelled(), if !queue.is_closed() => queue.close(),
                else => return,
            }
        }
    }
}

/// Forms a batch: first of commands that waited for an order or a key, then of those that have arrived.
fn next_batch(
    queue: &mut mpsc::UnboundedReceiver<Queued>,
    in_flight: &mut InFlight,
    load: &Load,
) -> (Vec<Taken>, Vec<Held>) {
    let most = (in_flight.ready() + queue.len()).min(BATCH);
    let (mut batch, mut taken, mut bytes) = (Vec::with_capacity(most), Vec::with_capacity(most), 0);
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let Some(Queued { held, bytes: more, slot, .. }) = in_flight.next() else {
            match queue.try_recv() {
                Ok(command) => in_flight.admit(command),
                Err(_) => break,
            }
            continue;
        };
        load.leave();
        match slot.take() {
            Some(command) => {
                bytes += more;
                taken.push(held);
                batch.push(Taken { command, slot });
            }
            None => in_flight.release(held),
        }
    }
    (batch, taken)
}

/// Yields until no new commands arrive. Called while other batches are in flight, when there is time for it: after an
/// answered batch many callers send their next command, one just after the other, and the first command should not make
/// a batch of its own.
async fn coalesce(queue: &mpsc::UnboundedReceiver<Queued>) {
    for _ in 0..MAX_COALESCE_ROUNDS {
        let before = queue.len();
        yield_now().await;
        if queue.len() == before {
            return;
        }
    }
}
