//! The process is stopped: under load, with a request that never ends, with a worker that is stuck. No confirmed order
//! is lost, no client gets a partial answer, and the stop ends within its limit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use orderstream::config::Settings;
use orderstream::order::Status;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::clients::USER;
use crate::clients::answers::member;
use crate::clients::load::{Ending, Load};
use crate::clients::wire::{Broken, Wire};
use crate::harness::child::{Child, command};
use crate::harness::ledger;
use crate::harness::processors::{FlakyProcessor, Gate};
use crate::harness::system::{System, outcome, settings};
use crate::harness::wait::{until, within};

/// The exit code after a second signal.
const AT_ONCE: i32 = 130;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_answers_each_executed_command_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let mut load = Load::of(32);
    for _ in 0..5 {
        let mut child = Child::up(folder.path()).await;
        let mut running = load.start(child.address());
        running.confirmed(300).await;
        child.terminate().await;
        load = running.ended().await;
        assert_eq!(child.exit().await.code(), Some(0));
        load.expect_unanswered_commands_undone();
        // No order is left for the next start.
        load.check(&ledger::verified_orders(folder.path(), load.confirmed()).await);
    }
    for ending in load.endings() {
        match ending {
            Ending::Refused | Ending::Rejected(_) | Ending::Broken(Broken::Silent) => {}
            Ending::Broken(Broken::Torn(_)) | Ending::Exhausted | Ending::Stopped => panic!("{ending:?}"),
        }
    }
}

#[tokio::test]
async fn orders_in_flight_when_a_stop_begins_are_processed_before_it_ends() {
    for ack_wait in [true, false] {
        let folder = TempDir::new().unwrap();
        let gate = Gate::shut();
        let chosen = Settings { ack_wait, ..settings(folder.path()) };
        let system = System::with(&chosen, Arc::<Gate>::clone(&gate)).await;
        // The worker holds one event, and the other waits for it.
        let first = system.posting(creation());
        system.journal.until(|traffic| traffic.events.len() == 1).await;
        let second = system.posting(creation());
        system.journal.until(|traffic| traffic.events.len() == 2).await;

        let address = system.address;
        let stopping = tokio::spawn(system.stop());
        until("the listener to be closed", async || TcpStream::connect(address).await.err()).await;
        gate.open();
        for answer in [first, second] {
            assert_eq!(outcome(&answer.await.unwrap()), (201, "created".to_owned()));
        }
        stopping.await.unwrap();
        let orders = ledger::settled_orders(folder.path()).await;
        assert_eq!(orders.len(), 2, "{orders:?}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once_while_a_request_is_stuck() {
    let folder = TempDir::new().unwrap();
    let mut child = Child::up(folder.path()).await;
    let mut stuck = child.connect().await;
    stuck_in_its_body(&mut stuck).await;

    child.terminate().await;
    let address = child.address();
    until("the listener to be closed", async || TcpStream::connect(address).await.err()).await;
    child.terminate().await;
    assert_eq!(child.exit().await.code(), Some(AT_ONCE));
    assert_eq!(stuck.answer().await, Err(Broken::Silent));
    assert_eq!(ledger::settled_orders(folder.path()).await, []);
}

#[tokio::test]
async fn a_stuck_request_delays_the_stop_no_longer_than_its_limit() {
    let folder = TempDir::new().unwrap();
    let mut process = command(env!("CARGO_BIN_EXE_orderstream"), folder.path());
    process.arg("up").env("SHUTDOWN_TIMEOUT", "50ms");
    let mut child = Child::start(process).await;
    let mut stuck = child.connect().await;
    stuck_in_its_body(&mut stuck).await;
    child.terminate().await;
    assert_eq!(child.exit().await.code(), Some(0));
    assert_eq!(ledger::settled_orders(folder.path()).await, []);
}

#[tokio::test]
async fn a_stuck_processor_delays_the_stop_no_longer_than_its_limit() {
    let folder = TempDir::new().unwrap();
    let system = System::with(&short_limits(folder.path()), Gate::shut()).await;
    assert_eq!(outcome(&system.post(creation()).await), (202, "accepted".to_owned()));
    system.stop().await;
    let orders = ledger::orders(folder.path()).await;
    assert_eq!((orders.len(), orders[0].status), (1, Status::New));
}

#[tokio::test]
async fn an_order_that_is_retried_does_not_delay_the_stop() {
    let folder = TempDir::new().unwrap();
    let chosen = Settings { shutdown_timeout: Duration::from_secs(3600), ..short_limits(folder.path()) };
    let system = System::with(&chosen, FlakyProcessor::failing(usize::MAX)).await;
    let order = format!(r#"{{"user_id":"{USER}","payload":{{"passing":true}}}}"#);
    assert_eq!(outcome(&system.post(order).await), (202, "accepted".to_owned()));
    within("the stop", system.stop()).await;
    let orders = ledger::orders(folder.path()).await;
    assert_eq!((orders.len(), orders[0].status), (1, Status::New));
}

#[tokio::test]
async fn an_unprocessed_order_is_accepted_at_the_limit_and_done_after_the_restart() {
    let folder = TempDir::new().unwrap();
    let system = System::with(&short_limits(folder.path()), Gate::shut()).await;
    let answer = system.post(creation()).await;
    let id = member(answer.text(), "order_id");
    assert_eq!(outcome(&answer), (202, "accepted".to_owned()));
    assert_eq!(answer.header("location"), Some(format!("/orders/{id}").as_str()));
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    let waiting = system.get(&id).await;
    assert_eq!((waiting.status, waiting.processed_version), (Status::New, 0));
    system.stop().await;

    let system = System::start(folder.path()).await;
    assert_eq!(system.processed(&id).await.status, Status::Done);
    system.stop().await;
    let orders = ledger::settled_orders(folder.path()).await;
    assert_eq!((orders.len(), ledger::order(&orders, &id).version), (1, 1));
}

/// Settings with short limits.
fn short_limits(folder: &Path) -> Settings {
    let limit = Duration::from_millis(50);
    Settings { ack_wait_timeout: limit, shutdown_timeout: limit, ..settings(folder) }
}

fn creation() -> String {
    format!(r#"{{"user_id":"{USER}","payload":{{"amount":"7.00"}}}}"#)
}

/// Sends a request whose body never ends. The server's request for the body shows that the request is in flight.
async fn stuck_in_its_body(wire: &mut Wire) {
    wire.send(
        b"POST /orders HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n",
    )
    .await;
    let interim = within("the request to be taken up", wire.answer()).await.expect("an interim answer");
    assert_eq!(interim.status, 100);
    wire.send(b"{\"user_id\":").await;
}
