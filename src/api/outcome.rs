//! The words for the outcome of a command, the same in both protocols. An accepted order stays accepted when its
//! processing fails: the failure is a second word, and never replaces the first. `accepted` means that the response was
//! sent before the worker finished; where the service is set not to wait and the caller has no preference, the first
//! word is the change. The schema of the response is made of the list of words, so a new word belongs in that list.

use crate::service::{Change, CommandReceipt, ProcessingState};

/// Every word that [`status`] returns.
pub(super) const STATUSES: [&str; 4] = ["created", "updated", "deleted", ACCEPTED];

/// The order is stored, and was not processed in time.
pub(super) const ACCEPTED: &str = "accepted";

/// The word that [`processing`] returns.
pub(super) const FAILED: &str = "failed";

/// The change that the command made; `accepted` where the order was not processed in time.
pub(super) fn status(receipt: &CommandReceipt) -> &'static str {
    match (receipt.progress, receipt.change) {
        (ProcessingState::Pending, _) => ACCEPTED,
        (_, Change::Created) => "created",
        (_, Change::Updated) => "updated",
        (_, Change::Deleted) => "deleted",
    }
}

/// `failed` where the order was accepted and its processing failed.
pub(super) fn processing(receipt: &CommandReceipt) -> Option<&'static str> {
    (receipt.progress == ProcessingState::Failed).then_some(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::OrderId;

    #[test]
    fn every_outcome_has_a_word_of_the_list() {
        for change in [Change::Created, Change::Updated, Change::Deleted] {
            for progress in [
                ProcessingState::Pending,
                ProcessingState::Processed,
                ProcessingState::Failed,
                ProcessingState::NotAwaited,
            ] {
                let receipt = CommandReceipt {
                    order_id: OrderId::generate(),
                    version: 1,
                    change,
                    progress,
                    replayed: false,
                };
                assert!(STATUSES.contains(&status(&receipt)));
                assert_eq!(status(&receipt) == ACCEPTED, progress == ProcessingState::Pending);
                assert_eq!(processing(&receipt).is_some(), progress == ProcessingState::Failed);
            }
        }
    }
}
