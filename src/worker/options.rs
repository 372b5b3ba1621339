//! How a worker calls its processor, and why a worker ends.

use std::time::Duration;

use crate::bus::SubscribeError;

/// How the processor is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long one call may take; a longer one counts as a failure that may pass.
    pub timeout: Duration,
    /// For how long after its change an order is tried again that fails for a passing reason; then it fails.
    pub retry_for: Duration,
}

/// Why a worker ended without being told to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The bus cannot serve it.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The bus delivers no more.
    #[error("the consumer of the events ended by itself")]
    Consumer,
    /// A task of it panicked.
    #[error("{0} ended by itself")]
    Component(&'static str),
}
