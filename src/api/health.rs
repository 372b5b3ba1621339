//! The health of a process, for both protocols. Live: the process answers. Ready: it takes orders, which load balancers
//! check about every second. The log gets one line when the store or the bus becomes unavailable and one when it is
//! available again, and none between.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::service::{Checks, Readiness};
use crate::telemetry::LogOnce;

/// The health of a process. Cheap to clone.
#[derive(Clone)]
pub(super) struct ProcessHealth(Arc<Inner>);

struct Inner {
    checks: Arc<Checks>,
    store: LogOnce,
    bus: LogOnce,
    /// Cancelled when the process begins to stop.
    draining: CancellationToken,
}

impl ProcessHealth {
    /// The health of a process with these checks. The process stops once `draining` is cancelled.
    pub(super) fn new(checks: Arc<Checks>, draining: CancellationToken) -> ProcessHealth {
        let (store, bus) = (LogOnce::default(), LogOnce::default());
        ProcessHealth(Arc::new(Inner { checks, store, bus, draining }))
    }

    /// Whether the process is stopping.
    pub(super) fn is_draining(&self) -> bool {
        self.0.draining.is_cancelled()
    }

    /// Checks the backends, and logs a change. The cache logs its own changes.
    pub(super) async fn check(&self) -> Readiness {
        let readiness = self.0.checks.readiness().await;
        if let Some(reason) = failure_to_log(&self.0.store, "store", &readiness.store) {
            tracing::warn!(part = "store", reason, "not ready; requests fail until the store is available");
        }
        if let Some(reason) = failure_to_log(&self.0.bus, "bus", &readiness.bus) {
            tracing::warn!(
                part = "bus",
                reason,
                "degraded; events wait in the store until the bus is available"
            );
        }
        readiness
    }

    /// Whether orders are taken: the store is available, and the process is not stopping.
    pub(super) async fn takes_orders(&self) -> bool {
        let readiness = self.check().await;
        !self.is_draining() && readiness.store.is_ok()
    }
}

/// The reason of a failure that has no line in the log yet. Logs that the backend is available again.
fn failure_to_log<'a>(log: &LogOnce, part: &str, state: &'a Result<(), String>) -> Option<&'a str> {
    match state {
        Err(reason) => log.failed().then_some(reason),
        Ok(()) => {
            if log.worked() {
                tracing::info!(part, "available again");
            }
            None
        }
    }
}
