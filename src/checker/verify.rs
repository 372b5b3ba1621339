//! Verify: walks a whole store and reports every order that is lost, doubled or wrong. It only reads, in pages, so it
//! is safe on a live system and its memory does not grow with the store.
//!
//! Orders may change while it walks. So an order that looks wrong is read again, and reported only where it is still
//! wrong; and orders that were deleted are read again at the end.

use std::collections::VecDeque;
use std::mem::discriminant;

use super::findings::{Fault, Finding, check, is_foreign};
use crate::order::{Order, OrderId, Status};
use crate::store::{Error, Store};

/// How many orders are read at a time.
const PAGE: usize = 1000;

/// How many deleted orders are read again: the last ones of the scan, which are the newest.
const DELETED_SAMPLE: usize = 10_000;

/// The demands of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether an order that waits for the worker is a finding.
    pub idle: bool,
    /// Whether the amounts must be those of [`AmountProcessor`](crate::worker::AmountProcessor).
    pub amounts: bool,
    /// How many findings the report lists; the others are only counted.
    pub listed: usize,
}

/// The confirmations that callers have: sixteen bytes each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confirmed {
    stored: Vec<OrderId>,
    deleted: Vec<OrderId>,
}

impl Confirmed {
    /// A caller has a confirmation that the order is stored.
    pub fn add_stored(&mut self, order_id: OrderId) {
        self.stored.push(order_id);
    }

    /// A caller has a confirmation that the order is deleted.
    pub fn add_deleted(&mut self, order_id: OrderId) {
        self.deleted.push(order_id);
    }

    /// Each id once; one that was deleted need not be looked up as stored, too.
    fn distinct(mut self) -> Confirmed {
        for ids in [&mut self.deleted, &mut self.stored] {
            ids.sort_unstable();
            ids.dedup();
        }
        let deleted = &self.deleted;
        self.stored.retain(|id| deleted.binary_search(id).is_err());
        self
    }
}

/// The outcome of a check.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// How many orders there are in each status, in the order of [`Status::ALL`].
    pub orders: [u64; Status::ALL.len()],
    /// How many of them wait for the worker.
    pub pending: u64,
    /// How many records the dead-letter topic has.
    pub dead_letters: u64,
    /// How many orders were looked up because a caller has a confirmation.
    pub confirmed: u64,
    /// How many orders another service left by rules of its own: orders that it still works on, for instance, or whose
    /// amount it computed in another way. They are not findings.
    pub foreign: u64,
    /// How many orders wait for workers that have not consumed the whole topic: their events may be there.
    pub not_judged: u64,
    /// How many findings there are.
    pub found: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many orders there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.orders.iter().sum()
    }

    /// Counts a finding, and lists it while the list has fewer than `listed`.
    pub(super) fn add(&mut self, order_id: OrderId, fault: Fault, listed: usize) {
        self.found += 1;
        if self.findings.len() < listed {
            self.findings.push(Finding { order_id, fault });
        }
    }
}

/// Checks every order of a store, and the confirmations that callers have. The number of dead letters is only passed
/// on: a record that cannot be processed is a sender's fault and not a finding.
///
/// # Errors
/// The store's own, where it cannot be read to its end.
pub async fn verify(
    store: &dyn Store,
    dead_letters: u64,
    confirmed: Confirmed,
    options: &Options,
) -> Result<Report, Error> {
    let report = Report { dead_letters, ..Report::default() };
    let mut checker = Checker { store, options, report, deleted: VecDeque::new() };
    checker.scan().await?;
    for order_id in store.outbox_orphans().await? {
        checker.report(order_id, Fault::OutboxOrphan);
    }
    checker.look_up(confirmed.distinct()).await?;
    checker.read_deleted_again().await?;
    Ok(checker.report)
}

struct Checker<'a> {
    store: &'a dyn Store,
    options: &'a Options,
    report: Report,
    /// Orders that were deleted when the scan read them.
    deleted: VecDeque<OrderId>,
}

impl Checker<'_> {
    async fn scan(&mut self) -> Result<(), Error> {
        let mut last = None;
        loop {
            let page = self.store.scan(last, PAGE).await?;
            let before = last;
            for row in page {
                let order_id = row.as_ref().map_or_else(|damaged| damaged.order_id, |order| order.id);
                if let Some(previous) = last.filter(|previous| order_id <= *previous) {
                    self.report(order_id, Fault::OutOfOrder(previous));
                }
                last = last.max(Some(order_id));
                match row {
                    Ok(order) => self.see(&order).await?,
                    Err(damaged) => self.report(order_id, Fault::Unreadable(damaged.what)),
                }
            }
            // Also ends on a store that returns the same page for ever.
            if last == before {
                return Ok(());
            }
        }
    }

    async fn see(&mut self, order: &Order) -> Result<(), Error> {
        self.report.orders[order.status as usize] += 1;
        self.report.pending += u64::from(order.is_pending());
        if order.status == Status::Deleted {
            if self.deleted.len() == DELETED_SAMPLE {
                self.deleted.pop_front();
            }
            self.deleted.push_back(order.id);
        }
        let mut suspected = self.check(order);
        let all = suspected.len();
        suspected.retain(|fault| !is_foreign(order, fault));
        self.report.foreign += u64::from(suspected.len() < all);
        if suspected.is_empty() {
            return Ok(());
        }
        let now = match self.store.get(order.id).await {
            Ok(Some(now)) => now,
            Ok(None) => {
                self.report(order.id, Fault::Unreachable);
                return Ok(());
            }
            Err(Error::Damaged(damaged)) => {
                self.report(order.id, Fault::Unreadable(damaged.what));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for fault in self.check(&now).into_iter().filter(|fault| !is_foreign(&now, fault)) {
            if suspected.iter().any(|seen| discriminant(seen) == discriminant(&fault)) {
                self.report(order.id, fault);
            }
        }
        Ok(())
    }

    /// Looks up the orders of confirmations. Rows are never removed, so an order that does not exist now never did.
    async fn look_up(&mut self, confirmed: Confirmed) -> Result<(), Error> {
        let Confirmed { stored, deleted } = confirmed;
        self.report.confirmed = (stored.len() + deleted.len()) as u64;
        for (ids, must_be_deleted) in [(stored, false), (deleted, true)] {
            for ids in ids.chunks(PAGE) {
                for (id, found) in ids.iter().zip(self.store.processed_versions(ids).await?) {
                    match found {
                        None => self.report(*id, Fault::Lost),
                        Some(found) if must_be_deleted && found.status != Status::Deleted => {
                            self.report(*id, Fault::NotDeleted(found.status));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        Ok(())
    }

    async fn read_deleted_again(&mut self) -> Result<(), Error> {
        let deleted: Vec<OrderId> = std::mem::take(&mut self.deleted).into();
        for ids in deleted.chunks(PAGE) {
            for (id, found) in ids.iter().zip(self.store.processed_versions(ids).await?) {
                match found.map(|found| found.status) {
                    Some(Status::Deleted) => {}
                    Some(status) => self.report(*id, Fault::CameBack(status)),
                    None => self.report(*id, Fault::Unreachable),
                }
            }
        }
        Ok(())
    }

    fn check(&self, order: &Order) -> Vec<Fault> {
        check(order, self.options.idle, self.options.amounts)
    }

    fn report(&mut self, order_id: OrderId, fault: Fault) {
        self.report.add(order_id, fault, self.options.listed);
    }
}
