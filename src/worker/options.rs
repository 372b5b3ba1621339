//! The options of processor calls, and the reasons why a worker ends. The settings have checked the options; nothing
//! here checks them again. A [`WorkError`] stops the whole process in order, so it must never be about a single order:
//! an order that fails is marked failed, and a bad record goes to the dead letters.

use std::time::Duration;

use crate::bus::SubscribeError;

/// How the processor is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long one call may take; a longer one counts as a transient failure.
    pub timeout: Duration,
    /// For how long after its change an order is retried that fails for a transient reason; then it is marked failed.
    pub retry_for: Duration,
}

/// Why a worker ended without a request to stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The bus cannot serve it.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The bus has stopped delivering.
    #[error("the consumer of the events ended by itself")]
    Consumer,
    /// One of its tasks panicked.
    #[error("{0} ended by itself")]
    Component(&'static str),
}
