//! Interoperation with another service on the same tables and topics, which uses no versions, keys or headers: its
//! events are processed, its worker's ACKs answer our callers, and its writes to rows change their tags.

use orderstream::order::{OrderId, Status};
use uuid::Uuid;

use super::{creation, events, posting, text};
use crate::clients::USER;
use crate::clients::answers::{create, member, order, order_id};
use crate::harness::cluster::Cluster;
use crate::harness::system::outcome;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_another_service_without_key_and_headers_are_processed() {
    let cluster = Cluster::setup().await.start(1, 2).await;
    let sql = cluster.sql().await;
    let mut confirmed = Vec::new();
    for number in 0..8 {
        let id = Uuid::now_v7();
        let payload = format!(r#"{{"id": "B-{number}", "items": [{{"price": "0.10", "qty": {number}}}]}}"#);
        let insert = format!(
            "INSERT INTO orders (order_id, user_id, status, payload, bucket)
             VALUES ('{id}', '{USER}', 'new', '{payload}', 0)"
        );
        sql.batch_execute(&insert).await.unwrap();
        legacy_event(&cluster, id, &payload, "new", 0);
        if number % 2 == 1 {
            let payload = format!(r#"{{"amount": {number}}}"#);
            let change = format!(
                "UPDATE orders SET status = 'processing', payload = '{payload}', updated_at = now()
                  WHERE order_id = '{id}'"
            );
            sql.batch_execute(&change).await.unwrap();
            legacy_event(&cluster, id, &payload, "processing", 1);
        }
        if number % 4 == 3 {
            let change =
                format!("UPDATE orders SET status = 'deleted', updated_at = now() WHERE order_id = '{id}'");
            sql.batch_execute(&change).await.unwrap();
            legacy_event(&cluster, id, &payload, "deleted", 2);
        }
        confirmed.push((OrderId::parse(&id.to_string()).unwrap(), number));
    }
    cluster.workers_caught_up().await;
    let client = cluster.clients().remove(0);
    for (id, number) in &confirmed {
        let shown = order(&client, &id.to_string()).await;
        let (status, amount) = (member(&shown, "status"), member(&shown, "amount"));
        match number % 4 {
            0 | 2 if *number == 0 => assert_eq!((status.as_str(), amount.as_str()), ("done", "0.10")),
            0 | 2 => assert_eq!((status, amount), ("done".to_owned(), format!("0.{number}0"))),
            1 => assert_eq!((status, amount), ("done".to_owned(), number.to_string())),
            _ => assert_eq!(status, "deleted"),
        }
    }
    let answered: Vec<_> = confirmed.iter().map(|(id, _)| (*id, "created")).collect();
    let orders = cluster.finish(&answered, 0).await;
    assert_eq!(orders.len(), 8);
    assert_eq!(orders.iter().filter(|order| order.status == Status::Deleted).count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_without_key_and_headers_answers_the_caller_of_its_order() {
    let mut cluster = Cluster::setup().await.set("ACK_READ", "all").start(2, 0).await;
    let clients = cluster.clients();
    let sql = cluster.sql().await;
    let mut confirmed = Vec::new();
    for number in 0..4 {
        let waiting = posting(&clients[number % 2], creation(number));
        let events = events(&cluster, number + 1).await;
        let known = |id: &str| confirmed.iter().any(|(other, _): &(OrderId, _)| other.to_string() == id);
        let ids = events.iter().map(|event| member(text(event), "order_id"));
        let id = ids.into_iter().find(|id| !known(id)).unwrap();
        // Where the row is unchanged, only the ACK can have answered the caller.
        if number < 2 {
            let change =
                format!("UPDATE orders SET status = 'done', amount = {number} WHERE order_id = '{id}'");
            sql.batch_execute(&change).await.unwrap();
        }
        let ack = format!(
            r#"{{"order_id":"{id}","status":"processed","processed_at":"{}"}}"#,
            jiff::Timestamp::now()
        );
        let topic = &cluster.kafka.options.ack_topic;
        cluster.kafka.write(topic, Some(number as i32 * 3), None, &[], Some(ack.as_bytes()));
        let answer = waiting.await.unwrap();
        assert_eq!(outcome(&answer), (201, "created".to_owned()));
        assert_eq!(order_id(&answer).to_string(), id);
        confirmed.push((order_id(&answer), "created"));
    }
    // Our own worker processes the same events later, with the same result.
    cluster.start_worker().await;
    let orders = cluster.finish(&confirmed, 0).await;
    assert!(orders.iter().all(|order| order.status == Status::Done && order.version == 1));
}

/// An event as the other service sends it; `age` orders the events of an order in time.
fn legacy_event(cluster: &Cluster, id: Uuid, payload: &str, status: &str, age: i64) {
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_millis(age);
    let event = format!(
        r#"{{"order_id":"{id}","external_id":"","user_id":"{USER}","payload":{payload},"status":"{status}","timestamp":"{now}"}}"#
    );
    let topic = &cluster.kafka.options.events_topic;
    // That service sends without a key, so the events of an order may be in any partition; here they keep their order.
    let partition = i32::from(id.as_bytes()[15]) % 4;
    cluster.kafka.write(topic, Some(partition), None, &[], Some(event.as_bytes()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_changes_whenever_another_service_changes_the_row() {
    let cluster = Cluster::setup().await.start(1, 1).await;
    let sql = cluster.sql().await;
    let client = cluster.clients().remove(0);
    let id = create(&client, r#"{"amount":1}"#).await;
    let path = format!("/orders/{id}");
    let mut seen = vec!["\"v1\"".to_owned()];
    assert_eq!(client.get(&path).await.header("etag"), Some("\"v1\""));
    for (status, amount) in [("done", 5), ("done", 6), ("cancelled", 6)] {
        let change = format!(
            "UPDATE orders SET amount = {amount}, status = '{status}', updated_at = now() WHERE order_id = '{id}'"
        );
        sql.batch_execute(&change).await.unwrap();
        let known = seen.join(", ");
        let shown = client.request("GET", &path, &[("if-none-match", &known)], "").await;
        assert_eq!(shown.status, 200, "the representation has changed: {shown:?}");
        let tag = shown.header("etag").expect("a tag").to_owned();
        assert!(tag.starts_with(&format!("\"v1-{status}.")), "{tag}");
        seen.push(tag);
    }
    // A row of the other service that no worker has processed.
    let other = Uuid::now_v7();
    let insert = format!(
        "INSERT INTO orders (order_id, user_id, status, payload, bucket) VALUES ('{other}', '{USER}', 'new', '{{}}', 0)"
    );
    sql.batch_execute(&insert).await.unwrap();
    let of_other =
        async || client.get(&format!("/orders/{other}")).await.header("etag").expect("a tag").to_owned();
    let new = of_other().await;
    sql.batch_execute(&format!(
        "UPDATE orders SET amount = 9, updated_at = now() WHERE order_id = '{other}'"
    ))
    .await
    .unwrap();
    assert_ne!(of_other().await, new);

    for (id, tag) in [(id.clone(), seen[3].clone()), (other.to_string(), of_other().await)] {
        let body = format!(r#"{{"order_id":"{id}","payload":{{"amount":2}}}}"#);
        let updated = client.request("POST", "/orders", &[("if-match", &tag)], body).await;
        assert_eq!((updated.status, updated.header("etag")), (200, Some("\"v2\"")), "{updated:?}");
        assert_eq!(client.get(&format!("/orders/{id}")).await.header("etag"), Some("\"v2\""));
    }
    let answered = [id, other.to_string()].map(|id| (OrderId::parse(&id).unwrap(), "updated"));
    cluster.finish(&answered, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_with_an_unacceptable_payload_can_be_deleted() {
    let cluster = Cluster::setup().await.start(1, 1).await;
    let client = cluster.clients().remove(0);
    // An order that the api accepts, and that the store returns with all of its 309 digits.
    let mut ids = vec![create(&client, r#"{"items":[1.7976931348623157e308,{"price":3}]}"#).await];
    let sql = cluster.sql().await;
    let deep = format!(r#"{{"n":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for payload in [r#"{"amount":1,"items":[1e400]}"#, &deep] {
        let id = Uuid::now_v7();
        let insert = format!(
            "INSERT INTO orders (order_id, user_id, status, payload, bucket)
             VALUES ('{id}', '{USER}', 'done', '{payload}', 0)"
        );
        sql.batch_execute(&insert).await.unwrap();
        ids.push(id.to_string());
    }
    for id in &ids {
        let deleted = client.request("DELETE", &format!("/orders/{id}"), &[], "").await;
        assert_eq!(deleted.status, 200, "{}", deleted.text());
    }
    // The checker reports the other two payloads.
    sql.batch_execute(&format!("DELETE FROM orders WHERE order_id <> '{}'", ids[0])).await.unwrap();
    cluster.finish(&[(OrderId::parse(&ids[0]).unwrap(), "deleted")], 0).await;
}
