//! What the handlers of both protocols share: the service, the limits, and the health of the process. It is made once,
//! and nothing in it changes while the process serves.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::health::ProcessHealth;
use super::options::Options;
use crate::service::Service;

/// What the handlers share.
pub(super) struct ApiState {
    /// What carries out commands and reads orders.
    pub(super) service: Arc<Service>,
    /// The limits of the fronts.
    pub(super) options: Options,
    /// Cancelled when the process has been told to stop.
    pub(super) draining: CancellationToken,
    /// The health of the process.
    pub(super) health: ProcessHealth,
}

impl ApiState {
    /// The state of fronts over that service.
    pub(super) fn new(service: Arc<Service>, options: Options, draining: CancellationToken) -> ApiState {
        let health = ProcessHealth::new(service.checks(), draining.clone());
        ApiState { service, options, draining, health }
    }
}
