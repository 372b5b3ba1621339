//! Stuck orders: a pending order must have its event in the outbox or on the bus. One without an event would wait for
//! ever. This only reads, and must not report an order whose event may still be on the bus. It relies on the order of
//! its steps: it reads which pending orders have no outbox entry, then waits until the workers have consumed all
//! records on the bus, and then reads the orders again. Orders are suspected some ten thousand at a time, so the memory
//! is bounded with a store of any size.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::findings::Fault;
use super::verify::Report;
use crate::bus::{Behind, Bus, Ends, PublishError};
use crate::store::{Error, MissingEntry, Store};

/// How long an order must have been pending: the bus may still be confirming the events of newer ones.
const AGE: Duration = Duration::from_secs(5);

/// How many orders one statement reads.
const ROWS: usize = 5000;

/// The most orders that are suspected at a time.
const MOST: usize = 10_000;

/// How long the workers may take to consume all records that are on the bus.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often their progress is checked.
const PERIOD: Duration = Duration::from_millis(500);

/// Adds a finding for every order that waits for the worker and whose event is missing. Safe on a live system: such an
/// order is suspected, and reported only where it still waits after the workers have consumed all records that were on
/// the bus. Where they do not get there within half a minute, the missing event could be there: nothing is found, and
/// the report counts these orders as not judged.
///
/// # Errors
/// The store's own, where it cannot be read. A bus that does not know the workers' progress is not an error.
pub async fn find_stuck(
    store: &dyn Store,
    bus: &dyn Bus,
    report: &mut Report,
    listed: usize,
) -> Result<(), Error> {
    let (before, mut after) = (store.now().await? - AGE, None);
    loop {
        let mut suspected: Vec<MissingEntry> = Vec::new();
        while suspected.len() < MOST {
            let page = store.missing_outbox_entries(before, after, ROWS).await?;
            suspected.extend(page.entries);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if suspected.is_empty() {
            return Ok(());
        }
        // In this order: an event that left the outbox before was on the bus, and has been consumed since.
        match wait_for_workers(bus, TIMEOUT).await {
            Ok(Some(behind)) if behind.is_empty() => {}
            // Not by partition: where some were added, an event may be in another one than its order's id leads to now.
            Ok(Some(_)) | Err(_) => {
                report.not_judged = suspected.len() as u64;
                return Ok(());
            }
            Ok(None) => return Ok(()),
        }
        for suspects in suspected.chunks(ROWS) {
            let ids: Vec<_> = suspects.iter().map(|entry| entry.order_id).collect();
            let states = store.processed_versions(&ids).await?;
            for (entry, state) in suspects.iter().zip(states) {
                let version = entry.version;
                if let Some(processed) =
                    state.map(|state| state.version).filter(|processed| *processed < version)
                {
                    report.add(entry.order_id, Fault::Stuck { processed, version }, listed);
                }
            }
        }
        if after.is_none() {
            return Ok(());
        }
    }
}

/// Waits, within `limit`, until the workers have consumed all records that are on the bus now. Answers where they have
/// not; `None` for a bus without a log of records.
///
/// # Errors
/// The bus's last, where it did not answer in all that time.
pub(super) async fn wait_for_workers(bus: &dyn Bus, limit: Duration) -> Result<Option<Behind>, PublishError> {
    let (until, mut ends) = (Instant::now() + limit, None);
    loop {
        let behind = behind(bus, &mut ends).await;
        if matches!(&behind, Ok(None)) || Instant::now() >= until {
            return behind;
        }
        if let Ok(Some(behind)) = behind
            && behind.is_empty()
        {
            return Ok(Some(behind));
        }
        sleep(PERIOD).await;
    }
}

/// Where the workers are behind the first ends that the bus has answered.
async fn behind(bus: &dyn Bus, ends: &mut Option<Ends>) -> Result<Option<Behind>, PublishError> {
    if ends.is_none() {
        *ends = bus.ends().await?;
    }
    match ends {
        Some(ends) => Ok(Some(bus.behind(ends).await?.and(ends.unknown()))),
        None => Ok(None),
    }
}
