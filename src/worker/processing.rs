//! Calls of the processor: each with a timeout, and with retries after growing pauses where it fails for a transient
//! reason. Most calls end at once, and their orders are recorded together. A call that takes longer leaves its batch:
//! it continues in a task of its own, so that it does not delay other orders, and its order is recorded when it ends.
//!
//! An order that fails for long, or together with many others, does not wait in memory. A store with an outbox keeps it
//! until it is due, and its delivery is settled; the sweep of any process then republishes it. Without an outbox, the
//! worker drops it where the bus is in this process, and the sweep finds it; with a broker it waits in memory.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call::{Call, Caller, MOST_LATE};
use super::keeping::Keeper;
use super::options::Options;
use super::processor::Processor;
use super::work::{Done, Task};
use crate::bus::Bus;
use crate::shutdown::Components;
use crate::store::Outbox;

/// How long a batch waits for the processor calls of its orders.
pub(super) const PROMPT: Duration = Duration::from_millis(100);

/// How long a batch waits for the calls of orders that it holds more than once: when the newest version is recorded,
/// the older ones need no call.
pub(super) const PROMPT_FOR_REPEATED: Duration = Duration::from_secs(5);

/// Calls the processor.
pub(super) struct Processing {
    caller: Arc<Caller>,
    late: TaskTracker,
    finished: mpsc::UnboundedSender<Done>,
    components: Components,
}

impl Processing {
    /// Ready to call; the orders of calls that left their batches arrive at the receiver.
    pub(super) fn new(
        store: Arc<dyn Outbox>,
        bus: Arc<dyn Bus>,
        processor: Arc<dyn Processor>,
        options: Options,
        (last_tries, shutdown, components): (CancellationToken, CancellationToken, Components),
    ) -> (Processing, mpsc::UnboundedReceiver<Done>) {
        let (finished, late) = mpsc::unbounded_channel();
        let (keeper, room) = (Keeper::new(store), Arc::new(Semaphore::new(MOST_LATE)));
        let caller = Arc::new(Caller { keeper, room, bus, processor, options, shutdown, last_tries });
        (Processing { caller, late: TaskTracker::new(), finished, components }, late)
    }

    /// Processes tasks for at most `prompt`; answers those that ended, and the running calls of the others.
    pub(super) async fn run(&self, tasks: Vec<Task>, prompt: Duration) -> (Vec<Done>, Vec<Call>) {
        let (mut done, mut calls) = (Vec::with_capacity(tasks.len()), FuturesUnordered::new());
        for task in tasks {
            // Most calls end at once, and are not added to the running ones.
            let mut call = Arc::clone(&self.caller).call(task);
            match futures_util::poll!(&mut call) {
                std::task::Poll::Ready(ended) => done.extend(ended),
                std::task::Poll::Pending => calls.push(call),
            }
        }
        if calls.is_empty() {
            return (done, Vec::new());
        }
        let ending = async {
            while let Some(ended) = calls.next().await {
                done.extend(ended);
            }
        };
        // The calls that have not ended by then are left in `calls`.
        drop(timeout(prompt, ending).await);
        (done, calls.into_iter().collect())
    }

    /// Lets calls continue in tasks of their own, and waits while there are too many of these; their orders arrive at
    /// the receiver one by one.
    pub(super) async fn leave(&self, calls: Vec<Call>) {
        for call in calls {
            let room = tokio::select! {
                room = Arc::clone(&self.caller.room).acquire_owned() => room,
                // Their events are redelivered.
                () = self.caller.shutdown.cancelled() => return,
            };
            let finished = self.finished.clone();
            let component = self.components.component("a task that processes an order");
            self.late.spawn(async move {
                let (_room, component) = (room, component);
                if let Some(done) = call.await {
                    // The receiver lives until all calls have ended.
                    drop(finished.send(done));
                }
                component.ends_in_order();
            });
        }
    }

    /// Waits until all calls have ended.
    pub(super) async fn ended(&self) {
        self.late.close();
        self.late.wait().await;
    }
}
