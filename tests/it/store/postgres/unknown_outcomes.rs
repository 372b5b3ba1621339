//! Commits whose outcome is not known: the connection breaks between a COMMIT and its answer, or a part of
//! the batch is durable and the rest of the call fails. Never is that told as if nothing had happened.

use std::sync::Arc;

use orderstream::order::{OrderId, Request};
use orderstream::store::postgres::PostgresStore;
use orderstream::store::{Error, Maintenance, Orders};

use crate::faults::network::NetworkFault;
use crate::harness::schema::Schema;
use crate::harness::servers;
use crate::harness::wait::until;
use crate::store::conformance::{create, creation, row, some_user, update};

/// A creation beside another command: two statements, and so a transaction with a COMMIT. Answers the new order's id.
fn batch_with(other: Request) -> (OrderId, Arc<[Request]>) {
    let creation = creation(some_user(), "{}");
    (creation.order_id(), Arc::new([creation.into(), other]))
}

#[tokio::test]
async fn a_connection_that_breaks_between_a_commit_and_its_answer_leaves_the_outcome_unknown() {
    let schema = Schema::migrated().await;
    let server = servers::host(&schema.dsn);
    let network = NetworkFault::to(&server).await;
    let mut options = schema.options();
    options.dsn = options.dsn.replacen(&server, &network.address(), 1);
    let store = PostgresStore::open(&options).expect("a DSN that can be used");
    let changed = create(&store, some_user(), "{}").await;
    let (made, batch) = batch_with(update(changed, "[1]").into());
    // What the server says once it has committed.
    network.break_at(b"COMMIT\0");
    let outcome = store.apply(batch).await;
    assert!(matches!(outcome, Err(Error::OutcomeUnknown(_))), "{outcome:?}");
    // All of it has happened.
    let other = schema.open();
    assert_eq!((row(&other, made).await.version, row(&other, changed).await.version), (1, 2));
    // The store finds another connection by itself, and goes on.
    until("a store that works", async || store.check().await.ok()).await;
    create(&store, some_user(), "{}").await;
    store.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_look_for_the_reason_of_a_refusal_that_fails_after_a_commit_leaves_the_outcome_unknown() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    // The session finds no table from its next commit of a new order on.
    schema
        .execute(
            "CREATE FUNCTION lose_tables() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN PERFORM set_config('search_path', 'pg_catalog', false); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER lose_tables AFTER INSERT ON orders_outbox DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION lose_tables()",
        )
        .await;
    let (made, batch) = batch_with(update(OrderId::generate(), "[1]").into());
    let outcome = store.apply(batch).await;
    assert!(matches!(outcome, Err(Error::OutcomeUnknown(_))), "{outcome:?}");
    schema.execute("DROP TRIGGER lose_tables ON orders_outbox").await;
    let other = schema.open();
    assert_eq!(row(&other, made).await.version, 1, "the creation is durable");
    store.close().await;
    other.close().await;
}
