//! The Postgres store: the conformance suite, and the promises of a store that several processes and other services
//! share: its outbox and claims, rows that it cannot store, and rows that it cannot read.

use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use orderstream::order::{Command, Filter, OrderId, Payload, Status};
use orderstream::store::{
    Completed, Completion, Creation, Error, Lists, Maintenance, Orders, Outbox, Precondition,
};

use crate::harness::schema::Schema;
use crate::harness::wait::until;
use crate::store::conformance::{
    Fresh, accept, apply, complete, create, creation, deletion, done, failed, row, some_user,
    store_conformance, update,
};

/// An empty store in a schema of its own.
async fn fresh() -> Fresh {
    let schema = Schema::migrated().await;
    Fresh { store: Arc::new(schema.open()), _keep: Box::new(schema) }
}

store_conformance!(fresh);

/// A payload that is legal JSON, and whose number no `numeric` holds. No caller can send it.
fn unstorable() -> Payload {
    Payload::from_store(r#"{"id": "X", "n": 1e-20000}"#, "X")
}

#[tokio::test]
async fn a_payload_is_kept_as_a_value_with_every_digit() {
    let Fresh { store, _keep } = fresh().await;
    for (sent, kept) in [
        (
            r#"{"id":12345678901234567890,"price":0.10,"qty":3}"#,
            r#"{"id": 12345678901234567890, "qty": 3, "price": 0.10}"#,
        ),
        (r#"{"b":1,"a":2,"a":3}"#, r#"{"a": 3, "b": 1}"#),
        ("[1.10, 1e2, -0, 123456789.1234567890123456789]", "[1.10, 100, 0, 123456789.1234567890123456789]"),
        (r#""\u0416 \ud83d\ude00 \/""#, "\"Ж 😀 /\""),
    ] {
        let id = create(&*store, some_user(), sent).await;
        assert_eq!(row(&*store, id).await.payload.as_str(), kept);
    }
}

#[tokio::test]
async fn orders_of_one_time_are_listed_by_descending_id() {
    let schema = Schema::migrated().await;
    let (store, user) = (schema.open(), some_user());
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(create(&store, user, r#"{"id": "A"}"#).await);
    }
    // All orders have the same time, so that no index has them in this order by chance.
    schema.execute("UPDATE orders SET created_at = '2026-01-02T03:04:05Z'").await;
    ids.sort_unstable();
    ids.reverse();
    let of_user = Filter { user_id: Some(user), ..Filter::default() };
    let of_id = Filter { external_id: Some("A".to_owned()), ..of_user.clone() };
    for filter in [Filter::default(), of_user, of_id] {
        for limit in [1, 7, 59, 60, 100] {
            let (mut walked, mut after) = (Vec::new(), None);
            loop {
                let page = store.list(&filter, after, limit).await.expect("the store reads");
                walked.extend(page.orders.iter().map(|order| order.id));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(walked, ids, "{filter:?} in pages of {limit}");
        }
    }
    store.close().await;
}

#[tokio::test]
async fn an_order_without_a_time_counts_as_the_oldest() {
    let schema = Schema::migrated().await;
    let (store, user) = (schema.open(), some_user());
    let old = create(&store, user, r#"{"id":"A-1"}"#).await;
    schema
        .execute(&format!("UPDATE orders SET created_at = NULL, updated_at = NULL WHERE order_id = '{old}'"))
        .await;
    let new = create(&store, user, r#"{"id":"A-1"}"#).await;
    let found = store.find_by_external("A-1", user).await.expect("the store reads").expect("an order");
    assert_eq!(found.id, new);
    store.close().await;
}

#[tokio::test]
async fn an_order_with_an_unusable_time_can_be_updated_and_deleted() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    for time in ["infinity", "-infinity", "290000-01-01", "0044-03-15 BC"] {
        let id = create(&store, some_user(), "{}").await;
        let set = async || {
            schema.execute(&format!("UPDATE orders SET updated_at = '{time}' WHERE order_id = '{id}'")).await;
        };
        set().await;
        accept(&store, update(id, "[]")).await;
        assert_eq!(row(&store, id).await.version, 2, "{time}");
        set().await;
        accept(&store, deletion(id)).await;
        assert_eq!(row(&store, id).await.status, Status::Deleted, "{time}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_stored_fails_its_whole_batch() {
    let Fresh { store, _keep } = fresh().await;
    let user = some_user();
    let (old, gone) = (create(&*store, user, "{}").await, create(&*store, user, "{}").await);
    let good = creation(user, "{}");
    let id = good.order_id();
    let change = Command::Update { order_id: old, user_id: None, payload: unstorable(), if_version: None };
    // The batch has every kind of command, so that it takes more than one statement.
    let batch = [good, change, deletion(gone)];
    let error = store.apply(batch.map(Into::into).into()).await.unwrap_err();
    assert!(matches!(&error, Error::BadBatch(reason) if reason.contains("22003")), "{error}");
    assert_eq!(store.get(id).await, Ok(None));
    assert_eq!((row(&*store, old).await.version, row(&*store, gone).await.version), (1, 1));
    // The connection still works.
    create(&*store, user, "{}").await;
}

#[tokio::test]
async fn an_event_whose_order_cannot_be_stored_fails_its_whole_batch() {
    let Fresh { store, _keep } = fresh().await;
    let known = create(&*store, some_user(), "{}").await;
    let creation = Creation { user_id: some_user(), payload: unstorable() };
    let requested = Completion {
        order_id: OrderId::generate(),
        precondition: Precondition::Creation(Box::new(creation)),
        status: Status::Done,
        amount: None,
        reason: None,
    };
    let error = store.complete([done(known, 1, "1"), requested].into()).await.unwrap_err();
    assert!(matches!(error, Error::BadBatch(_)), "{error}");
    assert!(row(&*store, known).await.is_pending());
}

#[tokio::test]
async fn a_reason_may_contain_a_character_that_postgres_cannot_store() {
    let Fresh { store, _keep } = fresh().await;
    let id = create(&*store, some_user(), "{}").await;
    assert_eq!(complete(&*store, failed(id, 1, "a\0b")).await, Completed::Applied);
    assert_eq!(row(&*store, id).await.reason.as_deref(), Some("a\u{fffd}b"));
}

/// The keys of all outbox rows.
async fn outbox(schema: &Schema) -> Vec<(OrderId, i64)> {
    let sql = "SELECT order_id, version FROM orders_outbox ORDER BY order_id, version";
    let rows = schema.connect().await.query(sql, &[]).await.unwrap();
    let key = |row: &tokio_postgres::Row| {
        (OrderId::from_bytes(row.get::<_, uuid::Uuid>(0).into_bytes()), row.get(1))
    };
    rows.iter().map(key).collect()
}

#[tokio::test]
async fn each_accepted_command_leaves_an_outbox_row_until_it_has_been_published() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    let id = create(&store, some_user(), "{}").await;
    accept(&store, update(id, "[]")).await;
    accept(&store, deletion(id)).await;
    assert!(apply(&store, update(id, "{}")).await.is_err());
    assert_eq!(outbox(&schema).await, [(id, 1), (id, 2), (id, 3)]);
    store.published(&[(id, 3), (id, 1)]).await.unwrap();
    assert_eq!(outbox(&schema).await, [(id, 2)]);
    // The event of a version that is not the newest is removed.
    assert_eq!(store.pending(Timestamp::MAX, None, 10).await.unwrap().events, []);
    assert_eq!(outbox(&schema).await, []);
}

#[tokio::test]
async fn outbox_rows_without_an_order_hide_no_pending_event() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    schema
        .execute(
            "INSERT INTO orders_outbox (order_id, version)
             SELECT lpad(to_hex(n), 32, '0')::uuid, 1 FROM generate_series(1, 200) AS n",
        )
        .await;
    let id = create(&store, some_user(), "{}").await;
    let (mut found, mut after) = (Vec::new(), None);
    for _ in 0..10 {
        let page = store.pending(Timestamp::MAX, after, 64).await.unwrap();
        found.extend(page.events.iter().filter_map(|event| event.order_id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((found, after), (vec![id], None));
}

#[tokio::test]
async fn an_outbox_row_with_a_future_time_is_found() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    let id = create(&store, some_user(), "{}").await;
    schema.execute("UPDATE orders_outbox SET created_at = now() + interval '1 year'").await;
    let page = store.pending(store.now().await.unwrap(), None, 10).await.unwrap();
    assert_eq!(page.events.iter().filter_map(|event| event.order_id).collect::<Vec<_>>(), [id]);
}

#[tokio::test]
async fn only_one_of_several_processes_claims_a_pending_event() {
    let schema = Schema::migrated().await;
    let stores: Vec<_> = (0..4).map(|_| schema.open()).collect();
    let user = some_user();
    let mut keys = Vec::new();
    for _ in 0..50 {
        keys.push((create(&stores[0], user, "{}").await, 1));
    }
    let claims = join_all(stores.iter().map(|store| store.claim(&keys))).await;
    let claims: Vec<Vec<bool>> = claims.into_iter().map(Result::unwrap).collect();
    for (at, key) in keys.iter().enumerate() {
        let owners = claims.iter().filter(|mine| mine[at]).count();
        assert_eq!(owners, 1, "{key:?}");
    }
    // Other processes do not see claimed events until the claims expire.
    assert_eq!(stores[1].pending(Timestamp::MAX, None, 100).await.unwrap().events, []);
    schema.execute("UPDATE orders_outbox SET claimed_until = now() - interval '1 ms'").await;
    assert_eq!(stores[1].pending(Timestamp::MAX, None, 100).await.unwrap().events.len(), 50);
    assert_eq!(stores[2].claim(&keys).await.unwrap(), [true; 50]);
}

#[tokio::test]
async fn an_event_is_built_although_other_columns_cannot_be_read() {
    let schema = Schema::migrated().await;
    let (store, user) = (schema.open(), some_user());
    let mut ids = Vec::new();
    for damage in [
        "amount = 'NaN'",
        "amount = 'Infinity'",
        "amount = '1e131071'",
        "created_at = 'infinity'",
        "updated_at = '-infinity'",
        "deleted_at = 'infinity'",
        "created_at = NULL, updated_at = NULL, amount = NULL",
        "reason = repeat('r', 4000000)",
    ] {
        let id = create(&store, user, r#"{"id":"A"}"#).await;
        schema.execute(&format!("UPDATE orders SET {damage} WHERE order_id = '{id}'")).await;
        ids.push(id);
    }
    let page = store.pending(Timestamp::MAX, None, 10).await.unwrap();
    let contents = page.events.iter().map(|event| {
        (event.order_id.unwrap(), event.version, event.status, event.user_id, event.payload.external_id())
    });
    let expected = ids.iter().map(|id| (*id, Some(1), Status::New, Some(user), "A"));
    assert!(contents.eq(expected), "{page:?}");
}

#[tokio::test]
async fn an_unreadable_row_blocks_no_other_row() {
    let schema = Schema::migrated().await;
    let (store, user) = (schema.open(), some_user());
    let (before, damaged) = (create(&store, user, "{}").await, create(&store, user, "{}").await);
    let after = create(&store, user, "{}").await;
    schema.execute(&format!("UPDATE orders SET status = 'lost' WHERE order_id = '{damaged}'")).await;
    let page = store.pending(Timestamp::MAX, None, 10).await.unwrap();
    let orders: Vec<_> = page.events.iter().map(|event| event.order_id.unwrap()).collect();
    assert_eq!(orders, [before, after]);
    assert!(
        outbox(&schema).await.contains(&(damaged, 1)),
        "its event waits until an operator repairs the order"
    );
    let states = store.processed_versions(&[before, damaged, after]).await.unwrap();
    assert_eq!(states.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
}

#[tokio::test]
async fn the_workers_update_touches_no_index() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    for _ in 0..100 {
        let id = create(&store, some_user(), r#"{"id": "A"}"#).await;
        complete(&store, done(id, 1, "5")).await;
    }
    let client = schema.connect().await;
    let sql = "SELECT coalesce(sum(n_tup_upd), 0)::int8, coalesce(sum(n_tup_hot_upd), 0)::int8
                 FROM pg_stat_user_tables WHERE schemaname = current_schema() AND relname LIKE 'orders\\_p_'";
    // The server's statistics have a delay.
    let (updates, hot): (i64, i64) = until("the statistics", async || {
        let row = client.query_one(sql, &[]).await.expect("statistics");
        (row.get::<_, i64>(0) >= 100).then(|| (row.get(0), row.get(1)))
    })
    .await;
    assert_eq!(hot, updates);
}
