//! The contract over gRPC: the same cases as over HTTP, called by the client that is generated from the proto files,
//! on every pair of store and bus; and, on one of them, what is this protocol's alone.

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
    (@on $backend:ty: $($room:ident { $($case:ident),+ $(,)? })+) => {
        $(mod $room {
            $(#[tokio::test]
            async fn $case() {
                crate::api::grpc::$room::$case::<$backend>().await;
            })+
        })+
    };
    ($name:ident: $backend:ty) => {
        mod $name {
            contract!(@on $backend:
                orders {
                    no_id_creates_an_order_that_is_done_and_told_once,
                    an_id_in_any_spelling_updates_and_is_answered_canonically,
                    a_deletion_needs_no_payload_and_the_order_stays_to_be_seen,
                    any_write_to_a_deleted_order_is_refused,
                    an_unknown_order_and_a_strangers_are_not_found,
                    an_order_has_its_fields,
                    an_external_id_finds_the_newest_order_of_its_user,
                    digits_are_kept_and_the_amount_is_the_nearest_double,
                    an_order_waits_for_a_worker_that_is_not_there,
                    an_event_without_an_id_creates_one_order_however_often_it_comes,
                    an_order_that_cannot_be_processed_is_told,
                }
                requests {
                    a_request_that_comes_again_is_answered_with_what_happened,
                    a_key_of_another_request_is_refused,
                    an_order_is_changed_only_in_the_version_that_is_asked_for,
                }
            );
        }
    };
}

/// What the protocol alone decides, before anything comes to a store or a bus: held on one backend.
mod protocol {
    contract!(@on crate::harness::backend::Embedded:
        orders {
            the_process_says_that_it_answers,
            what_breaks_a_rule_is_refused_and_the_field_named,
        }
        requests {
            a_call_keeps_its_id_or_gets_one,
            a_key_that_is_none_is_refused,
            a_version_that_is_none_is_refused,
        }
    );
}

contract!(embedded: crate::harness::backend::Embedded);
contract!(postgres_in_one_process: crate::harness::backend::PostgresInOneProcess);
contract!(postgres_and_kafka: crate::harness::shared::Shared);
