//! The state that the handlers of both protocols share: the service, the limits, and the health of the process. It is
//! made once, and does not change while the process serves, so it needs no lock. `draining` is cancelled when the
//! process begins to stop: streams of events end then, while other requests are served until the ports have closed.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::health::ProcessHealth;
use super::options::Options;
use crate::service::Service;

/// The state that the handlers share.
pub(super) struct ApiState {
    /// Carries out commands and reads orders.
    pub(super) service: Arc<Service>,
    /// The limits.
    pub(super) options: Options,
    /// Cancelled when the process begins to stop.
    pub(super) draining: CancellationToken,
    /// The health of the process.
    pub(super) health: ProcessHealth,
}

impl ApiState {
    /// The state for that service.
    pub(super) fn new(service: Arc<Service>, options: Options, draining: CancellationToken) -> ApiState {
        let health = ProcessHealth::new(service.checks(), draining.clone());
        ApiState { service, options, draining, health }
    }
}
