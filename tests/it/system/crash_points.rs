//! A process that is killed at an exact point of an order's life. The test runs itself again as a second process, whose
//! store or bus kills it there by SIGKILL; then the real binary opens the folder, and the order is processed as without
//! the crash.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;

use orderstream::order::{Order, Status};
use orderstream::worker::AmountProcessor;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::clients::USER;
use crate::clients::wire::Broken;
use crate::faults::hooks::{Hook, Pass, Point};
use crate::harness::child::{Child, command};
use crate::harness::ledger;
use crate::harness::system::{System, settings};
use crate::harness::wait::{until, within};

/// Names the point to the process that is killed there; no other process has it set.
const DIES_AT: &str = "ORDERSTREAM_TEST_DIES_AT";

/// The signal that cannot be caught.
const SIGKILL: i32 = 9;

#[tokio::test]
async fn a_committed_unpublished_change_is_processed_after_the_restart() {
    for (change, status, amount) in
        [("create", "done", "3.0"), ("update", "done", "4.5"), ("delete", "deleted", "3.0")]
    {
        let folder = TempDir::new().unwrap();
        let id = match change {
            "create" => None,
            _ => Some(create(folder.path()).await),
        };
        let body = match (change, &id) {
            ("update", Some(id)) => format!(r#"{{"order_id":"{id}","payload":{{"amount":4.5}}}}"#),
            ("delete", Some(id)) => format!(r#"{{"order_id":"{id}","status":"deleted"}}"#),
            _ => creation(),
        };
        dies_at("publish", folder.path(), &body).await;

        let orders = ledger::orders(folder.path()).await;
        assert_eq!(orders.len(), 1, "{change}: {orders:?}");
        assert!(orders[0].is_pending(), "{change}: {orders:?}");

        let order = restarted(folder.path(), &orders[0]).await;
        assert_eq!((order.status.as_str(), order.amount.to_string().as_str()), (status, amount), "{change}");
    }
}

#[tokio::test]
async fn an_uncommitted_order_is_not_stored_and_its_retry_creates_one_order() {
    let folder = TempDir::new().unwrap();
    dies_at("commit", folder.path(), &creation()).await;
    assert_eq!(ledger::orders(folder.path()).await, []);

    let id = create(folder.path()).await;
    let orders = ledger::settled_orders(folder.path()).await;
    assert_eq!(orders.len(), 1, "{orders:?}");
    assert_eq!(ledger::order(&orders, &id).status, Status::Done);
}

#[tokio::test]
async fn an_outcome_that_was_not_recorded_is_computed_again() {
    let folder = TempDir::new().unwrap();
    dies_at("record", folder.path(), &creation()).await;
    let orders = ledger::orders(folder.path()).await;
    assert_eq!((orders.len(), orders[0].status), (1, Status::New));

    let order = restarted(folder.path(), &orders[0]).await;
    assert_eq!((order.status, order.amount.to_string().as_str()), (Status::Done, "3.0"));
}

#[tokio::test]
async fn an_outcome_that_was_recorded_without_an_ack_is_not_applied_again() {
    let folder = TempDir::new().unwrap();
    dies_at("recorded", folder.path(), &creation()).await;
    let orders = ledger::settled_orders(folder.path()).await;
    assert_eq!((orders.len(), orders[0].status), (1, Status::Done));

    // Equal to the microsecond: the row has not been written since.
    let order = restarted(folder.path(), &orders[0]).await;
    assert_eq!(order, orders[0]);
}

/// Not a test of its own: the process that is killed. Without the variable it does nothing.
#[tokio::test]
#[ignore = "the tests above start it"]
async fn a_process_that_dies() {
    let (Ok(point), Ok(folder)) = (std::env::var(DIES_AT), std::env::var("DATA_DIR")) else { return };
    let hook: Hook = Arc::new(move |reached| {
        let name = match reached {
            Point::Read | Point::Follow => return Pass::On,
            Point::Commit(_) => "commit",
            Point::Publish(_) => "publish",
            Point::Record => "record",
            Point::Recorded => "recorded",
        };
        if name == point {
            die();
        }
        Pass::On
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _system =
        System::hooked(&settings(Path::new(&folder)), Arc::new(AmountProcessor::default()), listener, hook);
    println!("OrderStream listens on http://{address} and is about to die");
    within("death", std::future::pending::<()>()).await;
}

/// Ends this process by SIGKILL. The thread does not return, so nothing after the point is executed.
fn die() -> ! {
    let id = std::process::id().to_string();
    loop {
        let _ = std::process::Command::new("kill").args(["-KILL", &id]).status();
    }
}

/// Sends a request to a process that is killed at that point. The caller gets no answer.
async fn dies_at(point: &str, folder: &Path, body: &str) {
    let mut process = command(std::env::current_exe().expect("this binary"), folder);
    process.env(DIES_AT, point).args([
        "--exact",
        "system::crash_points::a_process_that_dies",
        "--ignored",
        "--nocapture",
    ]);
    let mut child = Child::start(process).await;
    let answer = within("the death", child.connect().await.post(body)).await;
    assert_eq!(answer, Err(Broken::Silent), "{point}");
    assert_eq!(child.exit().await.signal(), Some(SIGKILL), "{point}");
}

fn creation() -> String {
    format!(r#"{{"user_id":"{USER}","payload":{{"id":"A-1","items":[{{"price":1.5,"qty":2}}]}}}}"#)
}

/// Creates an order in a process that then stops in order.
async fn create(folder: &Path) -> String {
    let child = Child::up(folder).await;
    let answer = child.post(&creation()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    child.stop().await;
    answer.text("order_id")
}

/// Starts the binary on the folder, waits until it has processed the order, and answers the order.
async fn restarted(folder: &Path, before: &Order) -> Order {
    let child = Child::up(folder).await;
    let path = format!("/orders/{}", before.id);
    let mut wire = child.connect().await;
    until("the order to be done", async || {
        let answer = wire.get(&path).await.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        let body: Value = serde_json::from_str(&answer.body).expect("the body is JSON");
        assert_eq!(body["order"]["version"], before.version);
        matches!(body["order"]["status"].as_str(), Some("done" | "deleted")).then_some(())
    })
    .await;
    child.stop().await;
    let orders = ledger::settled_orders(folder).await;
    assert_eq!(orders.len(), 1, "{orders:?}");
    orders[0].clone()
}
