//! The ACKs that this process waits for: who is told of them, and which partition of their topic its events name.
//! None is named before the place to read from is known, so no ACK of such an event can be missed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::ack_reader::{Listening, Reader};
use super::broker_monitor::State;
use super::client::{OpenError, Options};
use super::client_errors::ClientErrors;
use crate::bus::{AckSink, PublishError};
use crate::order::Ack;
use crate::shutdown::Components;

/// How long a publish waits for the reader to find its place, after the sink was given.
const FIND: Duration = Duration::from_secs(5);

/// The reader of ACKs, which begins when there is a sink for them.
pub(super) struct AckTopic {
    options: Arc<Options>,
    link: watch::Receiver<State>,
    errors: ClientErrors,
    sink: OnceLock<Arc<dyn AckSink>>,
    hearing: watch::Sender<Listening>,
    stop: Arc<AtomicBool>,
    components: Components,
}

impl AckTopic {
    pub(super) fn new(
        options: &Arc<Options>,
        link: watch::Receiver<State>,
        errors: ClientErrors,
        components: &Components,
    ) -> AckTopic {
        AckTopic {
            options: Arc::clone(options),
            link,
            errors,
            sink: OnceLock::new(),
            hearing: watch::Sender::new(Listening::Off),
            stop: Arc::default(),
            components: components.clone(),
        }
    }

    /// Begins to read, for this sink. A second sink is ignored: there is one api in the process.
    pub(super) fn listen(&self, sink: Arc<dyn AckSink>) {
        if self.sink.set(Arc::clone(&sink)).is_err() {
            return;
        }
        self.hearing.send_replace(Listening::Finding);
        if let Err(error) = self.start(sink) {
            tracing::error!(%error, "ACKs are not read");
            self.hearing.send_replace(Listening::Unavailable(error.to_string()));
        }
    }

    fn start(&self, sink: Arc<dyn AckSink>) -> Result<(), OpenError> {
        let link = (self.link.clone(), self.errors.clone());
        let reader = Reader::open(&self.options, link, sink, &self.hearing, &self.stop)?;
        let component = self.components.component("the reader of ACKs");
        let spawned = thread::Builder::new().name("kafka-acks".to_owned()).spawn(move || {
            reader.run();
            component.ends_in_order();
        });
        spawned.map(drop).map_err(|error| OpenError(error.to_string()))
    }

    /// The partition whose ACKs are heard, if any; waits a moment where it is being found.
    pub(super) async fn partition(&self) -> Option<i32> {
        let mut hearing = self.hearing.subscribe();
        let found = timeout(FIND, hearing.wait_for(|hearing| *hearing != Listening::Finding)).await;
        match found.ok()?.ok().as_deref() {
            Some(Listening::At(partition)) => Some(*partition),
            _ => None,
        }
    }

    /// Tells the sink of ACKs that are on their way to this very process.
    pub(super) fn tell(&self, acks: Vec<Ack>) {
        if let Some(sink) = self.sink.get()
            && !acks.is_empty()
        {
            sink.acked(acks);
        }
    }

    /// Whether ACKs are read, where there is a sink for them.
    pub(super) fn check(&self) -> Result<(), PublishError> {
        match &*self.hearing.borrow() {
            Listening::Off | Listening::At(_) => Ok(()),
            Listening::Finding => Err("the partition of the ACKs is being looked for".to_owned()),
            Listening::Unavailable(reason) => Err(reason.clone()),
        }
        .map_err(PublishError::Unavailable)
    }

    /// Ends the reader.
    pub(super) fn close(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for AckTopic {
    fn drop(&mut self) {
        self.close();
    }
}
