//! The health of a process, for both protocols. Live: the process answers. Ready: it takes orders, which a load
//! balancer asks about every second. The log gets a line when a part goes away and one when it is back, and none in
//! between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

use crate::service::{Checks, Readiness};

/// The health of a process. Cheap to clone.
#[derive(Clone)]
pub(super) struct ProcessHealth(Arc<Inner>);

struct Inner {
    checks: Arc<Checks>,
    store: LogOnce,
    bus: LogOnce,
    /// Cancelled when the process has been told to stop.
    draining: CancellationToken,
}

impl ProcessHealth {
    /// The health of a process of these parts, that stops from `draining` on.
    pub(super) fn new(checks: Arc<Checks>, draining: CancellationToken) -> ProcessHealth {
        let (store, bus) = (LogOnce::default(), LogOnce::default());
        ProcessHealth(Arc::new(Inner { checks, store, bus, draining }))
    }

    /// Whether the process has been told to stop.
    pub(super) fn is_draining(&self) -> bool {
        self.0.draining.is_cancelled()
    }

    /// Checks the parts, and logs a change of one. The cache logs its own changes.
    pub(super) async fn check(&self) -> Readiness {
        let parts = self.0.checks.readiness().await;
        self.0.store.log_change("store", &parts.store);
        self.0.bus.log_change("bus", &parts.bus);
        parts
    }

    /// Whether orders are taken: the store is there, and the process is not about to stop.
    pub(super) async fn takes_orders(&self) -> bool {
        let parts = self.check().await;
        !self.is_draining() && parts.store.is_ok()
    }
}

/// Whether the last line of the log about a part said that it does not work.
#[derive(Default)]
struct LogOnce(AtomicBool);

impl LogOnce {
    /// Logs a change of the state.
    fn log_change(&self, part: &str, state: &Result<(), String>) {
        let was_down = self.0.swap(state.is_err(), Ordering::Relaxed);
        match state {
            Err(reason) if !was_down => tracing::warn!(part, reason, "not ready"),
            Ok(()) if was_down => tracing::info!(part, "ready again"),
            _ => {}
        }
    }
}
