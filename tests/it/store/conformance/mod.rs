//! The conformance suite of the `Store` port: checks that run on every implementation. Each check gets a fresh, empty
//! store, and its comment names the methods of `Store` whose promise it tests. An implementation joins with one
//! function that makes such a store. The payloads here are written as every store keeps them, also a store that keeps
//! the value and not the text:
//!
//! ```ignore
//! store_conformance!(fresh_store);
//! ```

pub(crate) mod commands;
pub(crate) mod completions;
pub(crate) mod fidelity;
pub(crate) mod history;
pub(crate) mod lists;
pub(crate) mod lookups;
pub(crate) mod model;
pub(crate) mod outside;
pub(crate) mod pending;
pub(crate) mod races;
pub(crate) mod reference;
pub(crate) mod requests;
pub(crate) mod retention;

use std::any::Any;
use std::sync::Arc;

use orderstream::order::{
    Amount, Command, CommandRequest, Event, Order, OrderId, Payload, Status, UserId, Version,
};
use orderstream::store::{Accepted, Completed, Completion, Precondition, Refusal, Store};

/// A fresh, empty store, and what must outlive it: its folder, its server.
pub(crate) struct Fresh {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// Dropped after the store.
    pub(crate) _keep: Box<dyn Any + Send + Sync>,
}

/// Makes one test of each check. The argument is an `async fn() -> Fresh`.
macro_rules! store_conformance {
    ($fresh:path) => {
        store_conformance!(@each $fresh,
            commands: a_created_order_is_new_and_its_event_says_the_same,
            commands: an_update_raises_the_version_and_its_event_names_the_owner,
            commands: a_deletion_keeps_the_payload_and_its_event_carries_it,
            commands: a_deleted_order_accepts_no_further_command,
            commands: an_unknown_order_is_not_found,
            commands: an_order_of_another_user_is_not_found_and_does_not_change,
            commands: a_duplicate_id_is_refused_and_other_commands_of_the_batch_are_stored,
            commands: a_batch_answers_in_its_own_order,
            commands: an_empty_batch_is_answered_with_nothing,
            completions: a_version_is_completed_once_and_then_stale,
            completions: an_older_or_nonexistent_version_is_stale,
            completions: the_newest_version_wins_when_it_is_completed_before_an_older_one,
            completions: an_update_makes_a_done_order_pending_again,
            completions: a_completion_of_an_unknown_order_is_unknown_and_others_apply,
            completions: a_deleted_order_stays_deleted_while_its_last_version_is_processed,
            completions: a_completion_without_an_amount_leaves_the_amount,
            completions: a_failed_order_has_a_reason_until_it_is_updated,
            completions: a_deleted_order_has_no_reason_of_an_earlier_failure,
            completions: a_failed_order_that_is_updated_is_done_without_a_reason,
            completions: an_empty_batch_of_completions_is_answered_with_nothing,
            outside: an_event_without_a_version_applies_once_and_its_replay_is_stale,
            outside: a_later_event_without_a_version_applies_and_an_earlier_one_does_not,
            outside: an_event_without_a_version_applies_only_after_the_completed_version,
            outside: an_event_without_a_version_leaves_the_versions_alone,
            outside: a_version_completed_after_an_event_without_one_takes_its_amount,
            outside: an_event_without_a_version_never_revives_a_deleted_order,
            outside: an_event_without_a_version_can_delete_an_order_for_ever,
            outside: an_event_with_a_version_can_delete_an_order_for_ever,
            outside: a_cancelled_order_stays_cancelled_when_a_late_worker_completes_it,
            outside: a_cancelled_order_can_be_updated_and_processed,
            outside: an_event_without_a_version_of_an_unknown_order_is_unknown,
            outside: an_order_records_whether_another_service_changed_it_last,
            outside: an_event_that_requests_an_order_creates_it_once_as_processed,
            outside: an_order_that_an_event_created_can_be_updated_and_deleted,
            outside: a_creation_event_with_a_duplicate_id_changes_nothing,
            fidelity: a_payload_of_a_mebibyte_is_kept,
            fidelity: an_amount_is_kept_exactly,
            fidelity: times_are_in_microseconds_and_never_decrease,
            fidelity: the_time_of_deletion_is_set_once,
            fidelity: a_write_without_a_change_leaves_the_times,
            lookups: no_lookup_finds_an_order_that_does_not_exist,
            lookups: the_newest_order_of_an_external_id_is_found,
            lookups: an_external_id_is_any_text_but_the_empty_one,
            lookups: an_external_id_belongs_to_its_user,
            lookups: an_order_is_found_by_the_external_id_it_has_now,
            lookups: a_deleted_order_is_still_found,
            lookups: processed_versions_are_in_the_requested_order,
            lookups: a_scan_walks_all_orders_by_ascending_id,
            lookups: a_closed_store_refuses_every_call,
            pending: an_order_is_pending_until_its_version_is_completed,
            pending: deletions_that_would_return_too_much_leave_their_events_pending,
            pending: a_pending_event_equals_the_one_that_was_accepted,
            pending: pages_walk_every_pending_order_exactly_once,
            pending: orders_changed_since_a_time_are_left_out,
            history: each_command_and_outcome_is_a_history_event_of_its_order,
            history: a_write_without_a_change_is_not_a_history_event,
            history: a_repeated_request_is_one_history_event,
            history: an_event_from_outside_is_a_history_event_with_its_own_cause,
            history: a_history_is_read_by_versions,
            history: a_version_with_very_many_history_events_is_read_in_pages,
            history: history_events_are_paged_in_every_scope,
            history: a_user_sees_a_history_event_behind_ten_thousand_others,
            history: all_later_history_events_are_behind_the_end,
            history: a_returning_reader_sees_each_history_event_once,
            retention: the_oldest_history_events_are_dropped_in_batches,
            retention: the_oldest_keys_are_dropped_in_batches,
            races: a_hundred_concurrent_updates_get_a_hundred_versions_without_a_gap,
            races: a_hundred_concurrent_creations_of_one_id_create_one_order,
            races: no_update_is_accepted_after_a_deletion,
            races: a_version_completed_by_many_workers_is_applied_once,
            races: an_update_that_races_a_completion_stays_pending,
            requests: a_command_that_names_a_version_needs_the_order_to_have_it,
            requests: of_several_reasons_to_refuse_the_first_counts,
            requests: a_duplicate_id_is_refused_with_the_owner_and_the_version,
            requests: a_repeated_request_gets_the_replayed_outcome,
            requests: the_replayed_outcome_stays_when_the_order_changes,
            requests: a_key_with_another_content_is_refused,
            requests: a_refused_request_stores_no_key,
            requests: requests_of_every_kind_share_a_batch,
            requests: fifty_concurrent_equal_requests_create_one_order,
            requests: only_one_of_concurrent_different_requests_with_one_key_is_executed,
            requests: only_one_of_concurrent_updates_of_one_version_is_accepted,
            lists: all_orders_are_listed_the_newest_first,
            lists: a_users_orders_are_listed_and_no_others,
            lists: a_status_filter_uses_the_current_status,
            lists: every_order_of_a_user_with_an_external_id_is_listed,
            lists: deleted_orders_are_listed_only_on_request,
            lists: a_range_of_creation_includes_its_start_and_excludes_its_end,
            lists: pages_walk_every_order_exactly_once_also_when_orders_share_a_time,
            lists: large_orders_are_listed_in_pages_of_a_bounded_size,
            lists: orders_that_arrive_during_a_walk_do_not_change_it,
            lists: a_walk_continues_behind_an_order_that_was_deleted_meanwhile,
        );

        #[test]
        fn any_sequence_of_writes_ends_as_in_the_model() {
            crate::store::conformance::model::any_sequence_of_writes_ends_as_in_the_model(&$fresh);
        }
    };
    (@each $fresh:path, $($room:ident: $check:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let fresh = $fresh().await;
                crate::store::conformance::$room::$check(std::sync::Arc::clone(&fresh.store)).await;
                fresh.store.close().await;
            }
        )*
    };
}

pub(crate) use store_conformance;

/// A user that no other test uses.
pub(crate) fn some_user() -> UserId {
    UserId::from_bytes(*OrderId::generate().as_bytes())
}

pub(crate) fn payload(text: &str) -> Payload {
    Payload::parse(text).expect(text)
}

pub(crate) fn amount(digits: &str) -> Amount {
    Amount::parse(digits).expect(digits)
}

/// A command to create, under a new id.
pub(crate) fn creation(user_id: UserId, text: &str) -> Command {
    Command::Create { order_id: OrderId::generate(), user_id, payload: payload(text) }
}

/// A command to update, without a user.
pub(crate) fn update(order_id: OrderId, text: &str) -> Command {
    Command::Update { order_id, user_id: None, payload: payload(text), if_version: None }
}

/// A command to delete, without a user.
pub(crate) fn deletion(order_id: OrderId) -> Command {
    Command::Delete { order_id, user_id: None, if_version: None }
}

/// The completion of a worker that processed the version.
pub(crate) fn done(order_id: OrderId, version: Version, digits: &str) -> Completion {
    let precondition = Precondition::Version(version);
    Completion { order_id, precondition, status: Status::Done, amount: Some(amount(digits)), reason: None }
}

/// The completion of a worker that could not process the version.
pub(crate) fn failed(order_id: OrderId, version: Version, reason: &str) -> Completion {
    let (precondition, reason) = (Precondition::Version(version), Some(reason.to_owned()));
    Completion { order_id, precondition, status: Status::Failed, amount: None, reason }
}

/// Applies a batch of commands without keys.
pub(crate) async fn apply_all(
    store: &dyn Store,
    commands: impl IntoIterator<Item = Command>,
) -> Vec<Result<Event, Refusal>> {
    let batch = commands.into_iter().map(CommandRequest::from).collect();
    let answers = store.apply(batch).await.expect("the store takes the batch");
    let event = |accepted| match accepted {
        Accepted::Applied(event) => event,
        other => panic!("a command without a key is not replayed, and its event is returned: {other:?}"),
    };
    answers.into_iter().map(|answer| answer.map(event)).collect()
}

/// Applies a batch of one command.
pub(crate) async fn apply(store: &dyn Store, command: Command) -> Result<Event, Refusal> {
    let mut answers = apply_all(store, [command]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// Applies a command that must be accepted.
pub(crate) async fn accept(store: &dyn Store, command: Command) -> Event {
    apply(store, command).await.expect("the command is accepted")
}

/// Creates an order, and answers its id.
pub(crate) async fn create(store: &dyn Store, user_id: UserId, text: &str) -> OrderId {
    let event = accept(store, creation(user_id, text)).await;
    event.order_id.expect("the event names the order")
}

/// Records a batch of one completion.
pub(crate) async fn complete(store: &dyn Store, completion: Completion) -> Completed {
    let answers = store.complete(Arc::new([completion])).await.expect("the store takes the batch");
    assert_eq!(answers.len(), 1);
    answers[0]
}

/// An order that must exist.
pub(crate) async fn row(store: &dyn Store, order_id: OrderId) -> Order {
    let order = store.get(order_id).await.expect("the store reads");
    order.expect("the order exists")
}
