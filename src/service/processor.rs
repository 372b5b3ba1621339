//! What the worker does to an order: the port where a user's own business logic goes in, and the processor
//! that is there without any: it works out the amount.

use async_trait::async_trait;
use thiserror::Error;

use crate::order::{Amount, Event};

/// Processes orders. Called at least once per version of an order, possibly more often and possibly by several
/// workers at the same time, so it must be idempotent.
#[async_trait]
pub trait Processor: Send + Sync + 'static {
    /// Processes the order of a `new` or `processing` event and answers its amount.
    ///
    /// # Errors
    /// [`ProcessError`]; a panic counts as a permanent one.
    async fn process(&self, event: &Event) -> Result<Amount, ProcessError>;
}

/// Why an order was not processed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProcessError {
    /// It may work later: tried a few times more, then the order fails.
    #[error("{0}")]
    Transient(String),
    /// It will never work: the order fails, with this reason for everybody to read.
    #[error("{0}")]
    Permanent(String),
}

/// The default: the amount by [`Amount::of_payload`].
#[derive(Debug, Clone, Copy, Default)]
pub struct AmountProcessor;

#[async_trait]
impl Processor for AmountProcessor {
    async fn process(&self, event: &Event) -> Result<Amount, ProcessError> {
        Amount::of_payload(event.payload.as_str()).map_err(|error| ProcessError::Permanent(error.to_string()))
    }
}
