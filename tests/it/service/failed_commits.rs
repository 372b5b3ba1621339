//! A store that fails during a commit, a row that no store can hold, and a handler that panics: the answers say what is
//! known, no other caller is affected, and orders that were written are processed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use orderstream::order::{Command, CommandRequest};
use orderstream::worker::AmountProcessor;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::clients::USER;
use crate::clients::answers::{member, order, problem};
use crate::faults::hooks::{Hook, Pass, Point};
use crate::harness::ledger;
use crate::harness::system::{System, settings};

fn creation(payload: &str) -> String {
    format!(r#"{{"user_id":"{USER}","payload":{payload}}}"#)
}

async fn start(folder: &TempDir, hook: Hook) -> System {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    System::hooked(&settings(folder.path()), Arc::new(AmountProcessor::default()), listener, hook)
}

#[tokio::test]
async fn a_commit_with_a_lost_outcome_is_answered_as_unknown_and_processed() {
    let folder = TempDir::new().unwrap();
    let is_lost = AtomicBool::new(false);
    let once: Hook = Arc::new(move |point| match point {
        Point::Commit(_) if !is_lost.swap(true, Ordering::Relaxed) => Pass::OutcomeLost,
        _ => Pass::On,
    });
    let system = start(&folder, once).await;
    let answer = system.post(creation(r#"{"amount":3}"#)).await;
    let detail = problem(&answer, "outcome_unknown");
    assert!(detail.contains("check whether the order is there"), "{detail}");
    // The answer names the order, so that the caller can look for it; the sweep publishes its event.
    let id = member(answer.text(), "order_id");
    system.journal.until(|traffic| !traffic.acks_of(&id).is_empty()).await;
    let shown = order(&system.client, &id).await;
    assert_eq!((member(&shown, "status").as_str(), member(&shown, "amount").as_str()), ("done", "3"));
    system.stop().await;
    let left = ledger::settled_orders(folder.path()).await;
    assert_eq!(
        left.iter().map(|order| order.id.to_string()).collect::<Vec<_>>(),
        [id],
        "one order is stored"
    );
}

#[tokio::test]
async fn a_bad_row_fails_alone_in_its_batch() {
    let folder = TempDir::new().unwrap();
    let is_bad = |request: &CommandRequest| match &request.command {
        Command::Create { payload, .. } => payload.as_str().contains("spoiled"),
        _ => false,
    };
    let hook: Hook = Arc::new(move |point| match point {
        Point::Commit(batch) if batch.iter().any(is_bad) => Pass::BadBatch,
        _ => Pass::On,
    });
    let system = start(&folder, hook).await;
    let content = |number: usize| if number % 20 == 7 { r#"{"id":"spoiled"}"# } else { r#"{"amount":1}"# };
    let callers: Vec<_> = (0..60).map(|number| (number, system.posting(creation(content(number))))).collect();
    let mut confirmed = Vec::new();
    for (number, caller) in callers {
        let answer = caller.await.unwrap();
        if number % 20 == 7 {
            let detail = problem(&answer, "invalid_request");
            assert!(detail.starts_with("payload: "), "{detail}");
        } else {
            assert_eq!(answer.status, 201, "{number}: {answer:?}");
            confirmed.push(member(answer.text(), "order_id"));
        }
    }
    system.stop().await;
    // Exactly the confirmed orders are stored: a refused row creates no order.
    let left = ledger::settled_orders(folder.path()).await;
    let mut left: Vec<String> = left.iter().map(|order| order.id.to_string()).collect();
    left.sort_unstable();
    confirmed.sort_unstable();
    assert_eq!((confirmed.len(), left), (57, confirmed));
}

#[tokio::test]
async fn a_panic_is_a_500_for_its_caller_alone() {
    let folder = TempDir::new().unwrap();
    let panicked = AtomicBool::new(false);
    let once: Hook = Arc::new(move |point| {
        let now = point == Point::Read && !panicked.swap(true, Ordering::Relaxed);
        assert!(!now, "on purpose, by a test");
        Pass::On
    });
    let system = start(&folder, once).await;
    let answer = system.post(creation(r#"{"amount":3}"#)).await;
    let path = format!("/orders/{}", member(answer.text(), "order_id"));
    let detail = problem(&system.client.get(&path).await, "internal");
    assert!(!detail.contains("on purpose"), "{detail}");
    // The next request on the same connection is served.
    assert_eq!(system.client.get(&path).await.status, 200);
    system.stop().await;
    assert_eq!(ledger::settled_orders(folder.path()).await.len(), 1);
}
