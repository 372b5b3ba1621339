//! The checker's look at what stands between the store and the worker: a pending order must have its event in the
//! outbox or on the bus. One that has it nowhere would wait for ever.

use super::findings::Fault;
use super::verify::Report;
use crate::bus::Bus;
use crate::store::{Error, Store};

/// Adds a finding for every order that waits for the worker and of which nobody will tell it. Safe on a live system:
/// while the bus carries anything that is not settled, it could be the missing event, and nothing is found.
///
/// # Errors
/// The store's own, where it cannot be read. A bus that cannot say how far the workers are is no error.
pub async fn find_stuck(
    store: &dyn Store,
    bus: &dyn Bus,
    report: &mut Report,
    listed: usize,
) -> Result<(), Error> {
    let suspected = store.unannounced().await?;
    // In this order: an event that left the outbox before was on the bus, and has been settled since.
    if suspected.is_empty() || !matches!(bus.backlog().await, Ok(Some(0))) {
        return Ok(());
    }
    let ids: Vec<_> = suspected.iter().map(|(order_id, _)| *order_id).collect();
    let states = store.processed_versions(&ids).await?;
    for ((order_id, version), state) in suspected.into_iter().zip(states) {
        if let Some(processed) = state.map(|state| state.version).filter(|processed| *processed < version) {
            report.add(order_id, Fault::Stuck { processed, version }, listed);
        }
    }
    Ok(())
}
