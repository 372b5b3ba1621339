//! The answers of a service whose store hangs, for every kind of request. No order is lost or duplicated by it, and an
//! order whose request was refused is not stored later.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::timeout;
use tonic::Request;

use super::{Embedded, HangableStore, Hanging, Postgres};
use crate::clients::USER;
use crate::clients::answers::{create, member, problem};
use crate::clients::grpc::{creation as message, text, update as update_message};
use crate::clients::http::Answer;

/// How long the callers wait.
const WAIT: &str = "wait=2";

/// The limit for all answers: the callers' wait, and time for a slow machine. The store hangs much longer.
const GUARD: Duration = Duration::from_secs(8);

/// An id that a caller chose.
const CHOSEN: &str = "0b2f6c1e-3d4a-4f5b-8c6d-7e8f90a1b2c3";

fn creation(id: &str) -> String {
    format!(r#"{{"user_id":"{USER}","payload":{{"id":"{id}","amount":1}}}}"#)
}

/// Asserts that an answer says that nothing was stored, or that the outcome is not known. Answers the code.
fn failure_code(answer: &Answer) -> String {
    let code = member(answer.text(), "code");
    assert!(["store_unavailable", "outcome_unknown"].contains(&code.as_str()), "{answer:?}");
    problem(answer, &code);
    code
}

async fn no_answer_is_late<P: HangableStore>() {
    let mut system = Hanging::<P>::start().await;
    let client = &system.client;
    let [a, b, c, d] = [(); 4].map(|()| create(client, r#"{"amount":1}"#));
    let (a, b, c, d) = (a.await, b.await, c.await, d.await);
    let keyed = [("idempotency-key", "once"), ("prefer", WAIT)];
    assert_eq!(client.request("POST", "/orders", &keyed, creation("keyed")).await.status, 201);
    system.store.hang();

    let client = &system.client;
    let paths = [&a, &b, &c, &d].map(|id| format!("/orders/{id}"));
    let chosen = format!("/orders/{CHOSEN}");
    let later = format!("{}?min_version=9", paths[0]);
    let batch = format!(
        r#"{{"orders":[{},{{"order_id":"{a}","payload":[1]}},{{"order_id":"{d}","status":"deleted"}}]}}"#,
        creation("batched")
    );
    let (wait, shown) = ([("prefer", WAIT)], [("prefer", "wait=2, return=representation")]);
    let writes = [
        ("POST", "/orders", &wait[..], creation("created")),
        ("POST", "/orders", &shown[..], creation("shown")),
        ("POST", "/orders", &keyed[..], creation("keyed")),
        ("POST", "/orders", &wait[..], format!(r#"{{"order_id":"{a}","payload":[2]}}"#)),
        ("POST", "/orders", &wait[..], format!(r#"{{"order_id":"{b}","status":"deleted"}}"#)),
        ("PUT", &chosen, &wait[..], creation("put")),
        ("PUT", &paths[2], &wait[..], creation("replaced")),
        ("DELETE", &paths[3], &wait[..], String::new()),
    ];
    let writes = writes.map(|(method, path, headers, body)| client.request(method, path, headers, body));
    let reads = [
        later,
        "/orders".to_owned(),
        format!("{}/history", paths[0]),
        format!("/orders/by-external/keyed?user_id={USER}"),
    ];
    let (batch, reads, by_grpc) = (
        client.request("POST", "/orders:batch", &wait, batch),
        join_all(reads.iter().map(|path| client.request("GET", path, &wait, ""))),
        async {
            let mut created = Request::new(message(r#"{"id":"called","amount":1}"#));
            created.set_timeout(Duration::from_secs(3));
            let mut updated = Request::new(update_message(&c, "[3]"));
            updated.set_timeout(Duration::from_secs(3));
            let (mut orders, mut others) = (system.orders(), system.orders());
            tokio::join!(orders.upsert_order(created), others.upsert_order(updated))
        },
    );
    let all = Box::pin(async { tokio::join!(join_all(writes), batch, reads, by_grpc) });
    let (writes, batch, reads, by_grpc) = timeout(GUARD, all).await.expect("answers in time");
    for answer in &writes {
        failure_code(answer);
    }
    assert_eq!(batch.status, 207);
    for item in batch.json()["results"].as_array().unwrap() {
        let code = item["body"]["code"].as_str();
        assert!(matches!(code, Some("store_unavailable" | "outcome_unknown")), "{item}");
    }
    for read in &reads {
        match P::READS_HANG {
            true => drop(problem(read, "store_unavailable")),
            false => {
                assert_eq!((read.status, read.header("preference-applied")), (200, Some(WAIT)), "{read:?}")
            }
        }
    }
    for answer in <[_; 2]>::from(by_grpc) {
        let status = answer.expect_err("a store that hangs");
        let code = text(&status, "problem-code");
        assert!(matches!(code.as_deref(), Some("store_unavailable" | "outcome_unknown")), "{status:?}");
    }

    system.recover().await;
    // A caller with an unknown outcome can look for the order, and no other order is lost.
    let client = &system.client;
    assert_eq!(client.get(&paths[0]).await.status, 200);
    let again = client.request("POST", "/orders", &keyed, creation("keyed")).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")), "{again:?}");
    create(client, r#"{"amount":1}"#).await;
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_answered_in_time_while_the_embedded_store_hangs() {
    Box::pin(no_answer_is_late::<Embedded>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_answered_in_time_while_postgres_hangs() {
    Box::pin(no_answer_is_late::<Postgres>()).await;
}

async fn answers_are_true<P: HangableStore>() {
    let mut system = Hanging::<P>::start().await;
    create(&system.client, r#"{"amount":1}"#).await;
    system.store.hang();
    // One after the other, so that each is a batch of its own: the store has the first batches, and gets no later one.
    let (client, mut unknown, mut refused) = (&system.client, Vec::new(), Vec::new());
    while refused.len() < 2 {
        let name = format!("waits-{}", unknown.len() + refused.len());
        let answer = client.request("POST", "/orders", &[("prefer", "wait=0")], creation(&name));
        let answer = timeout(GUARD, answer).await.expect("an answer in time");
        match failure_code(&answer).as_str() {
            "outcome_unknown" => unknown.push(member(answer.text(), "order_id")),
            _ => refused.push(name),
        }
        assert!(unknown.len() < 20, "the store takes no more than a few batches while it hangs");
    }
    system.recover().await;
    let client = &system.client;
    for name in refused {
        let found = client.get(&format!("/orders/by-external/{name}?user_id={USER}")).await;
        problem(&found, "order_not_found");
        // The request can be sent again.
        assert_eq!(client.post("/orders", creation(&name)).await.status, 201);
    }
    for id in unknown {
        let found = client.get(&format!("/orders/{id}")).await;
        if found.status != 200 {
            problem(&found, "order_not_found");
        }
    }
    system.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_refused_while_the_embedded_store_hangs_is_not_stored() {
    answers_are_true::<Embedded>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_refused_while_postgres_hangs_is_not_stored() {
    answers_are_true::<Postgres>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_a_hanging_postgres_end_with_an_error() {
    let mut system = Hanging::<Postgres>::start().await;
    let id = create(&system.client, r#"{"id":"A-1","amount":1}"#).await;
    system.store.hang();
    let client = &system.client;
    let paths = [
        format!("/orders/{id}"),
        format!("/orders/by-external/A-1?user_id={USER}"),
        "/orders".to_owned(),
        format!("/orders/{id}/history"),
        format!("/orders/{id}/events"),
        format!("/events?user_id={USER}"),
    ];
    let limit = Duration::from_secs(20);
    let answers = timeout(limit, join_all(paths.iter().map(|path| client.get(path)))).await;
    for answer in answers.expect("answers within the limit") {
        problem(&answer, "store_unavailable");
    }
    system.recover().await;
    crate::harness::wait::until("the order to be read again", async || {
        let shown: Value = system.client.get(&paths[0]).await.json();
        (shown["order"]["status"] == "done").then_some(())
    })
    .await;
    system.finish().await;
}
