//! Redrive: publishes lost events of pending orders again, on an operator's command. The relay of an api process does
//! the same by itself (`republish`); this does it at once, with filters and a report. It must never redrive an order
//! whose event may still be on the bus.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::stuck::wait_for_workers;
use crate::bus::{Bus, PublishError};
use crate::order::{OrderId, Status, UserId};
use crate::store::{Error, MissingEntry, Store};

/// How many rows of the store one statement reads.
const ROWS: usize = 5000;

/// How many times a second orders get outbox entries.
const TICKS: u32 = 10;

/// What to redrive, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which orders.
    pub filter: Filter,
    /// The time for which an order must not have changed.
    pub older_than: Duration,
    /// The most orders.
    pub limit: usize,
    /// How many orders per second.
    pub rate: u32,
    /// How long to wait until the workers have consumed all records on the bus; `None`: do not wait.
    pub wait: Option<Duration>,
    /// Whether to find the orders only.
    pub dry_run: bool,
}

/// Which orders; an empty filter takes all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// These orders; empty: all.
    pub orders: Vec<OrderId>,
    /// Only orders of this user.
    pub user_id: Option<UserId>,
    /// Only orders with this status.
    pub status: Option<Status>,
}

impl Filter {
    fn takes(&self, entry: &MissingEntry) -> bool {
        (self.orders.is_empty() || self.orders.contains(&entry.order_id))
            && self.user_id.is_none_or(|user_id| user_id == entry.user_id)
            && self.status.is_none_or(|status| status == entry.status)
    }
}

/// The progress of a redrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It searches for orders.
    Searching {
        /// How many rows it has read, to the nearest page.
        scanned: usize,
        /// How many orders it has found.
        found: usize,
    },
    /// It waits for the workers.
    Waiting,
    /// It adds outbox entries for the orders, so that the sweep publishes them.
    Redriving {
        /// How many orders have been tried.
        done: usize,
        /// How many orders there are.
        of: usize,
    },
}

/// What a redrive found and did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// The orders, without those whose events may be in the workers' backlog.
    pub entries: Vec<MissingEntry>,
    /// How many of them got an outbox entry; the others were processed meanwhile, or have one already.
    pub redriven: usize,
    /// How many other pending orders there are, whose events may be in the workers' backlog.
    pub in_backlog: usize,
    /// Why the bus could not answer that; no order was redriven then.
    pub bus_error: Option<PublishError>,
}

/// Finds pending orders without an outbox entry, waits until the workers have consumed all records on the bus, and adds
/// outbox entries for the orders that are still pending. Where the workers do not get there in time, in some partitions
/// or in all, the orders there are not redriven. Safe beside running processes.
///
/// # Errors The store's own; outbox entries that were added before stay.
pub async fn redrive(
    store: &dyn Store,
    bus: &dyn Bus,
    options: &Options,
    report: &mut (dyn FnMut(Progress) + Send),
) -> Result<Found, Error> {
    let mut found = Found { entries: find(store, options, report).await?, ..Found::default() };
    if found.entries.is_empty() {
        return Ok(found);
    }
    if let Some(wait) = options.wait
        && !bus.confirms_processing()
    {
        report(Progress::Waiting);
        let pending = found.entries.len();
        match wait_for_workers(bus, wait).await {
            Ok(Some(behind)) => found.entries.retain(|entry| !behind.may_hold(entry.order_id)),
            Ok(None) => found.entries.clear(),
            Err(error) => {
                found.entries.clear();
                found.bus_error = Some(error);
            }
        }
        found.in_backlog = pending - found.entries.len();
    }
    if options.dry_run {
        return Ok(found);
    }
    let keys: Vec<_> = found.entries.iter().map(|entry| (entry.order_id, entry.version)).collect();
    let mut done = 0;
    for chunk in keys.chunks(options.rate.div_ceil(TICKS) as usize) {
        let due =
            Instant::now() + Duration::from_secs(1).mul_f64(chunk.len() as f64 / f64::from(options.rate));
        found.redriven += store.add_outbox_entries(chunk).await?;
        done += chunk.len();
        report(Progress::Redriving { done, of: keys.len() });
        sleep(due.saturating_duration_since(Instant::now())).await;
    }
    Ok(found)
}

async fn find(
    store: &dyn Store,
    options: &Options,
    report: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<MissingEntry>, Error> {
    let now = store.now().await?;
    let before = now.checked_sub(options.older_than).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let (mut entries, mut after, mut scanned) = (Vec::new(), None, 0);
    loop {
        let page = store.missing_outbox_entries(before, after, ROWS).await?;
        entries.extend(page.entries.into_iter().filter(|entry| options.filter.takes(entry)));
        entries.truncate(options.limit);
        scanned += ROWS;
        report(Progress::Searching { scanned, found: entries.len() });
        after = page.next;
        if after.is_none() || entries.len() == options.limit {
            return Ok(entries);
        }
    }
}
