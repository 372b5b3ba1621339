//! The ACKs that this process waits for: who is told of them, and which partition of their topic its events name.
//! None is named before the place to read from is known, so no ACK of such an event can be missed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::ack_reader::{Hearing, Reader};
use super::client::{OpenError, Options};
use super::client_errors::ClientErrors;
use super::link::State;
use crate::bus::{AckSink, PublishError};
use crate::order::Ack;
use crate::shutdown::Parts;

/// How long a publish waits for the reader to find its place, after the sink was given.
const FIND: Duration = Duration::from_secs(5);

/// The reader of ACKs, which begins when there is a sink for them.
pub(super) struct Acks {
    options: Arc<Options>,
    link: watch::Receiver<State>,
    errors: ClientErrors,
    sink: OnceLock<Arc<dyn AckSink>>,
    hearing: watch::Sender<Hearing>,
    stop: Arc<AtomicBool>,
    parts: Parts,
}

impl Acks {
    pub(super) fn new(
        options: &Arc<Options>,
        link: watch::Receiver<State>,
        errors: ClientErrors,
        parts: &Parts,
    ) -> Acks {
        Acks {
            options: Arc::clone(options),
            link,
            errors,
            sink: OnceLock::new(),
            hearing: watch::Sender::new(Hearing::Off),
            stop: Arc::default(),
            parts: parts.clone(),
        }
    }

    /// Begins to read, for this sink. A second sink is ignored: there is one api in the process.
    pub(super) fn listen(&self, sink: Arc<dyn AckSink>) {
        if self.sink.set(Arc::clone(&sink)).is_err() {
            return;
        }
        self.hearing.send_replace(Hearing::Finding);
        if let Err(error) = self.start(sink) {
            tracing::error!(%error, "ACKs are not read");
            self.hearing.send_replace(Hearing::Deaf(error.to_string()));
        }
    }

    fn start(&self, sink: Arc<dyn AckSink>) -> Result<(), OpenError> {
        let link = (self.link.clone(), self.errors.clone());
        let reader = Reader::open(&self.options, link, sink, &self.hearing, &self.stop)?;
        let part = self.parts.part("the reader of ACKs");
        let spawned = thread::Builder::new().name("kafka-acks".to_owned()).spawn(move || {
            reader.run();
            part.ends_in_order();
        });
        spawned.map(drop).map_err(|error| OpenError(error.to_string()))
    }

    /// The partition whose ACKs are heard, if any; waits a moment where it is being found.
    pub(super) async fn partition(&self) -> Option<i32> {
        let mut hearing = self.hearing.subscribe();
        let found = timeout(FIND, hearing.wait_for(|hearing| *hearing != Hearing::Finding)).await;
        match found.ok()?.ok().as_deref() {
            Some(Hearing::At(partition)) => Some(*partition),
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
            Hearing::Off | Hearing::At(_) => Ok(()),
            Hearing::Finding => Err("the partition of the ACKs is being looked for".to_owned()),
            Hearing::Deaf(reason) => Err(reason.clone()),
        }
        .map_err(PublishError::Unavailable)
    }

    /// Ends the reader.
    pub(super) fn close(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Acks {
    fn drop(&mut self) {
        self.close();
    }
}
