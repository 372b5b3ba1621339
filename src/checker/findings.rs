//! The faults that a stored order can have, and the check of one row for them. Pure: no IO, no clock; `verify` walks
//! the store and calls `check`.
//!
//! A row without a fault was written by the rules. Whether its order makes progress is another question: see `stuck`.

use std::fmt;

use thiserror::Error;

use crate::order::{Amount, AmountError, Order, OrderId, Payload, Status, Version};

/// A fault, and the order that has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The order.
    pub order_id: OrderId,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "order {}: {}", self.order_id, self.fault)
    }
}

/// What is wrong with an order.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Fault {
    /// The processed version is above the newest accepted one.
    #[error("version {processed} was processed, but only {version} was accepted")]
    ProcessedTooFar {
        /// The processed version.
        processed: Version,
        /// The newest accepted one.
        version: Version,
    },
    /// The order waits for the worker in a system that should be idle.
    #[error("version {version} still waits for the worker, which has processed version {processed}")]
    Pending {
        /// The processed version.
        processed: Version,
        /// The newest accepted one.
        version: Version,
    },
    /// The newest version was processed, and the status is still one of a pending order.
    #[error("all of it was processed, but the status is still {0}")]
    Unfinished(Status),
    /// It was deleted, which is for ever, and has another status now.
    #[error("it was deleted, but its status is now {0}")]
    CameBack(Status),
    /// It is deleted, and its time of deletion is missing.
    #[error("it is deleted, but has no time of deletion")]
    DeletionUndated,
    /// It failed, and its reason is missing.
    #[error("it failed, but has no reason")]
    FailedWithoutReason,
    /// The amount is not the one that the rule computes from the payload.
    #[error("the amount is {stored}, but its payload makes {expected}")]
    WrongAmount {
        /// The order's amount.
        stored: Amount,
        /// The payload's.
        expected: Amount,
    },
    /// It was processed although its payload does not have an amount.
    #[error("it is done, but its payload has no amount: {0}")]
    NoAmount(AmountError),
    /// A column of its row has a value that this service cannot have written.
    #[error("its row cannot be read: {0}")]
    Unreadable(String),
    /// The payload is one that this service cannot have accepted.
    #[error("the payload is damaged: {0}")]
    BadPayload(String),
    /// It is kept under another external id than its payload's.
    #[error("it is kept under the external id {stored:?}, but its payload says {expected:?}")]
    WrongExternalId {
        /// The stored external id.
        stored: String,
        /// The payload's.
        expected: String,
    },
    /// Its last change is before its creation.
    #[error("it was last changed before it was created")]
    ChangedBeforeCreated,
    /// The scan returned it in the wrong order, or twice.
    #[error("the scan returns it after {0}, though ids must ascend")]
    OutOfOrder(OrderId),
    /// The scan returned it, and a look-up by its id does not find it.
    #[error("the scan returns it, but it cannot be found by its id")]
    Unreachable,
    /// It waits for the worker, and its event is neither in the outbox nor on the bus.
    #[error(
        "version {version} waits for the worker, which has processed version {processed}, and its event is neither in the \
         outbox nor on the bus"
    )]
    Stuck {
        /// The processed version.
        processed: Version,
        /// The newest accepted one.
        version: Version,
    },
    /// The outbox has an entry for it, and it does not exist.
    #[error("the outbox names it, but there is no such order")]
    OutboxOrphan,
    /// A caller has a confirmation that it is stored, and it is not.
    #[error("it was confirmed as stored, but there is no such order")]
    Lost,
    /// A caller has a confirmation that it is deleted, and it is not.
    #[error("it was confirmed as deleted, but it is {0}")]
    NotDeleted(Status),
}

impl Fault {
    /// A stable name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Fault::ProcessedTooFar { .. } => "processed_too_far",
            Fault::Pending { .. } => "pending",
            Fault::Unfinished(_) => "unfinished",
            Fault::CameBack(_) => "came_back",
            Fault::DeletionUndated => "deletion_undated",
            Fault::FailedWithoutReason => "failed_without_reason",
            Fault::WrongAmount { .. } => "wrong_amount",
            Fault::NoAmount(_) => "no_amount",
            Fault::Unreadable(_) => "unreadable",
            Fault::BadPayload(_) => "bad_payload",
            Fault::WrongExternalId { .. } => "wrong_external_id",
            Fault::ChangedBeforeCreated => "changed_before_created",
            Fault::OutOfOrder(_) => "out_of_order",
            Fault::Unreachable => "unreachable",
            Fault::Stuck { .. } => "stuck",
            Fault::OutboxOrphan => "outbox_orphan",
            Fault::Lost => "lost",
            Fault::NotDeleted(_) => "not_deleted",
        }
    }
}

/// The faults of one row. `idle` demands that the order does not wait for the worker; `amounts` that the default rule
/// computed the amount, which a custom processor need not do.
pub(super) fn check(order: &Order, idle: bool, amounts: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (version, processed) = (order.version, order.processed_version);
    if processed > version {
        faults.push(Fault::ProcessedTooFar { processed, version });
    }
    if idle && order.is_pending() {
        faults.push(Fault::Pending { processed, version });
    }
    // The reverse is legal: an event without a version finishes an order that is still pending.
    if !order.is_pending() && matches!(order.status, Status::New | Status::Processing) {
        faults.push(Fault::Unfinished(order.status));
    }
    match (order.status, order.deleted_at) {
        (Status::Deleted, None) => faults.push(Fault::DeletionUndated),
        (Status::Deleted, Some(_)) | (_, None) => {}
        (status, Some(_)) => faults.push(Fault::CameBack(status)),
    }
    if order.status == Status::Failed && order.reason.is_none() {
        faults.push(Fault::FailedWithoutReason);
    }
    if order.updated_at < order.created_at {
        faults.push(Fault::ChangedBeforeCreated);
    }
    match Payload::of_order(order.payload.as_str()) {
        // A text that is not JSON does not have an amount or an external id either: one finding is enough.
        Err(error) => faults.push(Fault::BadPayload(error.to_string())),
        Ok(payload) => {
            if payload.external_id() != order.payload.external_id() {
                faults.push(Fault::WrongExternalId {
                    stored: order.payload.external_id().to_owned(),
                    expected: payload.external_id().to_owned(),
                });
            }
            if amounts && order.status == Status::Done && !order.is_pending() {
                faults.extend(wrong_amount(&order.amount, &payload));
            }
        }
    }
    faults
}

/// Whether another service may have left an order so, by rules of its own: it changed the order last, and the fault
/// does not contradict a promise of this service. Such an order is counted, and is not a defect.
pub(super) fn is_foreign(order: &Order, fault: &Fault) -> bool {
    let by_its_own_rules = matches!(
        fault,
        Fault::Unfinished(_)
            | Fault::DeletionUndated
            | Fault::FailedWithoutReason
            | Fault::BadPayload(_)
            | Fault::WrongAmount { .. }
            | Fault::NoAmount(_)
    );
    order.touched && by_its_own_rules
}

fn wrong_amount(stored: &Amount, payload: &Payload) -> Option<Fault> {
    match Amount::of_payload(payload.as_str()) {
        // Amounts compare as numbers: 1.0 is 1.00.
        Ok(expected) if expected == *stored => None,
        Ok(expected) => Some(Fault::WrongAmount { stored: stored.clone(), expected }),
        Err(error) => Some(Fault::NoAmount(error)),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::order::UserId;

    fn done(amount: &str, payload: &str) -> Order {
        let payload = Payload::parse(payload).unwrap();
        Order {
            id: OrderId::generate(),
            user_id: UserId::from_bytes([1; 16]),
            amount: Amount::parse(amount).unwrap(),
            status: Status::Done,
            reason: None,
            payload,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            deleted_at: None,
            version: 1,
            processed_version: 1,
            touched: false,
            bucket: 0,
        }
    }

    #[test]
    fn an_amount_is_right_with_any_number_of_trailing_zeros() {
        for (stored, payload) in [
            ("19.8", r#"{"items":[{"price":9.90,"qty":2}]}"#),
            ("19.80000", r#"{"amount":"19.8"}"#),
            ("0.00", "{}"),
            ("-0", "[]"),
            ("1000", r#"{"amount":1e3}"#),
        ] {
            assert_eq!(check(&done(stored, payload), true, true), [], "{stored} of {payload}");
        }
        let wrong = check(&done("19.81", r#"{"amount":19.8}"#), true, true);
        assert_eq!(wrong.iter().map(Fault::code).collect::<Vec<_>>(), ["wrong_amount"]);
    }

    #[test]
    fn a_done_order_whose_payload_has_no_amount_is_found() {
        let order = done("0", r#"{"amount":"1e2000"}"#);
        assert_eq!(check(&order, true, true), [Fault::NoAmount(AmountError::OutOfRange("payload.amount"))]);
        assert_eq!(check(&order, true, false), []);
    }

    #[test]
    fn an_order_that_waits_is_wrong_only_where_the_system_should_be_idle() {
        let order = Order { version: 2, status: Status::Processing, ..done("7", "{}") };
        assert_eq!(check(&order, false, true), []);
        assert_eq!(check(&order, true, true), [Fault::Pending { processed: 1, version: 2 }]);
    }

    #[test]
    fn a_fault_that_another_service_may_have_left_is_foreign_and_a_broken_promise_is_not() {
        let left = Order { status: Status::Failed, touched: true, ..done("7", "{}") };
        let faults = check(&left, true, true);
        assert_eq!(faults.iter().map(Fault::code).collect::<Vec<_>>(), ["failed_without_reason"]);
        assert!(is_foreign(&left, &faults[0]) && !is_foreign(&Order { touched: false, ..left }, &faults[0]));
        let back = Order { deleted_at: Some(Timestamp::UNIX_EPOCH), touched: true, ..done("0", "{}") };
        assert!(check(&back, true, true).iter().all(|fault| !is_foreign(&back, fault)));
    }

    #[test]
    fn an_event_without_a_version_may_finish_an_order_that_waits() {
        let order = Order { version: 2, ..done("7", "{}") };
        assert_eq!(check(&order, false, true), []);
    }
}
