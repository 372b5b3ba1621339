//! Processors that behave as a test needs: one that waits at a gate, one whose outcome the payload chooses, one that
//! hangs once, and one that fails a number of times. In all other cases they compute the amount as the real one does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use orderstream::order::{Amount, Event, pick};
use orderstream::worker::{AmountProcessor, ProcessError, Processor};
use serde_json::value::RawValue;
use tokio::sync::watch;

/// Blocks every order until it is opened.
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    /// A gate that is shut.
    pub(crate) fn shut() -> Arc<Gate> {
        Arc::new(Gate(watch::Sender::new(false)))
    }

    /// Lets all orders pass from now on.
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }
}

#[async_trait]
impl Processor for Gate {
    async fn process(&self, event: &Event) -> Result<Amount, ProcessError> {
        self.0.subscribe().wait_for(|open| *open).await.expect("a gate that is not dropped");
        AmountProcessor::default().process(event).await
    }
}

/// The payload chooses the outcome: `{"fail":"why"}` fails for good with that reason, `{"panic":"why"}` panics.
pub(crate) struct ScriptedProcessor;

#[async_trait]
impl Processor for ScriptedProcessor {
    async fn process(&self, event: &Event) -> Result<Amount, ProcessError> {
        let members =
            pick(event.payload.as_str(), ["fail", "panic"]).expect("a payload that was parsed before");
        let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).expect("a reason");
        match members {
            [Some(reason), _] => Err(ProcessError::Permanent(text(reason))),
            [_, Some(reason)] => panic!("{}", text(reason)),
            [None, None] => AmountProcessor::default().process(event).await,
        }
    }
}

/// Hangs at its first call, and computes the amount at later ones.
#[derive(Default)]
pub(crate) struct HangsOnce {
    calls: AtomicUsize,
}

impl HangsOnce {
    /// How often it was called.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Processor for HangsOnce {
    async fn process(&self, event: &Event) -> Result<Amount, ProcessError> {
        if self.calls.fetch_add(1, Ordering::SeqCst) == 0 {
            std::future::pending::<()>().await;
        }
        AmountProcessor::default().process(event).await
    }
}

/// Hangs for orders whose payload has `"hang"`; fails the given number of times, for a temporary reason where the
/// payload has `"passing"` and for good where it has `"once"`; and computes the amount of all others.
pub(crate) struct FlakyProcessor {
    left: AtomicUsize,
}

impl FlakyProcessor {
    pub(crate) fn failing(times: usize) -> Arc<FlakyProcessor> {
        Arc::new(FlakyProcessor { left: AtomicUsize::new(times) })
    }

    /// Does not fail any more.
    pub(crate) fn recover(&self) {
        self.left.store(0, Ordering::SeqCst);
    }
}

#[async_trait]
impl Processor for FlakyProcessor {
    async fn process(&self, event: &Event) -> Result<Amount, ProcessError> {
        let [hang, passing, once] =
            pick(event.payload.as_str(), ["hang", "passing", "once"]).expect("a payload");
        if hang.is_some() {
            std::future::pending::<()>().await;
        }
        let fails =
            || self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if passing.is_some() && fails() {
            return Err(ProcessError::Transient("it is away".to_owned()));
        }
        if once.is_some() && fails() {
            return Err(ProcessError::Permanent("not the first time".to_owned()));
        }
        AmountProcessor::default().process(event).await
    }
}
