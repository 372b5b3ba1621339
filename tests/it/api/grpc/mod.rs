//! The contract over gRPC: the same cases as over HTTP, called by the client that is generated from the proto files,
//! on every pair of store and bus. Cases that concern this protocol alone run on one pair.

mod deadlines;
mod errors;
mod files;
mod health;
mod limits;
mod orders;
mod requests;
mod stopping;

/// Makes a module of tests, one per case, on a backend.
macro_rules! contract {
    (@on $backend:ty: $($module:ident { $($case:ident),+ $(,)? })+) => {
        $(mod $module {
            $(#[tokio::test]
            async fn $case() {
                crate::api::grpc::$module::$case::<$backend>().await;
            })+
        })+
    };
    ($name:ident: $backend:ty) => {
        mod $name {
            contract!(@on $backend:
                orders {
                    a_call_without_an_id_creates_an_order_and_one_event,
                    an_id_in_any_form_updates_and_is_answered_canonically,
                    a_deletion_needs_no_payload_and_the_order_stays_readable,
                    any_write_to_a_deleted_order_is_refused,
                    an_unknown_order_and_another_users_order_are_not_found,
                    an_order_has_all_fields_and_is_the_same_over_http,
                    an_external_id_finds_the_newest_order_of_its_user,
                    digits_are_kept_and_the_amount_is_the_nearest_double,
                    an_order_without_a_worker_is_accepted_and_processed_later,
                    an_event_without_an_id_creates_one_order_however_often_delivered,
                    a_failed_order_is_reported_and_can_be_updated,
                }
                requests {
                    a_retried_request_is_answered_with_its_first_outcome,
                    a_key_of_another_request_is_refused,
                    an_order_is_changed_only_in_the_requested_version,
                }
            );
        }
    };
}

/// What the protocol decides before a store or a bus takes part: tested on one backend.
mod protocol {
    contract!(@on crate::harness::backend::Embedded:
        orders {
            the_health_method_answers_ok,
            an_invalid_field_is_refused_and_named,
        }
        requests {
            a_call_keeps_its_id_or_gets_one,
            a_malformed_key_is_refused,
            a_malformed_version_is_refused,
        }
    );
}

contract!(embedded: crate::harness::backend::Embedded);
contract!(postgres_in_one_process: crate::harness::backend::PostgresInOneProcess);
contract!(postgres_and_kafka: crate::harness::shared::Shared);
