//! The checker on Postgres, over rows that were damaged past the service as far as the constraints of the database
//! allow. It reports the same findings as in the embedded store, and those of the outbox.

use std::collections::BTreeSet;

use orderstream::checker::verify::{Confirmed, Options, Report, verify};
use orderstream::order::{OrderId, Status};
use orderstream::store::postgres::PostgresStore;
use orderstream::store::{Completed, Completion, Maintenance, Outbox, Precondition};

use crate::harness::schema::Schema;
use crate::store::conformance::{accept, complete, create, deletion, done, failed, some_user};

const STRICT: Options = Options { idle: false, amounts: true, listed: 100 };

/// A kind of order.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Done,
    Failed,
    Pending,
    Deleted,
}

use Kind::{Deleted, Done, Failed, Pending};

/// Creates an order of a kind, like the service does.
async fn order(store: &PostgresStore, kind: Kind) -> OrderId {
    let id = create(store, some_user(), r#"{"id":"A-1","items":[{"price":9.90,"qty":2}]}"#).await;
    let completions = match kind {
        Pending => Vec::new(),
        Done => vec![done(id, 1, "19.8")],
        Failed => vec![failed(id, 1, "no")],
        Deleted => {
            assert_eq!(complete(store, done(id, 1, "19.8")).await, Completed::Applied);
            accept(store, deletion(id)).await;
            let (precondition, status) = (Precondition::Version(2), Status::Deleted);
            vec![Completion { order_id: id, precondition, status, amount: None, reason: None }]
        }
    };
    for completion in completions {
        assert_eq!(complete(store, completion).await, Completed::Applied);
    }
    id
}

async fn check(store: &PostgresStore, confirmed: Confirmed, options: &Options) -> Report {
    verify(store, 0, confirmed, options).await.unwrap()
}

/// The findings by order and code, without their sequence.
fn codes(report: &Report) -> BTreeSet<(OrderId, &'static str)> {
    assert_eq!(report.found, report.findings.len() as u64, "no finding is reported twice");
    report.findings.iter().map(|finding| (finding.order_id, finding.fault.code())).collect()
}

#[tokio::test]
async fn an_undamaged_schema_has_no_findings() {
    let schema = Schema::migrated().await;
    let (store, mut confirmed) = (schema.open(), Confirmed::default());
    for kind in [Done, Failed, Pending, Deleted] {
        confirmed.add_stored(order(&store, kind).await);
    }
    confirmed.add_deleted(order(&store, Deleted).await);
    let report = check(&store, confirmed, &STRICT).await;
    let expected = Report { orders: [1, 0, 1, 1, 0, 2], pending: 1, confirmed: 5, ..Report::default() };
    assert_eq!(report, expected);
}

#[tokio::test]
async fn exactly_the_damage_to_a_row_is_reported() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    let mut expected_findings = BTreeSet::new();
    for (kind, change, expected) in [
        // On an order that is done this is not a finding: the worker of another service does not change versions.
        (Deleted, "processed_version = 3", &["processed_too_far"][..]),
        (Pending, "processed_version = 2", &["processed_too_far", "unfinished"]),
        (Done, "status = 'processing'", &["unfinished"]),
        (Done, "status = 'new'", &["unfinished"]),
        (Done, "amount = 19.81", &["wrong_amount"]),
        (Done, "amount = NULL", &["wrong_amount"]),
        (Done, "payload = NULL", &["wrong_amount"]),
        (Done, r#"payload = '{"id":"A-1","amount":"1e2000"}'"#, &["no_amount"]),
        (Done, r#"payload = '{"id":"A-1","n":1e400}'"#, &["bad_payload"]),
        (Done, "updated_at = created_at - interval '1 microsecond'", &["changed_before_created"]),
        (Failed, "reason = NULL", &["failed_without_reason"]),
        (Deleted, "status = 'done'", &["came_back"]),
        (Deleted, "status = 'failed', reason = 'no'", &["came_back"]),
        (Deleted, "deleted_at = NULL", &["deletion_undated"]),
        (Done, "status = 'paid'", &["unreadable"]),
        (Done, "amount = 'NaN'", &["unreadable"]),
        (Done, "created_at = '-infinity'", &["unreadable"]),
    ] {
        let id = order(&store, kind).await;
        schema.execute(&format!("UPDATE orders SET {change} WHERE order_id = '{id}'")).await;
        expected_findings.extend(expected.iter().map(|code| (id, *code)));
        assert_eq!(codes(&check(&store, Confirmed::default(), &STRICT).await), expected_findings, "{change}");
    }
}

#[tokio::test]
async fn missing_rows_are_reported_for_confirmed_orders_and_outbox_entries() {
    let schema = Schema::migrated().await;
    let (store, mut confirmed) = (schema.open(), Confirmed::default());
    let (kept, lost, orphan) = (order(&store, Done).await, order(&store, Done).await, OrderId::generate());
    confirmed.add_stored(lost);
    confirmed.add_deleted(kept);
    schema.execute(&format!("DELETE FROM orders WHERE order_id = '{lost}'; DELETE FROM orders_outbox")).await;
    schema.execute(&format!("INSERT INTO orders_outbox (order_id, version) VALUES ('{orphan}', 1)")).await;
    let report = check(&store, confirmed, &STRICT).await;
    assert_eq!(
        codes(&report),
        [(lost, "lost"), (kept, "not_deleted"), (orphan, "outbox_orphan")].into_iter().collect()
    );
}

#[tokio::test]
async fn missing_rows_of_large_tables_are_found_page_by_page() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    let fill = "
        INSERT INTO orders (order_id, user_id, status, payload, created_at, updated_at, bucket, version,
                            processed_version)
        SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, gen_random_uuid(),
               CASE WHEN n % 15000 = 1 THEN 'new' ELSE 'done' END, '{}', '2025-01-01', '2025-01-01', 0, 1,
               CASE WHEN n % 15000 = 1 THEN 0 ELSE 1 END
          FROM generate_series(1, 45000) n;
        INSERT INTO orders_outbox (order_id, version)
        SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n * 2), 12, '0'))::uuid, 1 FROM generate_series(1, 22502) n";
    schema.execute(fill).await;
    let number = |id: &OrderId| u128::from_be_bytes(*id.as_bytes()) & 0xffff_ffff;
    let (before, mut missing, mut after) = (store.now().await.unwrap(), BTreeSet::new(), None);
    loop {
        let page = store.missing_outbox_entries(before, after, 20_000).await.unwrap();
        missing.extend(page.entries.iter().map(|entry| number(&entry.order_id)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(missing, [1, 15_001, 30_001].into());
    let orphans = store.outbox_orphans().await.unwrap();
    assert_eq!(orphans.iter().map(number).collect::<Vec<_>>(), [45_002, 45_004]);
}

#[tokio::test]
async fn idle_reports_pending_orders_and_amounts_can_be_skipped() {
    let schema = Schema::migrated().await;
    let store = schema.open();
    let (waiting, _) = (order(&store, Pending).await, order(&store, Done).await);
    schema.execute("UPDATE orders SET amount = 1 WHERE status = 'done'").await;
    let options = Options { idle: true, amounts: false, ..STRICT };
    let report = check(&store, Confirmed::default(), &options).await;
    assert_eq!(codes(&report), [(waiting, "pending")].into_iter().collect());
    let options = Options { idle: true, listed: 1, ..STRICT };
    let report = check(&store, Confirmed::default(), &options).await;
    assert_eq!((report.found, report.findings.len()), (2, 1));
}
