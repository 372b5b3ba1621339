//! The status of an order, and the legal transitions. The table [`Status::LEGAL`] is their only definition: the stores
//! build the conditions of their statements from it. It lists the statuses in the order of their declaration, because a
//! status is used as its index; a test checks that. Nothing follows `Deleted`, so that no event, retry or race revives
//! a deleted order. The names are on the wires and in the tables, and must never change.

use std::fmt;

use thiserror::Error;

/// The status of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Created, and not yet processed.
    New,
    /// Updated, and not yet processed again.
    Processing,
    /// Processed.
    Done,
    /// Could not be processed; the order has the reason.
    Failed,
    /// Cancelled by an event of another service. The worker does not change it.
    Cancelled,
    /// Deleted, for ever: an event, a retry or a race must not change this.
    Deleted,
}

use Status::{Cancelled, Deleted, Done, Failed, New, Processing};

/// A transition that is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an order that is {from} cannot become {to}")]
pub struct IllegalTransition {
    /// The order's status.
    pub from: Status,
    /// The wanted status.
    pub to: Status,
}

impl Status {
    /// Every status, in the order of an order's life.
    pub const ALL: [Status; 6] = [New, Processing, Done, Failed, Cancelled, Deleted];

    /// The legal transitions: from each status, the ones that may follow it.
    pub const LEGAL: [(Status, &[Status]); 6] = [
        (New, &[Processing, Done, Failed, Cancelled, Deleted]),
        (Processing, &[Processing, Done, Failed, Cancelled, Deleted]),
        (Done, &[Processing, Cancelled, Deleted]),
        (Failed, &[Processing, Cancelled, Deleted]),
        (Cancelled, &[Processing, Deleted]),
        (Deleted, &[]),
    ];

    /// Makes a transition.
    ///
    /// # Errors
    /// [`IllegalTransition`] where it is not in the table.
    pub fn next(self, to: Status) -> Result<Status, IllegalTransition> {
        if self.followers().contains(&to) { Ok(to) } else { Err(IllegalTransition { from: self, to }) }
    }

    /// The statuses from which an order may become this one.
    pub fn sources(self) -> impl Iterator<Item = Status> {
        Status::ALL.into_iter().filter(move |from| from.followers().contains(&self))
    }

    fn followers(self) -> &'static [Status] {
        // The table lists the statuses in the order of their declaration; a test checks that.
        Status::LEGAL[self as usize].1
    }

    /// The name on the wires and in the stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            New => "new",
            Processing => "processing",
            Done => "done",
            Failed => "failed",
            Cancelled => "cancelled",
            Deleted => "deleted",
        }
    }

    /// Reads a name that [`Status::as_str`] wrote; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_status_in_order() {
        for (at, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(Status::LEGAL[at].0, status);
            assert_eq!(status as usize, at);
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        assert_eq!(Status::parse("shipped"), None);
    }

    #[test]
    fn nothing_leads_out_of_deleted_and_everything_else_leads_into_it() {
        for status in Status::ALL {
            assert!(Status::Deleted.next(status).is_err());
            assert_eq!(status.next(Deleted).is_ok(), status != Deleted);
        }
    }

    #[test]
    fn a_cancelled_order_is_not_finished_by_a_late_worker() {
        assert_eq!(Cancelled.next(Done), Err(IllegalTransition { from: Cancelled, to: Done }));
        assert_eq!(Done.sources().collect::<Vec<_>>(), [New, Processing]);
    }
}
