//! The contract over HTTP: what callers, other services and other databases' users rely on, case by case. Each
//! case is written against [`Backend`](crate::harness::backend::Backend) and held on every implementation of
//! it: one line at the end of this file per pair of store and bus. Cases that come to neither are held on one.

mod browsers;
mod conditions;
mod deletion;
mod events;
mod history;
mod keys;
mod life;
mod lists;
mod live;
mod numbers;
mod preferences;
mod reads;
mod service;
mod standards;
mod verbs;
mod writes;

/// Makes a module of tests, one per case, on a backend. A case that is missing here is dead code and fails the
/// build.
macro_rules! contract {
    (@on $backend:ty: $($room:ident { $($case:ident),+ $(,)? })+) => {
        $(mod $room {
            $(#[tokio::test]
            async fn $case() {
                crate::api::http::$room::$case::<$backend>().await;
            })+
        })+
    };
    ($name:ident: $backend:ty) => {
        mod $name {
            contract!(@on $backend:
                service {
                    health_answers_in_both_forms,
                }
                writes {
                    no_id_in_any_form_creates_an_order,
                    the_payload_may_come_as_text_and_that_wins,
                    an_id_in_any_spelling_updates_and_is_answered_canonically,
                    the_owner_may_be_named_and_a_stranger_finds_nothing,
                    an_unknown_order_is_a_404,
                }
                deletion {
                    a_deletion_needs_no_payload_and_tells_the_stored_one,
                    any_write_to_a_deleted_order_is_a_409,
                    a_strangers_write_to_a_deleted_order_is_a_404,
                    a_deleted_order_stays_deleted_when_an_old_event_arrives,
                    a_delete_overtakes_an_update_that_the_worker_still_holds,
                }
                reads {
                    an_order_has_its_members_in_their_order,
                    an_order_is_read_by_any_spelling_of_its_id,
                    an_external_id_finds_the_newest_order_of_its_user,
                    an_external_id_may_hold_anything,
                    digits_are_kept,
                }
                keys {
                    a_request_that_comes_again_is_answered_with_its_first_outcome,
                    a_key_belongs_to_one_content_and_one_user,
                    equal_json_is_an_equal_request_however_it_is_written,
                    callers_without_a_user_do_not_meet_each_others_keys,
                    a_refusal_uses_no_key_up,
                    equal_requests_at_once_share_one_order,
                    a_replay_waits_for_the_worker_as_the_first_request_did,
                }
                conditions {
                    a_tag_follows_the_version_and_says_what_is_unsettled,
                    a_reader_who_has_it_already_is_told_so,
                    a_write_for_another_version_changes_nothing,
                    of_two_who_saw_the_same_version_one_writes,
                    a_stranger_learns_no_version,
                    one_of_several_tags_is_enough,
                    a_tag_changes_with_an_event_from_outside,
                }
                verbs {
                    a_put_makes_an_order_of_a_chosen_id_and_replaces_its_content,
                    a_put_for_a_new_order_alone_makes_no_second_one,
                    puts_that_race_for_a_new_id_make_one_order,
                    a_put_that_breaks_a_rule_changes_nothing,
                    a_delete_is_the_deletion_of_a_post,
                    a_batch_answers_for_each_of_its_items,
                    a_batch_of_a_thousand_is_taken_and_one_more_is_not,
                    a_batch_that_comes_again_is_answered_item_by_item,
                }
                numbers {
                    numbers_as_long_as_they_may_be_are_stored_shown_and_published,
                    a_full_body_of_small_numbers_is_published_as_the_store_writes_it,
                    an_event_of_an_order_that_is_there_may_hold_numbers_of_any_length,
                }
                preferences {
                    a_caller_in_a_hurry_is_answered_before_the_worker_is_done,
                    a_caller_may_wait_where_others_do_not,
                    an_answer_may_hold_the_order,
                    a_reader_sees_what_it_wrote,
                }
                lists {
                    a_list_shows_the_newest_orders_first_and_each_as_it_is,
                    a_list_holds_what_fits_every_part_of_the_query,
                    pages_are_walked_by_their_links,
                }
                history {
                    a_history_tells_each_version_and_what_became_of_it,
                    a_processors_reason_is_recorded_up_to_a_length,
                    what_is_not_processed_yet_has_no_outcome,
                    an_event_from_outside_has_an_entry_of_its_own,
                    a_history_comes_in_pages_of_versions,
                    a_history_that_is_not_there_is_a_404,
                }
                live {
                    an_orders_stream_begins_with_its_newest_step_and_goes_on,
                    a_users_stream_tells_of_their_orders_and_of_nobody_elses,
                    whoever_comes_back_misses_nothing_and_sees_nothing_twice,
                    a_stream_that_ended_before_its_first_event_goes_on_where_it_began,
                    what_cannot_be_followed_says_why,
                    streams_are_bounded_and_take_no_room_from_requests,
                    a_stop_ends_streams_at_once,
                    a_stream_outlives_the_limit_of_idle_connections,
                }
                life {
                    the_amount_follows_the_rule,
                    an_update_is_processed_again,
                    an_order_waits_for_a_worker_that_is_not_there,
                    an_update_and_a_deletion_wait_in_the_same_way,
                    without_the_wait_the_answer_comes_at_once,
                    an_order_that_cannot_be_processed_says_why,
                    a_failed_order_can_be_mended,
                    a_processor_that_panics_fails_its_order_alone,
                    two_callers_of_one_order_get_an_answer_each,
                }
                events {
                    events_and_acks_have_their_fields_in_their_order,
                    an_external_id_in_an_event_is_the_text_of_the_payloads_id,
                    an_event_without_an_id_creates_one_order_however_often_it_comes,
                    an_event_may_cancel_an_order,
                    an_event_of_a_service_without_versions_is_processed,
                }
            );
        }
    };
}

/// What the protocol alone decides, before anything comes to a store or a bus: held on one backend.
mod protocol {
    contract!(@on crate::harness::backend::Embedded:
        service {
            every_route_takes_a_slash_at_its_end,
            head_is_get_without_the_body,
            an_unknown_path_is_a_404,
            a_wrong_method_is_a_405_that_names_the_right_ones,
            every_problem_has_a_page,
            a_request_keeps_its_id_or_gets_one,
        }
        browsers {
            a_change_that_a_page_of_another_site_makes_is_refused,
            a_name_that_is_not_the_services_own_is_a_421,
            a_host_is_named_once_unless_the_client_is_of_http_1_0,
            pages_of_an_allowed_origin_may_read_and_write,
        }
        standards {
            no_answer_is_kept_or_guessed_unless_it_says_so,
            the_form_of_an_answer_follows_the_weights_of_accept,
            paths_that_differ_in_needless_encoding_are_one,
            a_body_that_is_encoded_is_a_415,
            a_link_that_is_too_long_is_left_out,
            an_instance_is_a_uri_reference,
        }
        writes {
            what_breaks_a_rule_is_a_400_that_names_the_field,
            unknown_fields_and_media_types_are_ignored,
        }
        deletion {
            a_409_is_a_pure_problem_for_whoever_asks_for_that,
        }
        reads {
            a_search_without_a_user_is_a_400,
        }
        conditions {
            a_condition_that_makes_no_sense_is_a_400,
            a_condition_that_a_write_does_not_evaluate_is_a_400,
        }
        numbers {
            numbers_that_grow_are_a_400_that_names_their_place,
        }
        preferences {
            a_reader_cannot_wait_for_what_is_no_version,
            the_wait_in_force_is_told,
        }
        lists {
            what_a_list_cannot_be_asked_for_is_a_400,
        }
    );
}

contract!(embedded: crate::harness::backend::Embedded);
contract!(postgres_in_one_process: crate::harness::backend::PostgresInOneProcess);
contract!(postgres_and_kafka: crate::harness::shared::Shared);
