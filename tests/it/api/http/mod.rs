//! The contract over HTTP: what callers, other services and the users of other databases rely on, case by case. Each
//! case is written against [`Backend`](crate::harness::backend::Backend) and runs on every implementation of it: one
//! line at the end of this file per pair of store and bus. Cases that need neither run on one pair.

mod browsers;
mod conditions;
mod deletion;
mod events;
mod history;
mod keys;
mod lifecycle;
mod lists;
mod live;
mod numbers;
mod preferences;
mod reads;
mod service;
mod standards;
mod verbs;
mod writes;

/// Makes a module of tests, one per case, on a backend. A case that is missing here is dead code and fails the build.
macro_rules! contract {
    (@on $backend:ty: $($module:ident { $($case:ident),+ $(,)? })+) => {
        $(mod $module {
            $(#[tokio::test]
            async fn $case() {
                crate::api::http::$module::$case::<$backend>().await;
            })+
        })+
    };
    ($name:ident: $backend:ty) => {
        mod $name {
            contract!(@on $backend:
                service {
                    health_answers_as_json_and_as_plain_text,
                }
                writes {
                    a_request_without_an_id_creates_an_order,
                    a_payload_as_text_takes_precedence_over_a_payload_as_json,
                    an_id_in_any_form_updates_and_is_answered_canonically,
                    a_write_may_name_the_owner_and_a_stranger_finds_nothing,
                    an_unknown_order_is_a_404,
                }
                deletion {
                    a_deletion_needs_no_payload_and_publishes_the_stored_one,
                    any_write_to_a_deleted_order_is_a_409,
                    another_users_write_to_a_deleted_order_is_a_404,
                    a_deleted_order_stays_deleted_when_an_old_event_arrives,
                    a_delete_overtakes_an_update_that_the_worker_still_holds,
                }
                reads {
                    an_order_has_its_members_in_their_order,
                    an_order_is_read_by_any_form_of_its_id,
                    an_external_id_finds_the_newest_order_of_its_user,
                    an_external_id_may_hold_any_text_or_number,
                    digits_are_kept,
                }
                keys {
                    a_retried_request_is_answered_with_its_first_outcome,
                    a_key_belongs_to_one_content_and_one_user,
                    equal_json_is_an_equal_request_in_any_notation,
                    callers_without_a_user_share_no_keys_across_orders,
                    a_refused_request_does_not_consume_its_key,
                    concurrent_equal_requests_share_one_order,
                    a_replay_waits_for_the_worker_as_the_first_request_did,
                }
                conditions {
                    a_tag_follows_the_version_and_the_status,
                    a_read_with_the_current_tag_is_a_304,
                    a_write_for_another_version_changes_nothing,
                    of_many_writers_with_the_same_version_one_succeeds,
                    a_stranger_does_not_learn_the_version,
                    one_matching_tag_of_several_is_enough,
                    a_tag_changes_with_an_event_from_outside,
                }
                verbs {
                    a_put_creates_an_order_under_a_chosen_id_and_replaces_it,
                    a_put_that_requires_a_new_order_succeeds_once,
                    concurrent_puts_for_a_new_id_create_one_order,
                    an_invalid_put_changes_nothing,
                    a_delete_works_like_the_deletion_by_post,
                    a_batch_has_a_result_for_each_item,
                    a_batch_of_a_thousand_is_accepted_and_a_larger_one_refused,
                    a_retried_batch_replays_its_items_one_by_one,
                }
                numbers {
                    numbers_of_the_longest_allowed_form_are_stored_shown_and_published,
                    a_full_body_of_small_numbers_is_published_as_the_store_writes_it,
                    an_event_for_a_known_order_may_hold_numbers_of_any_length,
                }
                preferences {
                    a_caller_that_prefers_no_wait_is_answered_at_once,
                    a_caller_may_wait_where_the_settings_do_not,
                    a_caller_may_prefer_the_order_in_the_answer,
                    a_read_waits_for_the_requested_version,
                }
                lists {
                    a_list_shows_the_newest_orders_first_and_each_as_stored,
                    a_list_holds_the_orders_that_match_all_parameters,
                    the_links_lead_through_all_pages,
                }
                history {
                    a_history_lists_each_version_with_its_outcome,
                    a_processors_reason_is_recorded_up_to_its_length_limit,
                    a_version_that_is_not_processed_yet_has_no_outcome,
                    an_event_from_outside_has_an_entry_of_its_own,
                    a_history_comes_in_pages_of_versions,
                    an_unknown_or_disabled_history_is_refused,
                }
                live {
                    an_orders_stream_begins_with_its_newest_history_event_and_continues,
                    a_users_stream_sends_the_changes_of_their_orders_alone,
                    a_reconnecting_client_misses_no_event_and_receives_none_twice,
                    a_stream_that_ended_before_its_first_event_resumes_at_its_start,
                    a_stream_that_cannot_be_opened_is_refused_with_the_reason,
                    streams_are_bounded_and_use_no_memory_of_requests,
                    a_stop_ends_streams_at_once,
                    a_stream_outlives_the_limit_of_idle_connections,
                }
                lifecycle {
                    the_amount_follows_the_rule,
                    an_update_is_processed_again,
                    an_order_without_a_worker_is_accepted_and_processed_later,
                    an_update_and_a_deletion_wait_in_the_same_way,
                    without_the_wait_the_answer_comes_at_once,
                    an_order_that_cannot_be_processed_shows_the_reason,
                    a_failed_order_can_be_corrected_by_an_update,
                    a_processor_that_panics_fails_its_order_alone,
                    two_callers_of_one_order_each_get_an_answer,
                }
                events {
                    events_and_acks_have_their_fields_in_their_order,
                    an_external_id_in_an_event_is_the_text_of_the_payloads_id,
                    an_event_without_an_id_creates_one_order_however_often_delivered,
                    an_event_may_cancel_an_order,
                    an_event_of_a_service_without_versions_is_processed,
                }
            );
        }
    };
}

/// What the protocol decides before a store or a bus takes part: tested on one backend.
mod protocol {
    contract!(@on crate::harness::backend::Embedded:
        service {
            every_route_accepts_a_trailing_slash,
            head_is_get_without_the_body,
            an_unknown_path_is_a_404,
            a_wrong_method_is_a_405_that_names_the_allowed_ones,
            every_problem_has_a_page,
            a_request_keeps_its_id_or_gets_one,
        }
        browsers {
            a_change_from_a_page_of_another_site_is_refused,
            an_unknown_host_name_is_a_421,
            a_request_of_http_1_1_names_one_valid_host,
            pages_of_an_allowed_origin_may_read_and_write,
        }
        standards {
            every_answer_names_its_cache_policy_and_forbids_content_sniffing,
            the_media_type_of_an_answer_follows_the_weights_of_accept,
            paths_that_differ_in_needless_encoding_are_equal,
            an_encoded_body_is_a_415,
            a_link_that_is_too_long_is_omitted,
            an_instance_is_a_uri_reference,
        }
        writes {
            an_invalid_field_is_a_400_that_names_it,
            unknown_fields_and_media_types_are_ignored,
        }
        deletion {
            a_409_is_a_plain_problem_for_callers_that_accept_problems,
        }
        reads {
            a_search_without_a_user_is_a_400,
        }
        conditions {
            a_malformed_or_contradictory_condition_is_a_400,
            a_condition_that_a_write_does_not_evaluate_is_a_400,
        }
        numbers {
            numbers_that_expand_too_far_are_a_400_that_names_their_position,
        }
        preferences {
            an_invalid_min_version_is_a_400,
            the_answer_names_the_applied_wait,
        }
        lists {
            an_invalid_parameter_of_a_list_is_a_400,
        }
    );
}

contract!(embedded: crate::harness::backend::Embedded);
contract!(postgres_in_one_process: crate::harness::backend::PostgresInOneProcess);
contract!(postgres_and_kafka: crate::harness::shared::Shared);
