//! Orders whose payloads are too long when their numbers are written out, stored by older versions or by other
//! services. A read reports such an order, it can be deleted or get another payload, and it blocks no other order in
//! lists, in the sweep or in the checker.

use std::collections::BTreeSet;

use jiff::Timestamp;
use orderstream::checker::findings::Fault;
use orderstream::checker::verify::{Confirmed, Options, verify};
use orderstream::order::{Command, Filter, HistoryOffset, OrderId, Payload, Scope, Status};
use orderstream::store::postgres::{self, PostgresStore};
use orderstream::store::{Error, Lists, Maintenance, Orders, Outbox};

use crate::clients::USER;
use crate::clients::answers::{create, member, order, problem};
use crate::clients::grpc;
use crate::clients::grpc::proto::orders::service::v1::GetOrderByIdRequest;
use crate::clients::grpc::{connect, refused};
use crate::harness::app::{Setup, TestApp};
use crate::harness::schema::Schema;
use crate::harness::wait::until;
use crate::store::conformance::{accept, create as create_in, some_user};

/// SQL for a payload of that many numbers. Written out, 65,600 of the smallest are more than the server can make.
fn payload(number: &str, count: usize) -> String {
    format!(
        r#"('{{"id":"L-1","n":[' || (SELECT string_agg('{number}', ',') FROM generate_series(1, {count})) || ']}}')::jsonb"#
    )
}

/// Payloads that are too long: some that HTTP once accepted, shorter and longer than the limit up to which the server
/// searches for long numbers, and one that only SQL can write.
fn too_long() -> [String; 4] {
    [
        payload("1e-16383", 1000),
        payload("1e-16383", 7000),
        payload("1e-16383", 65_600),
        payload("1e131071", 4000),
    ]
}

/// Inserts an order as another service does, and answers its id.
async fn insert(app: &TestApp, payload: &str) -> String {
    let id = OrderId::generate();
    let values = format!("'{id}', '{USER}', 'done', {payload}, {}", id.bucket());
    app.execute(&format!(
        "INSERT INTO orders (order_id, user_id, status, payload, bucket) VALUES ({values})"
    ))
    .await;
    id.to_string()
}

#[tokio::test]
async fn an_order_with_a_too_long_payload_can_be_deleted_or_replaced() {
    let app = Setup::new().start_on_postgres().await;
    for payload in too_long() {
        let (deleted, replaced) = (insert(&app, &payload).await, insert(&app, &payload).await);
        for path in [
            format!("/orders/{deleted}"),
            format!("/orders/{deleted}/history"),
            format!("/orders/by-external/L-1?user_id={USER}"),
        ] {
            let answer = app.client.get(&path).await;
            let detail = problem(&answer, "order_unreadable");
            assert!(detail.contains("delete the order") && detail.contains("payload"), "{detail}");
            assert!([&deleted, &replaced].contains(&&member(answer.text(), "order_id")), "{answer:?}");
        }
        let request = GetOrderByIdRequest { order_id: deleted.clone() };
        refused(connect(app.grpc).get_order_by_id(request).await, "order_unreadable");

        let answer = app.client.request("DELETE", &format!("/orders/{deleted}"), &[], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let event = &app.journal.traffic().events_of(&deleted)[0];
        let event = str::from_utf8(&event.value).expect("text");
        assert_eq!(
            (member(event, "payload").as_str(), member(event, "status").as_str()),
            ("null", "deleted")
        );
        assert_eq!(member(event, "external_id"), "L-1");
        app.execute(&format!("DELETE FROM orders WHERE order_id = '{deleted}'")).await;

        let mut orders = connect(app.grpc);
        let answer = orders.upsert_order(grpc::update(&replaced, r#"{"amount":7}"#)).await;
        assert_eq!(grpc::upserted(answer, "updated"), replaced);
        assert_eq!(member(&order(&app.client, &replaced).await, "amount"), "7");
    }
    app.finish().await;
}

#[tokio::test]
async fn an_order_with_a_foreign_status_or_version_is_reported_as_unreadable() {
    let app = Setup::new().start_on_postgres().await;
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(insert(&app, "'{}'").await);
    }
    let [deleted, replaced, gone, endless, nearly, last, zero, negative] = ids.as_slice() else {
        unreachable!()
    };
    app.execute(&format!(
        "UPDATE orders SET status = 'weird' WHERE order_id IN ('{deleted}', '{replaced}');
         UPDATE orders SET status = 'weird', deleted_at = '2025-01-01' WHERE order_id = '{gone}';
         UPDATE orders SET status = 'weird', deleted_at = 'infinity' WHERE order_id = '{endless}';
         UPDATE orders SET version = 9223372036854775807 - (order_id = '{nearly}')::int WHERE order_id IN ('{nearly}', '{last}');
         UPDATE orders SET version = CASE order_id WHEN '{zero}' THEN 0 ELSE -2 END WHERE order_id IN ('{zero}', '{negative}');
         UPDATE orders SET processed_version = version"
    ))
    .await;
    problem(&app.client.get(&format!("/orders/{deleted}")).await, "order_unreadable");
    let answer = app.client.request("DELETE", &format!("/orders/{deleted}"), &[], "").await;
    assert_eq!((answer.status, member(answer.text(), "status").as_str()), (200, "deleted"));
    let update = format!(r#"{{"order_id":"{replaced}","payload":{{"amount":7}}}}"#);
    assert_eq!(app.client.post("/orders", update).await.status, 200);
    assert_eq!(member(&order(&app.client, replaced).await, "status"), "done");
    // A deleted order stays deleted, with any status, and keeps the time of its first deletion.
    let update = format!(r#"{{"order_id":"{gone}","payload":{{"amount":7}}}}"#);
    let answer = app.client.post("/orders", update).await;
    assert_eq!((answer.status, member(answer.text(), "status").as_str()), (409, "deleted"));
    assert_eq!(app.client.request("DELETE", &format!("/orders/{gone}"), &[], "").await.status, 200);
    let kept = format!("SELECT (deleted_at = '2025-01-01')::text FROM orders WHERE order_id = '{gone}'");
    assert_eq!(app.query(&kept).await.as_deref(), Some("true"));
    // A deletion replaces a time that cannot be read.
    problem(&app.client.get(&format!("/orders/{endless}")).await, "order_unreadable");
    assert_eq!(app.client.request("DELETE", &format!("/orders/{endless}"), &[], "").await.status, 200);
    assert_eq!(member(&order(&app.client, endless).await, "status"), "deleted");
    let update = format!(r#"{{"order_id":"{nearly}","payload":{{"amount":7}}}}"#);
    assert_eq!(app.client.post("/orders", update).await.status, 200);
    let shown = order(&app.client, nearly).await;
    assert_eq!([member(&shown, "version"), member(&shown, "status")], [&i64::MAX.to_string(), "done"]);
    // No version can follow these; that has nothing to do with the payload.
    for id in [nearly, last, zero, negative] {
        let answer = app.client.request("DELETE", &format!("/orders/{id}"), &[], "").await;
        problem(&answer, "order_unreadable");
        let update = format!(r#"{{"order_id":"{id}","payload":{{"amount":7}}}}"#);
        problem(&app.client.post("/orders", update.clone()).await, "order_unreadable");
        let key = [("idempotency-key", id.as_str())];
        problem(&app.client.request("POST", "/orders", &key, update).await, "order_unreadable");
        let update =
            app.client.request("PUT", &format!("/orders/{id}"), &[], r#"{"payload":{"amount":7}}"#).await;
        problem(&update, "order_unreadable");
        app.execute(&format!("DELETE FROM orders WHERE order_id = '{id}'")).await;
    }
    app.finish().await;
}

#[tokio::test]
async fn a_long_reason_of_another_service_is_cut_in_answers() {
    let app = Setup::new().start_on_postgres().await;
    let id = insert(&app, "'{}'").await;
    app.execute(&format!(
        "UPDATE orders SET status = 'failed', reason = repeat('ж', 4000000) WHERE order_id = '{id}';
         INSERT INTO orders_history (place, order_id, user_id, version, at, cause, status, reason)
         SELECT 1, order_id, user_id, version, now(), 'worker', status, reason FROM orders WHERE order_id = '{id}'"
    ))
    .await;
    for path in [format!("/orders/{id}"), format!("/orders?user_id={USER}"), format!("/orders/{id}/history")]
    {
        let answer = app.client.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.text().matches('ж').count(), 1000, "{path}");
    }
    let events = app
        .store
        .history_page(Scope::All, HistoryOffset::default(), 10)
        .await
        .expect("the store reads")
        .events;
    assert_eq!(events[0].reason, Some("ж".repeat(1000)));
    let report =
        verify(&*app.store, 0, Confirmed::default(), &Options { idle: true, amounts: false, listed: 10 });
    let report = report.await.expect("a store to read");
    assert_eq!((report.total(), report.found), (1, 0), "{:?}", report.findings);
    app.finish().await;
}

#[tokio::test]
async fn a_long_amount_of_another_service_blocks_no_other_order() {
    let app = Setup::new().start_on_postgres().await;
    let mut ids = Vec::new();
    for amount in ["1e131071", "1e-16383", "NaN", "Infinity", "1e999", "1e-1000"] {
        let id = insert(&app, "'{}'").await;
        app.execute(&format!("UPDATE orders SET amount = '{amount}' WHERE order_id = '{id}'")).await;
        ids.push(id);
    }
    app.execute(
        "INSERT INTO orders_history (place, order_id, user_id, version, at, cause, status, amount)
         SELECT 1, order_id, user_id, version, now(), 'event', status, amount FROM orders",
    )
    .await;
    for (at, id) in ids.iter().enumerate() {
        let answer = app.client.get(&format!("/orders/{id}")).await;
        // The last two have the greatest length that is allowed.
        match at {
            ..4 => drop(problem(&answer, "order_unreadable")),
            _ => assert_eq!(member(&member(answer.text(), "order"), "amount").len(), [1000, 1002][at - 4]),
        }
    }
    let events = app
        .store
        .history_page(Scope::All, HistoryOffset::default(), 10)
        .await
        .expect("the store reads")
        .events;
    let listed: BTreeSet<String> = events.iter().map(|event| event.order_id.to_string()).collect();
    assert_eq!(listed, ids[4..].iter().cloned().collect());
    let report =
        verify(&*app.store, 0, Confirmed::default(), &Options { idle: true, amounts: false, listed: 10 });
    let report = report.await.expect("a store to read");
    assert_eq!(report.found, 4, "{:?}", report.findings);
    let is_short = |fault: &Fault| matches!(fault, Fault::Unreadable(what) if what.len() < 100);
    assert!(report.findings.iter().all(|finding| is_short(&finding.fault)), "{:?}", report.findings);
    app.execute(&format!("DELETE FROM orders WHERE order_id = ANY ('{{{}}}')", ids.join(","))).await;
    app.finish().await;
}

#[tokio::test]
async fn orders_with_too_long_payloads_block_no_list_and_no_check() {
    let app = Setup::new().start_on_postgres().await;
    let before = create(&app.client, r#"{"amount":1}"#).await;
    let mut long = Vec::new();
    for payload in too_long() {
        long.push(insert(&app, &payload).await);
    }
    let after = create(&app.client, r#"{"amount":2}"#).await;
    for path in ["/orders".to_owned(), format!("/orders?user_id={USER}&status=done&limit=200")] {
        let answer = app.client.get(&path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let shown = answer.text();
        assert!(shown.contains(&before) && shown.contains(&after), "{shown}");
        assert!(long.iter().all(|id| !shown.contains(id)), "{shown}");
    }
    let options = Options { idle: true, amounts: true, listed: 10 };
    let report = verify(&*app.store, 0, Confirmed::default(), &options).await.expect("a store to read");
    assert_eq!(report.total(), 2);
    let found: Vec<String> = report.findings.iter().map(|finding| finding.order_id.to_string()).collect();
    assert_eq!(found, long);
    let unreadable = |fault: &Fault| matches!(fault, Fault::Unreadable(what) if what.contains("too long"));
    assert!(report.findings.iter().all(|finding| unreadable(&finding.fault)), "{:?}", report.findings);
    app.execute("DELETE FROM orders WHERE payload ? 'n'").await;
    app.finish().await;
}

#[tokio::test]
async fn a_pending_order_with_a_too_long_payload_fails_and_blocks_none() {
    let app = Setup::new().start_on_postgres().await;
    // The rows are as an older version left them, with an ordinary order behind them.
    let mut long = Vec::new();
    for payload in too_long() {
        long.push(insert(&app, &payload).await);
    }
    let (gone, behind) = (insert(&app, &too_long()[1]).await, insert(&app, r#"'{"amount":3}'"#).await);
    app.execute(&format!(
        "UPDATE orders SET processed_version = 0, status = CASE WHEN order_id = '{gone}' THEN 'deleted' ELSE 'new' END,
                deleted_at = CASE WHEN order_id = '{gone}' THEN now() END;
         INSERT INTO orders_outbox (order_id, version, created_at)
         SELECT order_id, 1, now() - interval '1 minute' FROM orders"
    ))
    .await;
    until("the order behind them", async || {
        (member(&order(&app.client, &behind).await, "status") == "done").then_some(())
    })
    .await;
    for id in &long {
        let reason = until("a failed order", async || {
            let sql = format!(
                "SELECT reason FROM orders WHERE order_id = '{id}' AND status = 'failed' AND processed_version = 1"
            );
            app.query(&sql).await
        })
        .await;
        assert!(reason.contains("too long"), "{reason}");
    }
    let event = app.journal.until(|traffic| !traffic.events_of(&gone).is_empty()).await.events_of(&gone);
    let event = str::from_utf8(&event[0].value).expect("text").to_owned();
    assert_eq!((member(&event, "payload").as_str(), member(&event, "status").as_str()), ("null", "deleted"));
    until("an empty outbox", async || {
        let left = app.query("SELECT count(*)::text FROM orders_outbox").await;
        (left.as_deref() == Some("0")).then_some(())
    })
    .await;
    assert!(long.iter().all(|id| app.journal.traffic().events_of(id).is_empty()));
    app.execute("DELETE FROM orders WHERE payload ? 'n'").await;
    app.finish().await;
}

#[tokio::test]
async fn a_row_that_the_server_cannot_read_blocks_no_other_row() {
    let schema = Schema::migrated().await;
    // The server needs its stack to read a nested value, and here the stack is small.
    let dsn = format!("{}%20-cmax_stack_depth%3D100kB", schema.dsn);
    let store = PostgresStore::open(&postgres::Options { dsn, ..schema.options() }).expect("a DSN");
    let user = some_user();
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(create_in(&store, user, r#"{"id":"A"}"#).await);
    }
    let bad = ids.remove(17);
    let deep =
        "jsonb_build_object('id', 'deep', 'n', (repeat('[', 5000) || '1' || repeat(']', 5000))::jsonb)";
    schema.execute(&format!("UPDATE orders SET payload = {deep} WHERE order_id = '{bad}'")).await;

    let found = store.find_by_external("deep", user).await;
    for read in [store.get(bad).await, found] {
        assert!(matches!(&read, Err(Error::Damaged(damaged)) if damaged.order_id == bad), "{read:?}");
    }
    let (mut after, mut seen, mut damaged) = (None, Vec::new(), Vec::new());
    loop {
        let page = store.scan(after, 100).await.expect("a page");
        let Some(last) = page.last() else { break };
        after = Some(last.as_ref().map_or_else(|damaged| damaged.order_id, |order| order.id));
        for row in page {
            match row {
                Ok(order) => seen.push(order.id),
                Err(row) => damaged.push(row.order_id),
            }
        }
    }
    assert_eq!((&seen, &damaged), (&ids, &vec![bad]));

    let (mut after, mut published) = (None, Vec::new());
    loop {
        let page = store.pending(Timestamp::MAX, after, 64).await.expect("a page");
        assert_eq!(page.unpublishable, []);
        published.extend(page.events.into_iter().filter_map(|event| event.order_id));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(published, ids);

    let page = store.list(&Filter::default(), None, 100).await.expect("a page");
    let mut listed: Vec<OrderId> = page.orders.iter().map(|order| order.id).collect();
    listed.reverse();
    assert_eq!((listed, page.next), (ids, None));

    let deleted = accept(&store, Command::Delete { order_id: bad, user_id: None, if_version: None }).await;
    let content = (deleted.status, deleted.payload.as_str(), deleted.payload.external_id());
    assert_eq!(content, (Status::Deleted, "null", "deep"));
    // The sweep finds the event, too, where it must be republished.
    let mut after = None;
    let found = loop {
        let page = store.pending(Timestamp::MAX, after, 64).await.expect("a page");
        after = page.next;
        if let Some(event) = page.events.into_iter().find(|event| event.order_id == Some(bad)) {
            break event;
        }
        assert!(after.is_some(), "the event of the deletion is not found");
    };
    assert_eq!(
        (found.status, found.payload.as_str(), found.version),
        (Status::Deleted, "null", deleted.version)
    );
    // After it has been processed, it is not pending.
    schema.execute(&format!("UPDATE orders SET processed_version = version WHERE order_id = '{bad}'")).await;
    let mut after = None;
    loop {
        let page = store.pending(Timestamp::MAX, after, 64).await.expect("a page");
        assert!(page.events.iter().all(|event| event.order_id != Some(bad)));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let sql = format!("SELECT 1 FROM orders_outbox WHERE order_id = '{bad}'");
    assert_eq!(schema.connect().await.query(&sql, &[]).await.expect("rows").len(), 0);
    store.close().await;
}

#[tokio::test]
async fn an_old_payload_in_the_embedded_store_is_read_published_and_deleted_unchanged() {
    let app = TestApp::embedded().start().await;
    let text = format!(r#"{{"id":"L-1","amount":4,"n":[1e-20000,{}]}}"#, ["1e-16383"; 7000].join(","));
    // An older version accepted this payload, which the api refuses now.
    let old = Command::Create {
        order_id: OrderId::generate(),
        user_id: some_user(),
        payload: Payload::from_store(&text, "L-1"),
    };
    let id = old.order_id().to_string();
    accept(&*app.store, old).await;
    until("the sweep", async || (member(&order(&app.client, &id).await, "status") == "done").then_some(()))
        .await;
    let shown = order(&app.client, &id).await;
    assert_eq!((member(&shown, "amount").as_str(), member(&shown, "payload")), ("4", text.clone()));
    assert_eq!(app.client.request("DELETE", &format!("/orders/{id}"), &[], "").await.status, 200);
    assert_eq!(member(&order(&app.client, &id).await, "status"), Status::Deleted.as_str());
    for event in app.finish().await.events_of(&id) {
        assert_eq!(member(str::from_utf8(&event.value).expect("text"), "payload"), text);
    }
}
