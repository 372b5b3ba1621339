//! What the worker does to an order: the port for a user's own business logic, and the default processor, which
//! computes the amount. A processor must be idempotent, because an event may be redelivered. A panic of it fails its
//! order for good, and no other. A processor shares its threads with requests and health checks, so it must not block:
//! the default one sums payloads of more than 32 KiB on blocking threads, two at a time.

use std::panic::resume_unwind;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

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
    /// It may work later: the worker retries with growing pauses, for as long as the settings allow; then the order
    /// fails.
    #[error("{0}")]
    Transient(String),
    /// It will never work: the order fails with the first 1,000 characters of this reason.
    #[error("{0}")]
    Permanent(String),
}

/// Payloads of more bytes than this are summed on another thread: they take more than half a millisecond, and requests
/// and health checks share the worker's.
const LONG: usize = 32 * 1024;

/// How many such payloads are summed at a time.
const THREADS: usize = 2;

/// The default: the amount by [`Amount::of_payload`].
#[derive(Debug, Clone)]
pub struct AmountProcessor {
    threads: Arc<Semaphore>,
}

impl Default for AmountProcessor {
    fn default() -> AmountProcessor {
        AmountProcessor { threads: Arc::new(Semaphore::new(THREADS)) }
    }
}

#[async_trait]
impl Processor for AmountProcessor {
    async fn process(&self, event: &Event) -> Result<Amount, ProcessError> {
        let amount = match event.payload.as_str().len() {
            0..=LONG => Amount::of_payload(event.payload.as_str()),
            _ => {
                let stopped = |error: String| ProcessError::Transient(error);
                let _permit = self.threads.acquire().await.map_err(|error| stopped(error.to_string()))?;
                let payload = event.payload.clone();
                match spawn_blocking(move || Amount::of_payload(payload.as_str())).await {
                    Ok(amount) => amount,
                    // A panic there counts like a panic here.
                    Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                    Err(error) => return Err(stopped(error.to_string())),
                }
            }
        };
        amount.map_err(|error| ProcessError::Permanent(error.to_string()))
    }
}
