//! What every store promises, as checks that any implementation can be put through. Each check gets a fresh,
//! empty store and is named by the promise of `Store` that it holds the store to. An implementation joins with
//! one function that makes such a store. The payloads here are written as every store keeps them, also one that
//! keeps the value and not the text:
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

use orderstream::order::{Amount, Command, Event, Order, OrderId, Payload, Request, Status, UserId, Version};
use orderstream::store::{Accepted, Completed, Completion, Precondition, Refusal, Store};

/// A fresh, empty store, and what must outlive it: its folder, its server.
pub(crate) struct Fresh {
    /// The store.
    pub(crate) store: Arc<dyn Store>,
    /// Dropped after it.
    pub(crate) _keep: Box<dyn Any + Send + Sync>,
}

/// Makes one test of each check. The argument is an `async fn() -> Fresh`.
macro_rules! store_conformance {
    ($fresh:path) => {
        store_conformance!(@each $fresh,
            commands: a_created_order_is_new_and_its_event_says_the_same,
            commands: an_update_raises_the_version_and_its_event_names_the_owner,
            commands: a_deletion_keeps_the_payload_and_its_event_carries_it,
            commands: a_deleted_order_takes_no_command_any_more,
            commands: an_unknown_order_is_not_found,
            commands: an_order_of_another_user_is_not_found_and_does_not_change,
            commands: a_taken_id_is_refused_and_its_neighbours_in_the_batch_are_stored,
            commands: a_batch_answers_in_its_own_order,
            commands: an_empty_batch_is_answered_with_nothing,
            completions: a_version_is_completed_once_and_then_stale,
            completions: an_older_version_is_stale_and_so_is_one_that_never_was,
            completions: the_newest_version_wins_when_it_is_completed_before_an_older_one,
            completions: an_update_makes_a_done_order_pending_again,
            completions: a_completion_of_an_unknown_order_says_so_and_its_neighbours_apply,
            completions: a_deleted_order_stays_deleted_while_its_last_version_is_processed,
            completions: a_completion_without_an_amount_leaves_the_amount,
            completions: a_failed_order_says_why_until_it_is_updated,
            completions: a_deleted_order_no_longer_says_why_it_once_failed,
            completions: a_failed_order_that_is_updated_is_done_without_a_reason,
            completions: an_empty_batch_of_completions_is_answered_with_nothing,
            outside: an_event_without_a_version_applies_once_and_its_replay_is_stale,
            outside: a_later_event_without_a_version_applies_and_an_earlier_one_does_not,
            outside: an_event_without_a_version_applies_only_if_it_is_newer_than_what_was_completed,
            outside: an_event_without_a_version_leaves_the_versions_alone,
            outside: a_version_completed_after_an_event_without_one_takes_its_amount,
            outside: an_event_without_a_version_never_revives_a_deleted_order,
            outside: an_event_without_a_version_can_delete_an_order_for_ever,
            outside: an_event_with_a_version_can_delete_an_order_for_ever,
            outside: a_cancelled_order_is_kept_when_a_late_worker_is_done_with_it,
            outside: a_cancelled_order_that_is_updated_lives_on,
            outside: an_event_without_a_version_of_an_unknown_order_says_so,
            outside: an_order_says_whether_something_else_changed_it_last,
            outside: an_event_that_asks_for_an_order_creates_it_once_and_processed,
            outside: an_order_that_an_event_created_can_be_updated_and_deleted,
            outside: a_creation_of_an_id_that_is_taken_changes_nothing,
            fidelity: a_payload_of_a_mebibyte_is_kept,
            fidelity: an_amount_is_kept_exactly,
            fidelity: times_are_microseconds_and_tell_the_orders_story,
            fidelity: the_time_of_deletion_is_set_once,
            fidelity: a_write_that_changes_nothing_touches_no_time,
            lookups: an_order_that_does_not_exist_is_nowhere,
            lookups: the_newest_order_of_an_external_id_is_found,
            lookups: an_external_id_is_any_text_but_the_empty_one,
            lookups: an_external_id_belongs_to_its_user,
            lookups: an_order_is_found_by_the_external_id_it_has_now,
            lookups: a_deleted_order_is_still_found,
            lookups: processed_versions_come_in_the_order_they_were_asked_for,
            lookups: a_scan_walks_all_orders_by_ascending_id,
            lookups: a_closed_store_refuses_every_call,
            pending: what_the_worker_has_not_done_is_pending_until_it_is_completed,
            pending: deletions_that_would_bring_back_too_much_leave_their_events_pending,
            pending: a_pending_event_equals_the_one_that_was_accepted,
            pending: pages_walk_every_pending_order_exactly_once,
            pending: what_has_changed_since_is_left_out,
            history: each_command_and_each_outcome_is_a_step_of_its_order,
            history: what_changed_nothing_is_no_step,
            history: a_request_that_comes_again_is_one_step,
            history: an_event_from_outside_is_a_step_that_says_so,
            history: a_history_is_read_by_versions,
            history: a_version_with_very_many_steps_is_read_in_part,
            history: steps_come_in_pages_whoever_asks_for_whose,
            history: a_user_is_told_of_a_step_behind_ten_thousand_of_others,
            history: all_steps_to_come_are_behind_the_end,
            history: a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice,
            retention: the_oldest_steps_are_dropped_a_few_at_a_time,
            retention: the_oldest_keys_are_dropped_a_few_at_a_time,
            races: a_hundred_concurrent_updates_get_a_hundred_versions_without_a_gap,
            races: a_hundred_concurrent_creations_of_one_id_make_one_order,
            races: no_update_is_accepted_after_a_deletion,
            races: a_version_completed_by_many_workers_is_applied_once,
            races: an_update_that_races_a_completion_stays_pending,
            requests: a_command_that_names_a_version_needs_the_order_to_have_it,
            requests: of_several_reasons_to_refuse_the_first_counts,
            requests: a_taken_id_says_whose_order_it_is_and_where_it_stands,
            requests: a_request_that_comes_again_is_answered_with_what_it_did,
            requests: the_answer_to_a_used_key_stays_when_the_order_goes_on,
            requests: a_key_that_comes_with_another_content_is_refused,
            requests: a_refused_request_leaves_no_key_behind,
            requests: requests_of_every_kind_share_a_batch,
            requests: fifty_equal_requests_at_once_make_one_order,
            requests: of_different_requests_at_once_under_one_key_one_is_carried_out,
            requests: of_many_updates_at_once_that_name_one_version_one_is_accepted,
            lists: all_orders_are_listed_the_newest_first,
            lists: a_users_orders_are_listed_and_no_others,
            lists: a_status_is_where_the_order_stands_now,
            lists: every_order_of_a_user_with_an_external_id_is_listed,
            lists: deleted_orders_are_listed_only_where_they_are_asked_for,
            lists: a_range_of_creation_begins_with_its_first_time_and_ends_before_its_last,
            lists: pages_walk_every_order_exactly_once_also_when_orders_share_a_time,
            lists: large_orders_are_listed_in_pages_of_a_bounded_size,
            lists: orders_that_arrive_during_a_walk_do_not_disturb_it,
            lists: a_walk_goes_on_behind_an_order_that_was_deleted_meanwhile,
        );

        #[test]
        fn any_sequence_of_writes_ends_as_the_model_says() {
            crate::store::conformance::model::any_sequence_of_writes_ends_as_the_model_says(&$fresh);
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

/// A user like no other.
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

/// A command to update, by whoever it is.
pub(crate) fn update(order_id: OrderId, text: &str) -> Command {
    Command::Update { order_id, user_id: None, payload: payload(text), if_version: None }
}

/// A command to delete, by whoever it is.
pub(crate) fn deletion(order_id: OrderId) -> Command {
    Command::Delete { order_id, user_id: None, if_version: None }
}

/// What a worker records that did its work.
pub(crate) fn done(order_id: OrderId, version: Version, digits: &str) -> Completion {
    let precondition = Precondition::Version(version);
    Completion { order_id, precondition, status: Status::Done, amount: Some(amount(digits)), reason: None }
}

/// What a worker records that could not do its work.
pub(crate) fn failed(order_id: OrderId, version: Version, reason: &str) -> Completion {
    let (precondition, reason) = (Precondition::Version(version), Some(reason.to_owned()));
    Completion { order_id, precondition, status: Status::Failed, amount: None, reason }
}

/// Carries out a batch of commands without keys.
pub(crate) async fn apply_all(
    store: &dyn Store,
    commands: impl IntoIterator<Item = Command>,
) -> Vec<Result<Event, Refusal>> {
    let batch = commands.into_iter().map(Request::from).collect();
    let answers = store.apply(batch).await.expect("the store takes the batch");
    let event = |accepted| match accepted {
        Accepted::Applied(event) => event,
        other => panic!("without a key there is nothing before, and nothing is too much: {other:?}"),
    };
    answers.into_iter().map(|answer| answer.map(event)).collect()
}

/// Carries out a batch of one.
pub(crate) async fn apply(store: &dyn Store, command: Command) -> Result<Event, Refusal> {
    let mut answers = apply_all(store, [command]).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// Carries out a command that must be accepted.
pub(crate) async fn accept(store: &dyn Store, command: Command) -> Event {
    apply(store, command).await.expect("the command is accepted")
}

/// Creates an order, and answers its id.
pub(crate) async fn create(store: &dyn Store, user_id: UserId, text: &str) -> OrderId {
    let event = accept(store, creation(user_id, text)).await;
    event.order_id.expect("the event names the order")
}

/// Records a batch of one.
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
