//! A worker's subscription: starts the consumer's thread, takes deliveries from the inbox, and stops the thread.
//! However it ends, the consumer leaves its group, so that the other workers need not wait for its session to end. A
//! close waits for that, at most 15 seconds; a drop does not wait, because it must not block. Where the thread ends by
//! itself, also by a panic, the inbox ends with it, so that the worker does not wait for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::broker_monitor::BrokerState;
use super::client::Options;
use super::client_errors::ClientErrors;
use super::consumer::ConsumerThread;
use super::inbox::Inbox;
use crate::bus::{Delivery, SubscribeError, Subscription};

/// How long the consumer may take to commit and to leave its group.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(15);

/// A worker's subscription. Dropping it stops the thread, and does not wait for its end.
pub(super) struct KafkaSubscription {
    inbox: Arc<Inbox>,
    stop: Arc<AtomicBool>,
    left: oneshot::Receiver<()>,
}

impl KafkaSubscription {
    /// Starts a consumer on a thread of its own, which waits for Kafka and for the topics.
    pub(super) fn start(
        options: &Options,
        topic: &Arc<str>,
        broker_state: watch::Receiver<BrokerState>,
        errors: ClientErrors,
    ) -> Result<KafkaSubscription, SubscribeError> {
        let (inbox, stop) = (Arc::new(Inbox::default()), Arc::new(AtomicBool::new(false)));
        let worker = ConsumerThread::open(
            options,
            topic,
            (broker_state, errors),
            Arc::clone(&inbox),
            Arc::clone(&stop),
        )
        .map_err(|error| SubscribeError::Unavailable(error.to_string()))?;
        let (leaving, left) = oneshot::channel();
        let end = EndSignal { inbox: Arc::clone(&inbox), _leaving: leaving };
        thread::Builder::new()
            .name("kafka-worker".to_owned())
            .spawn(move || {
                let _end = end;
                worker.run();
            })
            .map_err(|error| SubscribeError::Unavailable(error.to_string()))?;
        Ok(KafkaSubscription { inbox, stop, left })
    }
}

/// Signals the end of the thread when it is dropped, even by a panic.
struct EndSignal {
    inbox: Arc<Inbox>,
    _leaving: oneshot::Sender<()>,
}

impl Drop for EndSignal {
    fn drop(&mut self) {
        self.inbox.end();
    }
}

#[async_trait]
impl Subscription for KafkaSubscription {
    async fn next(&mut self, limit: usize) -> Option<Vec<Delivery>> {
        self.inbox.next(limit).await
    }

    async fn close(mut self: Box<Self>) {
        self.stop.store(true, Ordering::Relaxed);
        self.inbox.end();
        // The sender never sends: its drop ends this wait.
        if timeout(LEAVE_TIMEOUT, &mut self.left).await.is_err() {
            tracing::warn!(
                "the worker has not left its group in time; its partitions wait for the end of its session"
            );
        }
    }
}

impl Drop for KafkaSubscription {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.inbox.end();
    }
}
