//! The ACKs that this process waits for: their sink, and the partition of the ACK topic that its events name. An event
//! names a partition only when the offset to read from is known, so the ACK of such an event cannot be missed. The sink
//! must return at once, because the listener's thread calls it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::ack_listener::{AckListener, Listening};
use super::broker_monitor::BrokerState;
use super::client::{OpenError, Options};
use super::client_errors::ClientErrors;
use crate::bus::{AckSink, PublishError};
use crate::order::Ack;
use crate::shutdown::Components;

/// How long a publish waits until the ACK listener has found its partition.
const FIND_TIMEOUT: Duration = Duration::from_secs(5);

/// The topic of the ACKs, and its listener, which starts when there is a sink.
pub(super) struct AckTopic {
    options: Arc<Options>,
    broker_state: watch::Receiver<BrokerState>,
    errors: ClientErrors,
    sink: OnceLock<Arc<dyn AckSink>>,
    listening: watch::Sender<Listening>,
    stop: Arc<AtomicBool>,
    components: Components,
}

impl AckTopic {
    pub(super) fn new(
        options: &Arc<Options>,
        broker_state: watch::Receiver<BrokerState>,
        errors: ClientErrors,
        components: &Components,
    ) -> AckTopic {
        AckTopic {
            options: Arc::clone(options),
            broker_state,
            errors,
            sink: OnceLock::new(),
            listening: watch::Sender::new(Listening::Off),
            stop: Arc::default(),
            components: components.clone(),
        }
    }

    /// Starts the listener with this sink. A second sink is ignored: a process has one api.
    pub(super) fn listen(&self, sink: Arc<dyn AckSink>) {
        if self.sink.set(Arc::clone(&sink)).is_err() {
            return;
        }
        self.listening.send_replace(Listening::Finding);
        if let Err(error) = self.start(sink) {
            tracing::error!(%error, "the ACK listener cannot start; callers are answered from the store, later");
            self.listening.send_replace(Listening::Unavailable(error.to_string()));
        }
    }

    fn start(&self, sink: Arc<dyn AckSink>) -> Result<(), OpenError> {
        let state = (self.broker_state.clone(), self.errors.clone());
        let listener = AckListener::open(&self.options, state, sink, &self.listening, &self.stop)?;
        let component = self.components.component("the ACK listener");
        let spawned = thread::Builder::new().name("kafka-acks".to_owned()).spawn(move || {
            listener.run();
            component.ends_in_order();
        });
        spawned.map(drop).map_err(|error| OpenError(error.to_string()))
    }

    /// The partition that the listener reads, if any; waits for a limited time while the listener looks for one.
    pub(super) async fn partition(&self) -> Option<i32> {
        let mut listening = self.listening.subscribe();
        let found =
            timeout(FIND_TIMEOUT, listening.wait_for(|listening| *listening != Listening::Finding)).await;
        match found.ok()?.ok().as_deref() {
            Some(Listening::At(partition)) => Some(*partition),
            _ => None,
        }
    }

    /// Hands the sink ACKs that are addressed to this very process, without the way over the broker.
    pub(super) fn deliver_locally(&self, acks: Vec<Ack>) {
        if let Some(sink) = self.sink.get()
            && !acks.is_empty()
        {
            sink.acked(acks);
        }
    }

    /// Whether the listener works, where there is a sink.
    pub(super) fn check(&self) -> Result<(), PublishError> {
        match &*self.listening.borrow() {
            Listening::Off | Listening::At(_) => Ok(()),
            Listening::Finding => Err("the ACK listener has not found its partition yet".to_owned()),
            Listening::Unavailable(reason) => Err(reason.clone()),
        }
        .map_err(PublishError::Unavailable)
    }

    /// Ends the listener.
    pub(super) fn close(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for AckTopic {
    fn drop(&mut self) {
        self.close();
    }
}
