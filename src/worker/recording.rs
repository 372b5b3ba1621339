//! Recording: completes a batch of orders in the store in one write, invalidates their cached copies, sends the ACKs,
//! and only then settles the deliveries. A write is retried until the store takes it; a row that the store refuses goes
//! to the dead letters alone. A delivery must never be settled before its order is recorded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::rejects::Rejects;
use super::work::{Done, Task, Work, ack, has_failed};
use crate::bus::{Bus, Delivery, Reply};
use crate::cache::{Cache, invalidate};
use crate::order::{OrderId, Status};
use crate::store::{self, Completed, Completion, Orders, Precondition, Processed};
use crate::telemetry::limited;

/// The first pause before a write is retried; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Records outcomes, acknowledges and settles.
pub(super) struct Recorder {
    store: Arc<dyn Orders>,
    bus: Arc<dyn Bus>,
    cache: Arc<dyn Cache>,
    pub(super) rejects: Rejects,
}

/// Why a batch was not recorded.
enum Unrecorded {
    /// The store refuses it for one of its rows.
    BadBatch(String),
    /// The worker was asked to stop before the store took it.
    Stopped,
}

impl Recorder {
    pub(super) fn new(store: Arc<dyn Orders>, bus: Arc<dyn Bus>, cache: Arc<dyn Cache>) -> Recorder {
        let rejects = Rejects::new(Arc::clone(&bus));
        Recorder { store, bus, cache, rejects }
    }

    /// Settles tasks that need not be recorded, because the store has recorded that version of the order or a newer
    /// one. Answers the other tasks.
    pub(super) async fn settle_overtaken<W: Work>(
        &self,
        tasks: Vec<W>,
        processed: &mut HashMap<OrderId, Processed>,
    ) -> Vec<W> {
        let is_open = |task: &&W| task.version().is_some() && !processed.contains_key(&task.order_id());
        let open: HashSet<OrderId> = tasks.iter().filter(is_open).map(Work::order_id).collect();
        let open: Vec<OrderId> = open.into_iter().collect();
        if !open.is_empty()
            && let Ok(states) = self.store.processed_versions(&open).await
        {
            let known = |(order_id, state): (OrderId, Option<Processed>)| Some((order_id, state?));
            processed.extend(open.into_iter().zip(states).filter_map(known));
        }
        let (now, mut replies, mut settled, mut rest) =
            (Timestamp::now(), Vec::new(), Vec::new(), Vec::new());
        for task in tasks {
            let order_id = task.order_id();
            match (task.version(), processed.get(&order_id)) {
                (Some(version), Some(state)) if version <= state.version => {
                    let delivery = task.into_delivery();
                    // A version that was overtaken has not failed; one that was delivered twice may have.
                    let ack = ack(&delivery, order_id, Some(version), has_failed(version, state), now);
                    replies.push(Reply { ack, to: delivery.reply_to });
                    settled.push(delivery);
                }
                _ => rest.push(task),
            }
        }
        self.acknowledge_and_settle(replies, settled).await;
        rest
    }

    async fn acknowledge_and_settle(&self, replies: Vec<Reply>, settled: Vec<Delivery>) {
        if settled.is_empty() {
            return;
        }
        if let Err(error) = self.bus.acknowledge(replies).await {
            // The waiting callers are answered from the store.
            limited!(warn, "ACKs"; %error, "acknowledgements were not sent");
        }
        self.bus.settle(settled).await;
    }

    /// Records, ACKs and settles deliveries of different orders, and adds the states that it recorded to `recorded`.
    /// `false` where the worker was asked to stop before the store took the batch; its events are then redelivered.
    pub(super) async fn record(
        &self,
        done: Vec<Done>,
        recorded: &mut Vec<(OrderId, Processed)>,
        shutdown: &CancellationToken,
    ) -> bool {
        if done.is_empty() {
            return true;
        }
        let (sub_batch, completions): (Vec<Task>, Vec<Completion>) =
            done.into_iter().map(|done| ((done.order_id, done.delivery), done.completion)).unzip();
        let completions: Arc<[Completion]> = completions.into();
        match self.complete(&completions, shutdown).await {
            Ok(outcomes) => {
                // Stale ones, too: they may have been redelivered because a worker died before it invalidated them.
                let known =
                    completions.iter().zip(&outcomes).filter(|(_, outcome)| **outcome != Completed::Unknown);
                invalidate(&*self.cache, known.map(|(completion, _)| completion.order_id)).await;
                self.settle(sub_batch, &completions, outcomes, recorded).await;
                true
            }
            Err(Unrecorded::BadBatch(reason)) => {
                let again = sub_batch.into_iter().zip(completions.iter().cloned());
                let done =
                    again.map(|((order_id, delivery), completion)| Done { order_id, delivery, completion });
                self.split(done.collect(), &reason, recorded, shutdown).await
            }
            Err(Unrecorded::Stopped) => false,
        }
    }

    /// Completes a batch in the store, with retries until the store takes it.
    async fn complete(
        &self,
        completions: &Arc<[Completion]>,
        shutdown: &CancellationToken,
    ) -> Result<Vec<Completed>, Unrecorded> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.store.complete(Arc::clone(completions)).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(store::Error::BadBatch(reason)) => return Err(Unrecorded::BadBatch(reason)),
                Err(error) => {
                    limited!(error, "completion"; %error, "the worker cannot record outcomes; it tries again")
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return Err(Unrecorded::Stopped),
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    /// ACKs and settles the deliveries of recorded orders, and adds the orders' states to `recorded`. A record whose
    /// order does not exist goes to the dead letters.
    async fn settle(
        &self,
        sub_batch: Vec<Task>,
        completions: &[Completion],
        outcomes: Vec<Completed>,
        recorded: &mut Vec<(OrderId, Processed)>,
    ) {
        let states = self.states_of_stale(completions, &outcomes).await;
        let now = Timestamp::now();
        let mut replies = Vec::with_capacity(sub_batch.len());
        let (mut settled, mut rejected) = (Vec::with_capacity(sub_batch.len()), Vec::new());
        for (((order_id, delivery), completion), outcome) in
            sub_batch.into_iter().zip(completions).zip(outcomes)
        {
            if outcome == Completed::Unknown {
                rejected.push((delivery, format!("there is no order {order_id}")));
                continue;
            }
            let version = match completion.precondition {
                Precondition::Version(version) => Some(version),
                Precondition::Creation(_) => Some(1),
                Precondition::Unversioned(_) => None,
            };
            if let Precondition::Version(version) = completion.precondition {
                let state = match (outcome, states.get(&order_id)) {
                    (Completed::Applied, _) => Processed { version, status: completion.status },
                    (_, Some(state)) if state.version >= version => *state,
                    // A newer command has overtaken this version and all older ones.
                    _ => Processed { version, status: Status::Processing },
                };
                recorded.push((order_id, state));
            }
            // The store's state counts: an earlier delivery may have had another outcome.
            let failed = match (states.get(&order_id), &completion.precondition) {
                (Some(state), Precondition::Version(version)) => has_failed(*version, state),
                _ => completion.status == Status::Failed,
            };
            let ack = ack(&delivery, order_id, version, failed, now);
            replies.push(Reply { ack, to: delivery.reply_to });
            settled.push(delivery);
        }
        self.acknowledge_and_settle(replies, settled).await;
        self.rejects.send(rejected);
    }

    /// Records the halves of a batch that the store refuses for one of its rows; a refused row that is alone goes to
    /// the dead letters.
    async fn split(
        &self,
        mut done: Vec<Done>,
        reason: &str,
        recorded: &mut Vec<(OrderId, Processed)>,
        shutdown: &CancellationToken,
    ) -> bool {
        let second = done.split_off(done.len() / 2);
        if done.is_empty() {
            let reason = format!("the order cannot be stored: {reason}");
            self.rejects.send(second.into_iter().map(|done| (done.delivery, reason.clone())).collect());
            return true;
        }
        Box::pin(self.record(done, recorded, shutdown)).await
            && Box::pin(self.record(second, recorded, shutdown)).await
    }

    /// The states of the orders whose completions changed nothing; empty where the store cannot be read.
    async fn states_of_stale(
        &self,
        completions: &[Completion],
        outcomes: &[Completed],
    ) -> HashMap<OrderId, Processed> {
        let is_stale = |(completion, outcome): &(&Completion, &Completed)| {
            **outcome == Completed::Stale && matches!(completion.precondition, Precondition::Version(_))
        };
        let stale: Vec<OrderId> =
            completions.iter().zip(outcomes).filter(is_stale).map(|(it, _)| it.order_id).collect();
        if stale.is_empty() {
            return HashMap::new();
        }
        let states = self.store.processed_versions(&stale).await.unwrap_or_default();
        stale.into_iter().zip(states).filter_map(|(order_id, state)| Some((order_id, state?))).collect()
    }
}
