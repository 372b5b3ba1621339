//! What all requests in flight may hold in memory, whichever protocol they came by. Whoever finds no room is turned
//! away before memory grows.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use crate::error::Error;
use crate::service::RETRY_AFTER;

/// The budget is counted in units of this many bytes.
const UNIT: usize = 1 << 10;

/// The room that is left. Clones share it.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    /// Room for that many bytes.
    pub(super) fn new(bytes: usize) -> Budget {
        Budget(Arc::new(Semaphore::new(bytes / UNIT)))
    }

    /// Takes room for that many bytes, until the permit is dropped.
    ///
    /// # Errors
    /// `overloaded` where there is not enough.
    pub(super) fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.0).try_acquire_many_owned(units);
        permit.map_err(|_| Error::Overloaded { retry_after: RETRY_AFTER }.into())
    }
}
