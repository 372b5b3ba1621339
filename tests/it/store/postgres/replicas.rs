//! Several processes with one Postgres: concurrent equal requests are executed once, and a reader of the history misses
//! no event, for any order in which transactions begin and end. Open transactions of the test fix that order.

use std::sync::Arc;

use orderstream::order::{
    Cause, Command, CommandRequest, HistoryCursor, HistoryEvent, HistoryOffset, Key, OrderId, Scope, Status,
};
use orderstream::store::postgres::{Options, PostgresStore};
use orderstream::store::{Accepted, Completed, History, OrderHistoryPage, Orders};
use tokio::task::JoinSet;

use crate::harness::schema::Schema;
use crate::harness::wait::until;
use crate::store::conformance::{accept, complete, create, creation, done, row, some_user, update};

/// The stores of two processes, each with several connections.
fn replicas(schema: &Schema) -> [Arc<PostgresStore>; 2] {
    let options = Options { write_connections: 3, ..schema.options() };
    [(); 2].map(|()| Arc::new(PostgresStore::open(&options).expect("a DSN that can be used")))
}

/// Sends a request fifty times at once, to each of the replicas in turn. Answers the orders and versions of the
/// executed requests, and those of the replayed ones.
async fn fifty_times(
    stores: &[Arc<PostgresStore>; 2],
    request: impl Fn() -> CommandRequest,
) -> (Vec<(OrderId, i64)>, Vec<(OrderId, i64)>) {
    let mut tasks = JoinSet::new();
    for n in 0..50 {
        let (store, request) = (Arc::clone(&stores[n % 2]), request());
        tasks.spawn(async move { store.apply([request].into()).await.expect("the store takes the batch") });
    }
    let (mut now, mut before) = (Vec::new(), Vec::new());
    for answer in tasks.join_all().await.into_iter().flatten() {
        match answer.expect("nothing is refused") {
            Accepted::Applied(event) => now.push((event.order_id.unwrap(), event.version.unwrap())),
            Accepted::Replayed(replayed) => before.push((replayed.order_id, replayed.version)),
            Accepted::AppliedWithoutEvent(done) => panic!("nothing was deleted: {done:?}"),
        }
    }
    (now, before)
}

async fn count(schema: &Schema, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    schema.connect().await.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_equal_creations_on_two_replicas_create_one_order() {
    let schema = Schema::migrated().await;
    let (stores, user) = (replicas(&schema), some_user());
    for orders in 1..=5 {
        let key = Some(Key { digest: *OrderId::generate().as_bytes(), content: [1; 16] });
        let request = || CommandRequest { command: creation(user, "{}"), key };
        let (now, before) = fifty_times(&stores, request).await;
        assert_eq!(now.len(), 1);
        assert_eq!(before, vec![now[0]; 49]);
        for table in ["orders", "orders_outbox", "orders_keys", "orders_history"] {
            assert_eq!(count(&schema, table).await, orders, "{table}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_equal_updates_on_two_replicas_are_one_update() {
    let schema = Schema::migrated().await;
    let stores = replicas(&schema);
    let id = create(&*stores[0], some_user(), "{}").await;
    for version in 2..=6 {
        let key = Some(Key { digest: *OrderId::generate().as_bytes(), content: [1; 16] });
        // The update is in one transaction with others.
        let request = || CommandRequest { command: update(id, "[]"), key };
        let (now, before) = fifty_times(&stores, request).await;
        assert_eq!((now, before), (vec![(id, version)], vec![(id, version); 49]));
        assert_eq!(row(&*stores[0], id).await.version, version);
    }
}

#[tokio::test]
async fn a_repeated_batch_of_all_kinds_is_answered_for_each_request() {
    let schema = Schema::migrated().await;
    let (store, user) = (schema.open(), some_user());
    let (changed, gone) = (create(&store, user, "{}").await, create(&store, user, "{}").await);
    let key = |n: u8| Some(Key { digest: [n; 16], content: [n; 16] });
    let new_order = OrderId::generate();
    let creation_of_new = Command::Create {
        order_id: new_order,
        user_id: user,
        payload: crate::store::conformance::payload("{}"),
    };
    let batch: Arc<[CommandRequest]> = Arc::new([
        CommandRequest { command: crate::store::conformance::deletion(gone), key: key(1) },
        CommandRequest { command: creation_of_new, key: key(2) },
        update(changed, "[]").into(),
        CommandRequest { command: update(OrderId::generate(), "[]"), key: key(3) },
    ]);
    let first = store.apply(Arc::clone(&batch)).await.unwrap();
    let repeated = store.apply(batch).await.unwrap();
    let outcomes = |answers: &[Result<Accepted, _>]| -> Vec<_> {
        let outcome = |answer: &Result<Accepted, _>| match answer {
            Ok(Accepted::Applied(event)) => {
                Some((false, event.order_id.unwrap(), event.version.unwrap(), event.status))
            }
            Ok(Accepted::Replayed(replayed) | Accepted::AppliedWithoutEvent(replayed)) => {
                Some((true, replayed.order_id, replayed.version, replayed.status))
            }
            Err(orderstream::store::Refusal::NotFound) => None,
            Err(refusal) => panic!("{refusal}"),
        };
        answers.iter().map(outcome).collect()
    };
    let expected = |before, version| {
        vec![
            Some((before, gone, 2, Status::Deleted)),
            Some((before, new_order, 1, Status::New)),
            Some((false, changed, version, Status::Processing)),
            None,
        ]
    };
    assert_eq!((outcomes(&first), outcomes(&repeated)), (expected(false, 2), expected(true, 3)));
    assert_eq!(count(&schema, "orders_keys").await, 2);
}

/// The history events behind an offset that are visible to a reader now.
async fn all_events(store: &PostgresStore, after: HistoryOffset) -> Vec<HistoryEvent> {
    let page = store.history_page(Scope::All, after, 100).await.unwrap();
    assert!(!page.more);
    page.events
}

#[tokio::test]
async fn a_history_event_waits_for_transactions_that_began_before_it() {
    let schema = Schema::migrated().await;
    let (store, user) = (schema.open(), some_user());
    let held = create(&store, user, "{}").await;
    until("the first event", async || {
        (all_events(&store, HistoryOffset::default()).await.len() == 1).then_some(())
    })
    .await;
    // Another process writes, and has not committed.
    let other = schema.connect().await;
    let place = "pg_current_xact_id()::text::bigint + (SELECT origin FROM orders_history_origin)";
    let sql = format!(
        "BEGIN; INSERT INTO orders_history (place, order_id, user_id, version, at, cause, status)
         SELECT {place}, order_id, user_id, 2, now(), 'command', 'processing' FROM orders"
    );
    let start = store.history_end().await.unwrap();
    other.batch_execute(&sql).await.unwrap();
    let id = create(&store, user, "{}").await;
    let end = store.history_end().await.unwrap();
    assert_eq!(all_events(&store, start).await, []);
    assert_eq!(
        store.history(id, HistoryCursor::default(), 10).await.unwrap().events.len(),
        1,
        "a reader of the order sees its event at once"
    );
    other.batch_execute("COMMIT").await.unwrap();
    // Both events are visible, in the order in which their transactions began, and behind the end that was read.
    let events = until("both events", async || {
        let events = all_events(&store, start).await;
        (events.len() == 2).then_some(events)
    })
    .await;
    assert_eq!(
        events.iter().map(|event| (event.order_id, event.version)).collect::<Vec<_>>(),
        [(held, 2), (id, 1)]
    );
    assert_eq!(all_events(&store, end).await, events);
}

#[tokio::test]
async fn history_events_of_an_order_keep_its_order_across_transactions() {
    let schema = Schema::migrated().await;
    let (stores, user) = (replicas(&schema), some_user());
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(create(&*stores[0], user, "{}").await);
    }
    // A batch of updates gets its transaction number at the first order, waits for the second, and updates the third
    // last.
    let other = schema.connect().await;
    let sql = format!("BEGIN; SELECT 1 FROM orders WHERE order_id = '{}' FOR UPDATE", ids[1]);
    other.batch_execute(&sql).await.unwrap();
    let batch: Arc<[CommandRequest]> = ids.iter().map(|id| update(*id, "[]").into()).collect();
    let store = Arc::clone(&stores[0]);
    let updating = tokio::spawn(async move { store.apply(batch).await });
    let client = schema.connect().await;
    let sql = "SELECT 1 FROM pg_locks waiting JOIN pg_locks held USING (pid)
                WHERE NOT waiting.granted AND held.relation = 'orders_p0'::regclass LIMIT 1";
    until("the batch to wait", async || client.query_opt(sql, &[]).await.expect("the locks")).await;
    assert_eq!(complete(&*stores[1], done(ids[2], 1, "5")).await, Completed::Applied);
    other.batch_execute("ROLLBACK").await.unwrap();
    assert!(updating.await.unwrap().unwrap().iter().all(Result::is_ok));

    let seen = until("its events", async || {
        let page = stores[1].history_page(Scope::Order(ids[2]), HistoryOffset::default(), 10).await.unwrap();
        (page.events.len() == 3).then_some(page.events)
    })
    .await;
    let changes: Vec<_> = seen.iter().map(|event| (event.version, event.cause, event.status)).collect();
    assert_eq!(
        changes,
        [
            (1, Cause::Command, Status::New),
            (1, Cause::Worker, Status::Done),
            (2, Cause::Command, Status::Processing)
        ]
    );
    assert_eq!(seen, stores[0].history(ids[2], HistoryCursor::default(), 10).await.unwrap().events);
}

#[tokio::test]
async fn a_store_without_a_history_writes_none_and_can_start_one_later() {
    let schema = Schema::migrated().await;
    let store = PostgresStore::open(&Options { history: false, ..schema.options() }).unwrap();
    let id = create(&store, some_user(), "{}").await;
    complete(&store, done(id, 1, "1")).await;
    let event = accept(&store, update(id, "[]")).await;
    assert_eq!(event.version, Some(2));
    assert_eq!(store.history(id, HistoryCursor::default(), 10).await, Ok(OrderHistoryPage::default()));
    assert_eq!(all_events(&store, HistoryOffset::default()).await, []);
    let keeping = schema.open();
    complete(&keeping, done(id, 2, "1")).await;
    let kept = keeping.history(id, HistoryCursor::default(), 10).await.unwrap();
    assert_eq!(
        kept.events.iter().map(|event| (event.version, event.cause)).collect::<Vec<_>>(),
        [(2, Cause::Worker)]
    );
    assert_eq!(store.history(id, HistoryCursor::default(), 10).await, Ok(kept));
}
