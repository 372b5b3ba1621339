//! Commits whose outcome is not known: the connection breaks between a COMMIT and its answer, or a part of the batch is
//! durable and the rest of the call fails. The store must never report these as if nothing had been stored. A network
//! fault before the answer to COMMIT, and a trigger that hides the tables, cause the two cases.

use std::sync::Arc;

use orderstream::order::{CommandRequest, OrderId};
use orderstream::store::postgres::PostgresStore;
use orderstream::store::{Error, Maintenance, Orders};

use crate::faults::network::NetworkFault;
use crate::harness::schema::Schema;
use crate::harness::servers;
use crate::harness::wait::until;
use crate::store::conformance::{create, creation, row, some_user, update};

/// A creation together with another command: two statements, and so a transaction with a COMMIT. Answers the new
/// order's id.
fn batch_with(other: CommandRequest) -> (OrderId, Arc<[CommandRequest]>) {
    let creation = creation(some_user(), "{}");
    (creation.order_id(), Arc::new([creation.into(), other]))
}

#[tokio::test]
async fn a_connection_that_breaks_after_a_commit_leaves_the_outcome_unknown() {
    let schema = Schema::migrated().await;
    let server = servers::host(&schema.dsn);
    let network = NetworkFault::to(&server).await;
    let mut options = schema.options();
    options.dsn = options.dsn.replacen(&server, &network.address(), 1);
    let store = PostgresStore::open(&options).expect("a DSN that can be used");
    let changed = create(&store, some_user(), "{}").await;
    let (created, batch) = batch_with(update(changed, "[1]").into());
    // The server's message after it has committed.
    network.break_at(b"COMMIT\0");
    let outcome = store.apply(batch).await;
    assert!(matches!(outcome, Err(Error::OutcomeUnknown(_))), "{outcome:?}");
    // The whole batch is stored.
    let other = schema.open();
    assert_eq!((row(&other, created).await.version, row(&other, changed).await.version), (1, 2));
    // The store uses another connection by itself.
    until("a store that works", async || store.check().await.ok()).await;
    create(&store, some_user(), "{}").await;
    store.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_failed_query_after_a_commit_leaves_the_outcome_unknown() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    // After its next commit of a new order the session finds no table.
    schema
        .execute(
            "CREATE FUNCTION lose_tables() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN PERFORM set_config('search_path', 'pg_catalog', false); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER lose_tables AFTER INSERT ON orders_outbox DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW EXECUTE FUNCTION lose_tables()",
        )
        .await;
    let (created, batch) = batch_with(update(OrderId::generate(), "[1]").into());
    let outcome = store.apply(batch).await;
    assert!(matches!(outcome, Err(Error::OutcomeUnknown(_))), "{outcome:?}");
    schema.execute("DROP TRIGGER lose_tables ON orders_outbox").await;
    let other = schema.open();
    assert_eq!(row(&other, created).await.version, 1, "the creation is durable");
    store.close().await;
    other.close().await;
}
